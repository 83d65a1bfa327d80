"""`Engine.process_item`: what it commits, whatever else happens."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async import (
    BadRequestError,
    FinetuningError,
    GenerationRequest,
    SubmissionUnknownError,
)
from finetuning_async._pacing import RANKS
from finetuning_async._session import session_of
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal import (
    Absent,
    Action,
    Claimed,
    Door,
    Engine,
    EngineOptions,
    Found,
    Held,
    ItemFactory,
    Journal,
    Lost,
    Pause,
    Rejected,
    Restarted,
    Retry,
    Row,
    Sending,
    StaleItemError,
    step,
)
from finetuning_async.journal._create import usual_reply
from finetuning_async.journal._engine import SEND_WITHIN
from finetuning_async.journal._store import MemoryStore
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from finetuning_async._submission import Submission
    from finetuning_async.journal import Event, Item

    Hook = Callable[[Item], Awaitable[None]]

CREATES = "/v1/generations"
LOST: list[Event] = [Sending(7, 1.0), Lost(2.0, "no response")]
DOUBTED: list[Event] = [*LOST, Absent()]


class PlainDoor(Door):
    """Raises what it is told, as a call with a key does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.states: list[str] = []
        self.facts_of: list[str] = []
        self.on_sending: Hook | None = None

    def new_submission(self, item: Item, **callbacks: Any) -> Submission:
        return self.engine.new_submission(item, **callbacks)

    async def on_recorded(self, item: Item) -> None:
        self.states.append(item.entry.state)
        hook, self.on_sending = self.on_sending, None
        if item.entry.state == "sending" and hook is not None:
            await hook(item)
        else:
            self.on_sending = hook

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        raise error

    async def on_lost(self, item: Item, error: FinetuningError) -> None:
        raise error

    def facts(self, track: Any) -> str | None:
        self.facts_of.append(track.status)
        return f'{{"status": "{track.status}"}}'


@attrs.define
class World:
    service: Emulator
    store: MemoryStore
    engine: Engine
    door: PlainDoor

    @property
    def item(self) -> Item:
        return self.store.get(1)

    def record(self, *events: Event) -> None:
        """What another process does with the item."""
        for event in events:
            item = self.item
            self.store.record(item, step(item.entry, event)[0])

    async def run(self, until: Action | None = None) -> Item:
        item, pause = await self.engine.process_item(self.item, self.door, until)
        assert pause is None
        return item

    @property
    def posts(self) -> int:
        return self.service.count(method="POST")


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    async with emulated(Emulator(audio=b"ID3", latency=(0.1, 0.2))) as (
        service,
        client,
    ):
        store = MemoryStore()
        store.add([ItemFactory().item(Row(request=GenerationRequest("rain")))])
        engine = Engine(session_of(client), Journal(store), EngineOptions())
        yield World(service, store, engine, PlainDoor(engine))


async def test_it_takes_an_item_to_its_end_and_commits_each_step() -> None:
    async with world() as here:
        item = await here.run()
        assert here.door.states == ["sending", "accepted", "completed", "downloaded"]
        assert here.item == item
        assert here.door.facts_of == ["pending", "completed"]
        assert item.result == {"status": "completed"}


@pytest.mark.parametrize("state", ["planned", "accepted"])
async def test_it_stops_before_the_action_that_it_is_given(state: str) -> None:
    async with world() as here:
        if state == "accepted":
            await here.run(Action.WAIT)
        item = await here.run(Action.WAIT)
        assert item.entry.state == "accepted"
        assert item.result == {"status": "pending"}
        assert here.posts == 1


async def test_what_has_got_further_is_left_as_it_is() -> None:
    async with world() as here:
        await here.run()
        requests = len(here.service.requests)
        assert (await here.run(Action.WAIT)).entry.state == "downloaded"
        assert len(here.service.requests) == requests


async def test_a_refusal_is_raised_with_the_item_planned_again() -> None:
    async with world() as here:
        fault = Fault("status", CREATES, method="POST", status=400, code="NO")
        here.service.add_fault(fault)
        with pytest.raises(BadRequestError):
            await here.run(Action.WAIT)
        assert here.door.states == ["sending", "planned"]
        assert here.item.entry.sent_at is None


async def test_a_lost_create_is_raised_with_the_item_in_doubt() -> None:
    async with world() as here:
        here.service.add_fault(Fault("lost_before_commit", CREATES, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await here.run(Action.WAIT)
        assert here.item.entry.state == "unknown"


@pytest.mark.parametrize("events", [[], [Held("because")]], ids=["unknown", "held"])
async def test_an_acceptance_after_another_took_over_is_recorded_as_found(
    events: list[Event],
) -> None:
    async with world() as here:

        async def taken_over(_: Item) -> None:
            here.record(Restarted(here.store.now()), *events)

        here.door.on_sending = taken_over
        item = await here.run()
        assert here.door.states == ["sending", "accepted", "completed", "downloaded"]
        assert item.entry.track_id in here.service.tracks
        assert item.entry.accepts == here.posts == 1


async def test_an_acceptance_that_another_found_first_is_the_same_track() -> None:
    async with world() as here:

        async def taken_over(_: Item) -> None:
            async def find_it() -> None:
                await anyio.sleep(1)  # it is accepted, but the response is late
                here.record(Found(next(iter(here.service.tracks))))

            here.record(Restarted(here.store.now()))
            tasks.start_soon(find_it)

        here.service.add_fault(Fault("slow_answer", CREATES, method="POST", seconds=2))
        here.door.on_sending = taken_over
        async with anyio.create_task_group() as tasks:
            item = await here.run()
        assert item.entry.state == "downloaded"
        assert item.entry.accepts == 1


async def test_an_acceptance_after_a_proof_of_absence_counts_all_the_same() -> None:
    async with world() as here:

        async def taken_over(_: Item) -> None:
            here.record(Restarted(here.store.now()), Absent())

        here.door.on_sending = taken_over
        item = await here.run(Action.WAIT)
        assert item.entry.state == "accepted"
        assert item.entry.accepts == here.posts == 1


async def test_an_acceptance_after_it_was_sent_again_names_its_track() -> None:
    async with world() as here:

        async def taken_over(item: Item) -> None:
            again = Sending(item.entry.seed, here.store.now())
            here.record(Restarted(here.store.now()), Absent(), again)

        here.door.on_sending = taken_over
        with pytest.raises(StaleItemError, match="may be paid twice"):
            await here.run()


@pytest.mark.parametrize(
    ("before", "meanwhile", "state"),
    [
        ([Claimed("me")], [], "planned"),
        ([], [], "unknown"),
        ([*DOUBTED, Claimed("me")], [], "unknown"),
        ([Claimed("me")], [Absent(), Claimed("other"), *LOST], "unknown"),
    ],
    ids=["only this", "no lease", "earlier create in doubt", "sent by another"],
)
async def test_a_late_refusal_ends_a_doubt_that_is_about_this_create_alone(
    before: list[Event], meanwhile: list[Event], state: str
) -> None:
    async with world() as here:
        here.record(*before)

        async def taken_over(_: Item) -> None:
            here.record(Restarted(here.store.now()), *meanwhile)

        fault = Fault("status", CREATES, method="POST", status=400, code="NO")
        here.service.add_fault(fault)
        here.door.on_sending = taken_over
        with pytest.raises(StaleItemError):
            await here.run(Action.WAIT)
        assert here.item.entry.state == state


async def test_a_create_that_was_halted_after_its_commit_is_not_sent_late() -> None:
    async with world() as here:

        async def halted(_: Item) -> None:
            await anyio.sleep(SEND_WITHIN + 1)
            assert not here.posts

        here.door.on_sending = halted
        item = await here.run(Action.WAIT)
        assert here.door.states == ["sending", "planned", "sending", "accepted"]
        assert item.entry.accepts == here.posts == 1


async def test_nor_is_one_that_another_has_taken_over_meanwhile() -> None:
    async with world() as here:

        async def halted(_: Item) -> None:
            await anyio.sleep(SEND_WITHIN + 1)
            here.record(Restarted(here.store.now()), Absent())

        here.door.on_sending = halted
        with pytest.raises(StaleItemError):
            await here.run(Action.WAIT)
        assert not here.posts


async def test_it_leaves_less_time_where_a_proof_takes_less() -> None:
    async with world() as here:
        options = EngineOptions(settle=50.0)
        engine = Engine(here.engine.service, here.engine.journal, options)
        assert engine.send_within == 10.0


async def test_a_create_cancelled_before_its_first_byte_is_planned_again() -> None:
    async with world() as here:

        async def cancel(_: Item) -> None:
            scope.cancel()

        here.door.on_sending = cancel
        with anyio.CancelScope() as scope:
            await here.run()
        assert scope.cancelled_caught
        assert here.item.entry.state == "planned"
        assert not here.posts


async def test_a_create_cancelled_in_flight_is_in_doubt_at_once() -> None:
    async with world() as here:
        here.service.add_fault(Fault("delay", CREATES, method="POST", seconds=20))
        here.store.now = lambda: 0.0  # type: ignore[method-assign] # a wrong clock
        with anyio.move_on_after(1):
            await here.run()
        assert here.item.entry.state == "unknown"
        now = await here.engine.reconciliation.now()
        assert here.item.entry.lost_at == pytest.approx(now, abs=5)


async def test_one_accepted_within_the_grace_keeps_its_track() -> None:
    async with world() as here:
        here.service.add_fault(Fault("delay", CREATES, method="POST", seconds=3))
        with anyio.move_on_after(1):
            await here.run()
        assert here.item.entry.state == "accepted"


async def test_what_has_no_seed_is_held_and_nothing_is_read() -> None:
    async with world() as here:
        here.record(Restarted(0.0))
        entry = attrs.evolve(here.item.entry, state="unknown", lost_at=1.0)
        here.store.record(here.item, entry)
        assert (await here.run()).entry.state == "held"
        assert not here.service.requests


async def test_a_track_that_was_accepted_before_is_waited_for_by_its_id() -> None:
    async with world() as here:
        accepted = await here.run(Action.WAIT)
        ended = await here.run(Action.DOWNLOAD)
        assert ended.entry.state == "completed"
        assert ended.entry.track_id == accepted.entry.track_id


@pytest.mark.parametrize(("asked", "given"), [(None, "low"), ("high", "high")])
async def test_an_item_is_sent_after_all_others_unless_it_says_otherwise(
    asked: Any, given: str
) -> None:
    async with world() as here:
        row = Row(request=GenerationRequest("snow", priority=asked))
        here.store.add([ItemFactory().item(row)])
        submission = here.engine.new_submission(here.store.get(2))
        assert submission.rank == RANKS[given]


class PatientDoor(PlainDoor):
    """Sends a create again that is refused for a passing reason, as a batch does."""

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        return usual_reply(error, refusals) or await super().on_refused(
            item, error, refusals
        )


@pytest.mark.parametrize(("times", "state"), [(4, "accepted"), (5, "failed")])
async def test_a_create_is_sent_again_at_growing_pauses_until_the_fifth_refusal(
    times: int, state: str
) -> None:
    async with world() as here:
        fault = Fault("status", CREATES, method="POST", status=404, times=times)
        here.service.add_fault(fault)
        began = anyio.current_time()
        item, _ = await here.engine.process_item(
            here.item, PatientDoor(here.engine), Action.WAIT
        )
        assert item.entry.state == state
        assert anyio.current_time() - began == pytest.approx(5 + 10 + 20 + 40, rel=0.1)


class WillingDoor(PlainDoor):
    """Would retry whatever is refused; its caller cannot keep the id of a track."""

    def new_submission(self, item: Item, **callbacks: Any) -> Submission:
        submission = super().new_submission(item, **callbacks)
        record: Callable[[Any], Awaitable[None]] = callbacks["on_submitted"]

        async def keep(track: Any) -> None:
            await record(track)
            raise FinetuningError("no room for its id")

        submission.on_submitted = keep
        return submission

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        raise AssertionError("it was accepted")


async def test_an_error_after_the_acceptance_is_raised_and_refuses_nothing() -> None:
    async with world() as here:
        here.door = WillingDoor(here.engine)
        with pytest.raises(FinetuningError, match="no room"):
            await here.run()
        assert (here.posts, here.item.entry.state) == (1, "accepted")
