"""What a process reports to those it polls with, and when it reads for them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio
import attrs
import pytest

from finetuning_async import BadRequestError, Generation, SoundEffect
from finetuning_async._coordination import (
    ObservedState,
    PollReport,
    PollUpdate,
    WatchedTrack,
)
from finetuning_async._polling._failure_tracker import FailureTracker
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._shared_polling import (
    MAX_SYNC_INTERVAL,
    MIN_SYNC_INTERVAL,
    STANDALONE_FOR,
    SYNC_INTERVAL,
    YIELD_LEAD_AFTER,
    YIELD_LEAD_FOR,
    SharedPolling,
)
from tests._dispatch_harness import DispatchHarness, not_found, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._polling._watch_list import Watched

FOLLOWS = PollUpdate(leads_for=0)
LEADS = PollUpdate(leads_for=2.0)
LEADS_ANEW = PollUpdate(leads_for=2.0, is_new_lead=True)


class Store:
    """Where processes exchange reports; a test says what this one receives."""

    def __init__(self) -> None:
        self.reports: list[PollReport] = []
        self.update = FOLLOWS
        self.is_down = False
        self.meanwhile: Callable[[], None] = lambda: None

    async def sync(self, report: PollReport) -> PollUpdate:
        self.reports.append(report)
        self.meanwhile()
        if self.is_down:
            raise ConnectionError("connection refused")
        return self.update


class Process(DispatchHarness):
    """The shared polling of a process without its poll loop."""

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.store = Store()
        self.failures = FailureTracker(scale=scale)
        self.shared = SharedPolling(
            self.store, self.watch_list, self.dispatcher, self.failures, scale=scale
        )

    async def sync(self, update: PollUpdate | None) -> PollReport:
        """Sync; return what was reported. `None` while the store is down."""
        self.store.is_down = update is None
        self.store.update = update or FOLLOWS
        await self.shared.sync()
        return self.store.reports[-1]

    async def lead_for(self, *others: WatchedTrack) -> None:
        """Become the leader while other processes wait for tracks."""
        self.accept("own")
        self.watch("own")
        await self.sync(attrs.evolve(LEADS_ANEW, others=others))
        self.store.update = LEADS
        await anyio.sleep(1)

    async def lead_on(self, *others: WatchedTrack) -> PollReport:
        """Lead on while others wait for these; return what is reported next."""
        await self.sync(attrs.evolve(LEADS, others=others))
        return await self.sync(LEADS)

    def foreign(self, track_id: str) -> Watched:
        track = self.watch_list.get(track_id)
        assert track is not None
        return track

    def may_read(self, track: Watched | None = None) -> bool:
        return self.shared.may_read(anyio.current_time(), track)

    @property
    def seconds_to_sync(self) -> float:
        return self.shared.next_sync - anyio.current_time()


def wanted(track_id: str, *, is_fresh: bool = False) -> WatchedTrack:
    return WatchedTrack(id=track_id, kind="music", age=1.0, is_fresh=is_fresh)


def statuses(report: PollReport) -> list[tuple[str, str]]:
    return [(seen.row["id"], seen.row["status"]) for seen in report.seen]


@pytest.mark.parametrize(
    ("scale", "pause"),
    [(1.0, SYNC_INTERVAL), (0.01, MIN_SYNC_INTERVAL), (60.0, MAX_SYNC_INTERVAL)],
)
async def test_syncs_are_as_far_apart_as_reads_within_bounds(
    scale: float, pause: float
) -> None:
    process = Process(scale=scale)
    await process.sync(FOLLOWS)
    assert process.seconds_to_sync == pytest.approx(pause, abs=0.01)


async def test_what_is_reported_of_a_track_is_how_long_ago_it_was_accepted() -> None:
    process = Process()
    await anyio.sleep(10)
    process.accept("a")
    process.watch("a")
    await anyio.sleep(30)
    (track,) = (await process.sync(FOLLOWS)).added
    assert track.age == pytest.approx(30, abs=0.01)


async def test_beside_a_leader_only_what_that_cannot_read_is_read() -> None:
    process = Process()
    (a, _), (b, _) = process.watch("a"), process.watch("b")
    await process.sync(FOLLOWS)
    assert not process.may_read()
    await process.sync(attrs.evolve(FOLLOWS, refused=["a"]))
    assert process.may_read()
    assert process.may_read(a)
    assert not process.may_read(b)


async def test_a_state_that_another_process_read_is_of_its_kind() -> None:
    process = Process()
    process.accept("effect", "sound_effect")
    process.accept("song")
    (_, waits), (_, others) = process.watch("effect"), process.watch("song")
    effect = ObservedState(kind="sound_effect", row=row("effect", "completed"))
    song = ObservedState(kind="music", row=row("song", "completed"))
    await process.sync(attrs.evolve(FOLLOWS, seen=[effect, song]))
    assert isinstance(waits.latest, SoundEffect)
    assert isinstance(others.latest, Generation)


async def test_the_newest_of_several_states_that_arrive_together_stays() -> None:
    process = Process()
    _, waits = process.watch("a")
    seen = [
        ObservedState(kind="music", row=row("a", status))
        for status in ("queued", "processing")
    ]
    await process.sync(attrs.evolve(FOLLOWS, seen=seen))
    assert waits.latest is not None
    assert waits.latest.status == "processing"


async def test_an_end_that_another_process_read_frees_the_queue_here_too() -> None:
    process = Process()
    for track_id in ("watched", "unwatched", "running"):
        process.accept(track_id)
    process.watch("watched")
    process.watch("running")
    rows = [
        row("watched", "completed"),
        row("unwatched", "completed"),
        row("running"),
        row("unknown", "completed"),
    ]
    seen = [ObservedState(kind="music", row=each) for each in rows]
    await process.sync(attrs.evolve(FOLLOWS, seen=seen))
    assert set(process.inflight.tracks) == {"running"}
    assert set(process.inflight._ends) == {"watched", "unwatched"}


# What is reported, and when.


async def test_a_leader_reports_each_status_once_and_soon() -> None:
    process = Process()
    await process.lead_for(wanted("a"))
    a = process.foreign("a")
    process.get(a, row("a"))
    assert process.shared.next_sync == -inf
    assert statuses(await process.sync(LEADS)) == [("a", "processing")]
    process.get(a, row("a"))
    assert process.seconds_to_sync > 0, "it is known to all"
    await process.lead_on(wanted("a"), wanted("b"))
    process.get(a, row("a"))
    assert not (await process.sync(LEADS)).seen, "nor for another track's sake"
    process.get(a, row("a", "completed"))
    assert statuses(await process.sync(LEADS)) == [("a", "completed")]


async def test_what_was_read_before_the_lead_began_is_not_reported() -> None:
    process = Process()
    a, _ = process.watch("a")
    process.get(a, row("a", "queued"))
    await process.sync(LEADS_ANEW)
    process.get(a, row("a"))  # sent a tenth of a second ago
    assert not (await process.sync(LEADS)).seen


async def test_what_another_process_read_is_not_reported_again() -> None:
    process = Process()
    await process.lead_for(wanted("a"))
    seen = [ObservedState(kind="music", row=row("a"))]
    await anyio.sleep(1)
    await process.sync(attrs.evolve(LEADS, seen=seen))
    assert not (await process.sync(LEADS)).seen


async def test_a_process_that_begins_to_wait_receives_what_the_leader_knows() -> None:
    process = Process()
    await process.lead_for(wanted("a"), wanted("b"))
    process.get(process.foreign("a"), row("a"))
    await process.sync(LEADS)
    await anyio.sleep(30)
    b = process.foreign("b")
    process.page([b], is_filtered=True)  # of that only is known that it runs
    assert b.seen_running_at > 0
    report = await process.lead_on(
        wanted("a", is_fresh=True), wanted("b", is_fresh=True)
    )
    assert statuses(report) == [("a", "processing")]


async def test_what_is_not_shown_to_the_leader_is_refused_to_each_that_waits() -> None:
    process = Process()
    await process.lead_for(wanted("a"), wanted("b"))
    process.refused(Read("generations", [process.foreign("a")]), not_found())
    assert process.shared.next_sync == -inf
    assert (await process.sync(LEADS)).refused == ["a"]
    assert not (await process.lead_on(wanted("a"), wanted("b"))).refused
    assert process.watch_list.get("a") is None, "it is not read again"
    assert process.watch_list.get("b") is not None
    again = await process.lead_on(wanted("a", is_fresh=True), wanted("b"))
    assert again.refused == ["a"]


async def test_a_leaders_own_waits_end_with_their_own_error() -> None:
    process = Process()
    await process.lead_for(wanted("own"))
    own, error = process.foreign("own"), BadRequestError("no", status_code=400)
    (waits,) = own.watchers
    process.refused(Read("generations", [own]), not_found())
    assert own.absence is not None, "it is looked for first, as without the others"
    await process.lead_on()
    process.refused(Read("generations", [own]), error)
    assert waits.error is error
    assert not (await process.sync(LEADS)).refused


async def test_changes_are_published_if_there_are_any() -> None:
    process = Process()
    await process.lead_for(wanted("a"))
    before = len(process.store.reports)
    await process.shared.publish()
    assert len(process.store.reports) == before
    process.shared.hint("x")
    await process.shared.publish()
    assert process.store.reports[-1].hints == ["x"]
    process.get(process.foreign("a"), row("a"))
    await process.shared.publish()
    assert statuses(process.store.reports[-1]) == [("a", "processing")]


# Who leads.


async def test_a_process_that_waits_for_nothing_does_not_ask_for_the_lead() -> None:
    process = Process()
    assert not (await process.sync(FOLLOWS)).may_lead
    process.watch("a")
    assert (await process.sync(FOLLOWS)).may_lead


async def test_who_has_lost_the_lead_reads_and_reports_nothing_for_others() -> None:
    process = Process()
    await process.lead_for(wanted("a"))
    a = process.foreign("a")
    assert process.may_read(a)
    await process.sync(attrs.evolve(LEADS, leads_for=0.5))
    assert process.watch_list.foreign_ids, "half a second is a lead, too"
    await process.sync(FOLLOWS)
    assert not process.may_read(a)
    assert not process.watch_list.foreign_ids
    own = process.foreign("own")
    process.get(own, row("own"))
    assert not (await process.sync(FOLLOWS)).seen


async def test_a_leader_whose_last_wait_has_ended_gives_up_the_lead() -> None:
    process = Process()
    await process.shared.leave()
    assert not process.store.reports, "it does not lead"
    _, waits = process.watch("a")
    await process.sync(LEADS_ANEW)
    assert "leads=True" in repr(process.shared)
    await process.shared.leave()
    assert len(process.store.reports) == 1, "a wait is left"
    process.watch_list.discard(waits)
    await process.shared.leave()
    assert not process.store.reports[-1].may_lead
    await process.sync(FOLLOWS)
    assert "leads=False" in repr(process.shared)


async def test_who_gives_up_the_lead_does_not_read_while_another_may_get_it() -> None:
    process = Process()
    read: list[bool] = []
    process.store.meanwhile = lambda: read.append(process.may_read())
    _, waits = process.watch("a")
    await process.sync(LEADS_ANEW)
    await process.sync(LEADS)
    process.watch_list.discard(waits)
    await process.sync(FOLLOWS)
    assert read == [False, True, False]


async def test_a_leader_whose_reads_fail_lets_another_lead_for_a_while() -> None:
    process = Process()
    await process.lead_for()

    def fail() -> None:
        process.failures.on_failure(anyio.current_time(), not_found())

    async def may_lead(update: PollUpdate) -> bool:
        return (await process.sync(update)).may_lead

    for _ in range(YIELD_LEAD_AFTER - 1):
        fail()
        assert await may_lead(LEADS)
    fail()
    assert not await may_lead(FOLLOWS)
    await anyio.sleep(YIELD_LEAD_FOR - 0.5)
    fail()  # it does not lead, so this failure does not count
    assert not await may_lead(FOLLOWS)
    await anyio.sleep(0.6)
    assert await may_lead(LEADS_ANEW)
    assert await may_lead(LEADS), "there is no other, or no other can"
    fail()
    assert not await may_lead(FOLLOWS), "after each further one"


async def test_failures_count_only_while_a_process_leads() -> None:
    process = Process()
    process.watch("a")
    await process.sync(FOLLOWS)
    for _ in range(2 * YIELD_LEAD_AFTER):
        process.failures.on_failure(anyio.current_time(), not_found())
    assert (await process.sync(FOLLOWS)).may_lead


# Without the store.


async def test_without_the_store_a_process_reads_alone_until_it_has_tried_again() -> (
    None
):
    process = Process()
    await process.lead_for(wanted("a"))
    await process.sync(None)
    assert process.seconds_to_sync == pytest.approx(STANDALONE_FOR, abs=0.01)
    assert process.may_read()
    assert process.shared.may_read(process.shared.next_sync + SYNC_INTERVAL / 2)
    assert not process.watch_list.foreign_ids
    process.shared.hint("x")
    assert process.seconds_to_sync > 4, "a store that is down is not asked more often"
    await anyio.sleep(STANDALONE_FOR)
    process.shared.hint("y")
    assert process.shared.next_sync == -inf


async def test_a_process_that_reads_alone_reads_on_while_it_passes_on_a_hint() -> None:
    process = Process()
    await process.lead_for()
    for _ in range(YIELD_LEAD_AFTER):
        process.failures.on_failure(anyio.current_time(), not_found())
    assert not (await process.sync(None)).may_lead
    read: list[bool] = []
    process.store.meanwhile = lambda: read.append(process.may_read())
    await process.sync(None)
    assert read == [True]
