"""What the poll loop does with the state of one track."""

from __future__ import annotations

from math import inf
from typing import Any

import anyio
import attrs
import pytest

from finetuning_async import (
    APIResponseError,
    BadRequestError,
    Event,
    GenerationEnded,
    InternalServerError,
    SoundEffect,
)
from finetuning_async._pacing._in_flight import TrackInProgress
from finetuning_async._polling._dispatch import MAX_PAUSE
from finetuning_async._polling._failure_tracker import BELIEVED_AFTER, BELIEVED_COUNT
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._schedule import (
    FIRST_LOOK,
    SAMPLES_NEEDED,
    SHOWN_EVERY,
    SHOWN_SOONER,
    Expectation,
)
from finetuning_async._polling._webhook_hints import TRUSTED_AFTER
from tests._dispatch_harness import INTERVAL, DispatchHarness, at, not_found, reply, row


async def test_each_family_is_parsed_as_its_own_model() -> None:
    harness = DispatchHarness()
    for name in ("a", "b"):
        harness.accept(name, "sound_effect")
    (a, waits_a), (b, waits_b) = harness.watch("a"), harness.watch("b")
    harness.page([a, b], row("a"), row("b", "completed"), family="sound_effects")
    harness.get(a, row("a", "completed"))
    assert isinstance(waits_a.latest, SoundEffect)
    assert isinstance(waits_b.latest, SoundEffect)
    harness.accept("c")
    c, waits_c = harness.watch("c")
    harness.page([c], row("c"))
    harness.get(c, row("c", "completed"))
    assert not isinstance(waits_c.latest, SoundEffect)
    assert len(harness.watch_list) == 0


async def test_an_end_without_watchers_needs_no_details() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    harness.watch_list.watch_all(anyio.current_time())
    (a,) = harness.watch_list.due(inf)
    harness.page([a], row("a", "failed"))
    assert len(harness.watch_list) == 0
    assert not harness.inflight.tracks


@pytest.mark.parametrize("status", ["failed", "completed"])
async def test_an_end_without_details_gets_one_more_read(status: str) -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    cut_short = {**row("a", status), "audioUrl": None}
    harness.page([a], cut_short)
    assert a.is_urgent
    assert not waits.ready
    harness.get(a, cut_short)
    assert waits.latest is not None
    assert waits.latest.status == status
    assert len(harness.watch_list) == 0


async def test_a_track_that_runs_again_drops_its_partial_row() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    harness.page([a], row("a", "failed"))
    a.is_urgent = False
    harness.get(a, row("a"))
    assert a.partial_row is None
    assert a.next_look >= anyio.current_time()


async def test_a_look_is_dated_by_its_request() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    await anyio.sleep(5)
    harness.get(a, row("a"))
    sent_at = anyio.current_time() - 0.1
    assert a.looked_at == a.seen_running_at == pytest.approx(sent_at, abs=0.01)
    a.looked_at = sent_at + 1.0  # another one was sent
    harness.get(a, row("a"))
    assert a.looked_at == sent_at + 1.0


async def test_the_age_of_a_foreign_track_is_learned_once() -> None:
    harness = DispatchHarness()
    a, _ = harness.watch("a")
    await anyio.sleep(100)
    harness.get(a, row("a", createdAt=at(70)))
    assert a.accepted_at is None
    harness.set_clock()
    harness.get(a, row("a"))
    assert a.accepted_at is None
    harness.get(a, row("a", createdAt=at(70)))
    assert a.accepted_at == pytest.approx(anyio.current_time() - 30)
    harness.get(a, row("a", createdAt=at(90)))
    assert a.accepted_at == pytest.approx(anyio.current_time() - 30)
    b, _ = harness.watch("b")
    harness.get(b, row("b", createdAt=at(170)))
    assert b.accepted_at == pytest.approx(anyio.current_time(), abs=0.01)


async def learned(**fields: Any) -> tuple[float, float]:
    """The expectation after tracks that were running at 20 s and ended at 30 s."""
    harness = DispatchHarness()
    await anyio.sleep(50)
    for n in range(SAMPLES_NEEDED * 100):
        harness.accept(str(n))
    tracks = [harness.watch(track_id)[0] for track_id in list(harness.inflight.tracks)]
    await anyio.sleep(20.1)
    for track in tracks:
        harness.get(track, row(track.track_id))
    await anyio.sleep(9.9)
    for track in tracks:
        harness.get(track, row(track.track_id, **{"status": "completed", **fields}))
    expected = harness.estimator.expect("music", None)
    return expected.earliest, expected.latest


@pytest.mark.parametrize(
    ("fields", "earliest", "latest"),
    [
        ({}, 20, 30),
        ({"createdAt": at(0), "completedAt": at(25)}, 24, 25),
        ({"createdAt": at(0), "completedAt": at(90)}, 30, 30),
        ({"createdAt": at(0), "completedAt": at(15)}, 15, 15),
        ({"createdAt": at(0), "completedAt": at(0.5)}, 0.5, 0.5),
        ({"generationTime": 22}, 22, 30),
        ({"generationTime": 5, "createdAt": at(0), "completedAt": at(25)}, 5, 25),
    ],
)
async def test_durations_are_learned_from_dates_and_observations(
    fields: dict[str, Any], earliest: float, latest: float
) -> None:
    low, high = await learned(**fields)
    slack = (2 * (latest - earliest) + latest) / (SAMPLES_NEEDED * 100) + 1.0
    assert low == pytest.approx(max(earliest - slack, 0), abs=0.01)
    assert high == pytest.approx(latest + slack, abs=0.01)


@pytest.mark.parametrize("fields", [{"status": "failed"}, {"status": "processing"}])
async def test_a_track_that_has_not_completed_teaches_no_duration(
    fields: dict[str, Any],
) -> None:
    assert await learned(**fields) == (FIRST_LOOK, inf)


async def test_without_dates_no_duration_is_learned() -> None:
    harness = DispatchHarness()
    dates = {"createdAt": at(30), "completedAt": at(30)}
    for n, fields in enumerate(({}, dates) * 2 * SAMPLES_NEEDED):
        track, _ = harness.watch(str(n))
        harness.get(track, row(str(n), "completed", **fields))
    for n in range(SAMPLES_NEEDED):  # accepted here, and not seen to run
        harness.accept(f"accepted {n}")
        track, _ = harness.watch(f"accepted {n}")
        await anyio.sleep(30)
        harness.get(track, row(f"accepted {n}", "completed"))
    for n in range(SAMPLES_NEEDED):  # seen to run, and of unknown age
        track, _ = harness.watch(f"stranger {n}")
        harness.get(track, row(f"stranger {n}"))
        await anyio.sleep(30)
        harness.get(track, row(f"stranger {n}", "completed"))
    assert harness.estimator.expect("music", None) == Expectation(FIRST_LOOK, inf)


async def test_after_a_failure_statuses_are_read_sooner() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    harness.accept("b")
    (a, _), (b, _) = harness.watch("a"), harness.watch("b")
    await anyio.sleep(10)
    harness.get(a, row("a", "failed", errorMessage="out of time"))
    harness.get(b, row("b"))
    assert b.status_due_by == b.next_look + SHOWN_SOONER
    harness = DispatchHarness()
    for name in ("a", "b"):
        harness.accept(name)
    (a, _), (b, _) = harness.watch("a"), harness.watch("b")
    await anyio.sleep(10)
    harness.get(a, row("a", "completed"))
    harness.get(b, row("b"))
    assert b.status_due_by == b.next_look + SHOWN_EVERY


async def test_a_404_is_checked_even_if_the_track_was_seen_before() -> None:
    harness = DispatchHarness()
    for name in ("a", "b"):
        harness.accept(name)
    (a, unseen), (b, seen) = (harness.watch(name) for name in ("a", "b"))
    harness.get(b, row("b"))
    for track in (a, b):
        harness.refused(Read("generations", [track]), not_found())
        assert track.absence is not None
        assert list(track.absence.steps) == [("list", "generations")]
    assert unseen.error is None
    assert seen.error is None
    await anyio.sleep(1)
    harness.page([a, b], row("a"))
    assert a.absence is None
    assert b.absence is not None
    assert b.absence.rounds == 1
    assert set(harness.inflight.tracks) == {"a", "b"}


async def test_with_only_an_id_a_404_may_mean_an_effect() -> None:
    harness = DispatchHarness()
    track, watcher = harness.watch("d")
    harness.refused(Read("generations", [track]), not_found())
    assert watcher.error is None
    assert track.is_urgent
    assert track.absence is not None
    assert track.absence.steps[0] == ("get", "sound_effects")
    harness.refused(Read("sound_effects", [track]), not_found())
    assert watcher.error is None
    assert track.absence.steps[0] == ("list", "generations")


async def test_any_other_refusal_ends_the_wait_at_once() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    error = BadRequestError("no", status_code=400, code="VALIDATION_ERROR")
    harness.refused(Read("generations", [a]), error)
    assert waits.error is error
    assert not harness.inflight.tracks


async def test_a_404_ends_overtime() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    waits.in_overtime = True
    harness.refused(Read("generations", [a]), not_found())
    assert waits.timed_out


@pytest.mark.parametrize("way", ["refused", "failed"])
async def test_an_end_whose_details_cannot_be_read_is_delivered_as_it_is(
    way: str,
) -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    harness.page([a], row("a", "failed"))
    fail = harness.refused if way == "refused" else harness.failed
    fail(Read("generations", [a]), not_found())
    assert waits.error is None
    assert waits.latest is a.partial_row is not None
    assert len(harness.watch_list) == 0


async def test_a_track_whose_reads_fail_is_read_less_and_less_often() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    now = anyio.current_time()
    read, error = Read("generations", [a]), InternalServerError("x", status_code=500)
    pauses = []
    for _ in range(5):
        harness.failed(read, error)
        pauses.append((a.next_look - now) / INTERVAL)
    expected = [2, 4, 8, MAX_PAUSE, MAX_PAUSE]
    assert pauses == pytest.approx(expected, abs=0.01)
    harness.get(a, row("a"))
    harness.failed(read, error)
    assert a.next_look == pytest.approx(now + 2 * INTERVAL, abs=0.01)
    a.is_urgent, a.next_look = True, -inf
    waits.in_overtime, waits.deadline = True, 0.0
    harness.failed(read, error)
    assert a.next_look == -inf
    assert waits.timed_out


async def test_a_look_ends_overtime_and_keeps_a_new_hint() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    waits.in_overtime, waits.deadline = True, 0.0
    await anyio.sleep(1)
    a.is_urgent, a.next_look = True, -inf
    harness.get(a, row("a"))
    assert waits.timed_out
    assert a.next_look == -inf


async def test_a_response_that_was_overtaken_counts_only_if_it_is_an_end() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")

    def overtaken(status: str) -> None:
        late = attrs.evolve(reply(row("a", status)), sent_at=a.seen_running_at - 1)
        harness.dispatcher.dispatch(Read("generations", [a]), late)

    await anyio.sleep(5)
    harness.get(a, row("a"))
    overtaken("queued")
    assert waits.latest is not None
    assert waits.latest.status == "processing"
    overtaken("completed")
    assert waits.latest.status == "completed"
    assert len(harness.watch_list) == 0


async def test_a_gateway_that_responds_to_the_reads_of_one_track_ends_its_waits() -> (
    None
):
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    read, error = Read("generations", [a]), APIResponseError("no JSON")
    for _ in range(BELIEVED_COUNT):
        harness.failed(read, error)
    await anyio.sleep(BELIEVED_AFTER - 0.1)
    harness.failed(read, error)
    assert waits.error is None
    harness.get(a, row("a"))  # what came before does not count any more
    for _ in range(BELIEVED_COUNT - 1):
        harness.failed(read, error)
        await anyio.sleep(BELIEVED_AFTER)
    assert waits.error is None
    harness.failed(read, error)
    assert waits.error is error


async def test_after_its_end_a_track_is_not_read() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    before = a.next_look
    await anyio.sleep(30)
    harness.get(a, row("a", "completed"))
    assert a.next_look == before
    assert harness.watch_list.due(inf) == []


@pytest.mark.parametrize("has_webhook", [True, False])
@pytest.mark.parametrize("noticed", [True, False])
async def test_webhooks_arrive_if_all_tracks_with_one_were_announced(
    *, has_webhook: bool, noticed: bool
) -> None:
    harness = DispatchHarness()
    await anyio.sleep(10)
    for n in range(TRUSTED_AFTER):
        track_id, now = str(n), anyio.current_time()
        harness.inflight.tracks[track_id] = TrackInProgress(
            kind="music", accepted_at=now, duration=None, has_webhook=has_webhook
        )
        track, _ = harness.watch(track_id)
        if noticed:
            harness.watch_list.mark_changed(track, now)
        harness.get(track, row(track_id, "completed"))
    assert harness.watch_list.hints.hooks_arrive is (has_webhook and noticed)


@pytest.mark.parametrize(
    ("ended_at", "noticed_after"), [(-100.0, 5.0), (11.0, 5.0), (15.0, 1.0)]
)
async def test_an_end_is_noticed_no_later_than_its_track_has_been_watched(
    ended_at: float, noticed_after: float
) -> None:
    """By the service's clock, which is known to a second."""
    seen: list[Event] = []
    harness = DispatchHarness()
    harness.set_clock()
    await anyio.sleep(10)
    track, _ = harness.watch("a", seen.append)
    await anyio.sleep(5)
    harness.get(track, row("a", "completed", completedAt=at(ended_at)))
    (ended,) = seen
    assert isinstance(ended, GenerationEnded)
    assert ended.noticed_after == pytest.approx(noticed_after, abs=0.01)
