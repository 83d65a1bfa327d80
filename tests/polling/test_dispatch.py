"""What the reads of the poll loop tell of a track, one at a time."""

from __future__ import annotations

from math import inf
from typing import Any

import anyio
import pytest

from finetuning_async import BadRequestError, InternalServerError, SoundEffect
from finetuning_async._pacing._in_flight import TrackInProgress
from finetuning_async._polling._dispatch import LONGEST_PAUSE
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._schedule import (
    FIRST_LOOK,
    SAMPLES_NEEDED,
    SHOWN_EVERY,
    SHOWN_SOONER,
    Expectation,
)
from finetuning_async._polling._webhook_hints import TRUSTED_AFTER
from tests._dispatch_harness import TURN, DispatchHarness, at, not_found, row


async def test_each_family_is_read_in_its_own_form() -> None:
    desk = DispatchHarness()
    for name in ("a", "b"):
        desk.accept(name, "sound_effect")
    (a, waits_a), (b, waits_b) = desk.watch("a"), desk.watch("b")
    desk.page([a, b], row("a"), row("b", "completed"), family="sound_effects")
    desk.get(a, row("a", "completed"))
    assert isinstance(waits_a.latest, SoundEffect)
    assert isinstance(waits_b.latest, SoundEffect)
    desk.accept("c")
    c, waits_c = desk.watch("c")
    desk.page([c], row("c"))
    desk.get(c, row("c", "completed"))
    assert not isinstance(waits_c.latest, SoundEffect)
    assert len(desk.list) == 0


async def test_an_end_that_nobody_waits_for_needs_no_details() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    desk.list.watch_all(anyio.current_time())
    (a,) = desk.list.due(inf)
    desk.page([a], row("a", "failed"))
    assert len(desk.list) == 0
    assert not desk.inflight.tracks


@pytest.mark.parametrize("status", ["failed", "completed"])
async def test_an_end_without_details_gets_one_read_more(status: str) -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    cut_short = {**row("a", status), "audioUrl": None}
    desk.page([a], cut_short)
    assert a.is_urgent
    assert not waits.ready
    desk.get(a, cut_short)
    assert waits.latest is not None
    assert waits.latest.status == status
    assert len(desk.list) == 0


async def test_a_track_that_runs_again_is_no_longer_taken_to_have_ended() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    desk.page([a], row("a", "failed"))
    a.is_urgent = False
    desk.get(a, row("a"))
    assert a.row is None
    assert a.next_look >= anyio.current_time()


async def test_a_look_is_as_old_as_its_request() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    await anyio.sleep(5)
    desk.get(a, row("a"))
    sent_at = anyio.current_time() - 0.1
    assert a.looked_at == a.ran_at == pytest.approx(sent_at, abs=0.01)
    a.looked_at = sent_at + 1.0  # another one has begun
    desk.get(a, row("a"))
    assert a.looked_at == sent_at + 1.0


async def test_the_age_of_a_stranger_s_track_is_learned_once() -> None:
    desk = DispatchHarness()
    a, _ = desk.watch("a")
    await anyio.sleep(100)
    desk.get(a, row("a", createdAt=at(70)))
    assert a.accepted_at is None
    desk.set_clock()
    desk.get(a, row("a"))
    assert a.accepted_at is None
    desk.get(a, row("a", createdAt=at(70)))
    assert a.accepted_at == pytest.approx(anyio.current_time() - 30)
    desk.get(a, row("a", createdAt=at(90)))
    assert a.accepted_at == pytest.approx(anyio.current_time() - 30)
    b, _ = desk.watch("b")
    desk.get(b, row("b", createdAt=at(170)))
    assert b.accepted_at == pytest.approx(anyio.current_time(), abs=0.01)


async def learned(**told: Any) -> tuple[float, float]:
    """What is expected after tracks that were seen to run at 20 s and ended at 30 s."""
    desk = DispatchHarness()
    for n in range(SAMPLES_NEEDED * 100):
        desk.accept(str(n))
    tracks = [desk.watch(track_id)[0] for track_id in list(desk.inflight.tracks)]
    await anyio.sleep(20.1)
    for track in tracks:
        desk.get(track, row(track.track_id))
    await anyio.sleep(9.9)
    for track in tracks:
        desk.get(track, row(track.track_id, **{"status": "completed", **told}))
    expected = desk.outlook.expect("music", None)
    return expected.earliest, expected.latest


@pytest.mark.parametrize(
    ("told", "earliest", "latest"),
    [
        ({}, 20, 30),
        ({"createdAt": at(0), "completedAt": at(25)}, 24, 25),
        ({"createdAt": at(0), "completedAt": at(90)}, 30, 30),
        ({"createdAt": at(0), "completedAt": at(15)}, 15, 15),
        ({"generationTime": 22}, 22, 30),
        ({"generationTime": 5, "createdAt": at(0), "completedAt": at(25)}, 5, 25),
    ],
)
async def test_times_are_learned_from_what_is_told_and_what_was_seen(
    told: dict[str, Any], earliest: float, latest: float
) -> None:
    low, high = await learned(**told)
    slack = (2 * (latest - earliest) + latest) / (SAMPLES_NEEDED * 100) + 1.0
    assert low == pytest.approx(earliest - slack, abs=0.01)
    assert high == pytest.approx(latest + slack, abs=0.01)


@pytest.mark.parametrize("told", [{"status": "failed"}, {"status": "processing"}])
async def test_a_track_that_has_not_completed_teaches_no_time(
    told: dict[str, Any],
) -> None:
    assert await learned(**told) == (FIRST_LOOK, inf)


async def test_nothing_is_learned_where_nothing_is_known() -> None:
    desk = DispatchHarness()
    dates = {"createdAt": at(30), "completedAt": at(30)}
    for n, told in enumerate(({}, dates) * 2 * SAMPLES_NEEDED):
        track, _ = desk.watch(str(n))
        desk.get(track, row(str(n), "completed", **told))
    for n in range(SAMPLES_NEEDED):  # accepted here, and not seen to run
        desk.accept(f"accepted {n}")
        track, _ = desk.watch(f"accepted {n}")
        await anyio.sleep(30)
        desk.get(track, row(f"accepted {n}", "completed"))
    for n in range(SAMPLES_NEEDED):  # seen to run, and of unknown age
        track, _ = desk.watch(f"stranger {n}")
        desk.get(track, row(f"stranger {n}"))
        await anyio.sleep(30)
        desk.get(track, row(f"stranger {n}", "completed"))
    assert desk.outlook.expect("music", None) == Expectation(FIRST_LOOK, inf)


async def test_a_failure_makes_others_be_shown_sooner() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    desk.accept("b")
    (a, _), (b, _) = desk.watch("a"), desk.watch("b")
    await anyio.sleep(10)
    desk.get(a, row("a", "failed", errorMessage="out of time"))
    desk.get(b, row("b"))
    assert b.show_by == b.next_look + SHOWN_SOONER
    desk = DispatchHarness()
    for name in ("a", "b"):
        desk.accept(name)
    (a, _), (b, _) = desk.watch("a"), desk.watch("b")
    await anyio.sleep(10)
    desk.get(a, row("a", "completed"))
    desk.get(b, row("b"))
    assert b.show_by == b.next_look + SHOWN_EVERY


async def test_a_404_is_asked_for_again_whatever_was_seen_before() -> None:
    desk = DispatchHarness()
    for name in ("a", "b"):
        desk.accept(name)
    (a, unseen), (b, seen) = (desk.watch(name) for name in ("a", "b"))
    desk.get(b, row("b"))
    for track in (a, b):
        desk.refused(Read("generations", [track]), not_found())
        assert track.absence is not None
        assert list(track.absence.steps) == [("list", "generations")]
    assert unseen.error is None
    assert seen.error is None
    await anyio.sleep(1)
    desk.page([a, b], row("a"))
    assert a.absence is None
    assert b.absence is not None
    assert b.absence.rounds == 1
    assert set(desk.inflight.tracks) == {"a", "b"}


async def test_where_only_an_id_is_known_a_404_may_mean_an_effect() -> None:
    desk = DispatchHarness()
    track, watcher = desk.watch("d")
    desk.refused(Read("generations", [track]), not_found())
    assert watcher.error is None
    assert track.is_urgent
    assert track.absence is not None
    assert track.absence.steps[0] == ("get", "sound_effects")
    desk.refused(Read("sound_effects", [track]), not_found())
    assert watcher.error is None
    assert track.absence.steps[0] == ("list", "generations")


async def test_any_other_refusal_ends_its_wait_at_once() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    error = BadRequestError("no", status_code=400, code="VALIDATION_ERROR")
    desk.refused(Read("generations", [a]), error)
    assert waits.error is error
    assert not desk.inflight.tracks


async def test_a_refusal_too_early_ends_overtime() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    waits.in_overtime = True
    desk.refused(Read("generations", [a]), not_found())
    assert waits.is_over


@pytest.mark.parametrize("way", ["refused", "failed"])
async def test_an_end_whose_details_cannot_be_read_is_told_as_it_is(way: str) -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    desk.page([a], row("a", "failed"))
    tell = desk.refused if way == "refused" else desk.failed
    tell(Read("generations", [a]), not_found())
    assert waits.error is None
    assert waits.latest is a.row is not None
    assert len(desk.list) == 0


async def test_one_that_cannot_be_read_is_looked_at_ever_more_rarely() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    now = anyio.current_time()
    read, error = Read("generations", [a]), InternalServerError("x", status_code=500)
    pauses = []
    for _ in range(5):
        desk.failed(read, error)
        pauses.append((a.next_look - now) / TURN)
    expected = [2, 4, 8, LONGEST_PAUSE, LONGEST_PAUSE]
    assert pauses == pytest.approx(expected, abs=0.01)
    desk.get(a, row("a"))
    desk.failed(read, error)
    assert a.next_look == pytest.approx(now + 2 * TURN, abs=0.01)
    a.is_urgent, a.next_look = True, -inf
    waits.in_overtime, waits.deadline = True, 0.0
    desk.failed(read, error)
    assert a.next_look == -inf
    assert waits.is_over


async def test_a_look_ends_overtime_and_leaves_a_new_hint_be() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    waits.in_overtime, waits.deadline = True, 0.0
    await anyio.sleep(1)
    a.is_urgent, a.next_look = True, -inf
    desk.get(a, row("a"))
    assert waits.is_over
    assert a.next_look == -inf


async def test_after_its_end_a_track_is_not_looked_at() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    before = a.next_look
    await anyio.sleep(30)
    desk.get(a, row("a", "completed"))
    assert a.next_look == before
    assert desk.list.due(inf) == []


@pytest.mark.parametrize("has_webhook", [True, False])
@pytest.mark.parametrize("noticed", [True, False])
async def test_webhooks_arrive_if_tracks_that_have_one_were_announced(
    *, has_webhook: bool, noticed: bool
) -> None:
    desk = DispatchHarness()
    await anyio.sleep(10)
    for n in range(TRUSTED_AFTER):
        track_id, now = str(n), anyio.current_time()
        desk.inflight.tracks[track_id] = TrackInProgress(
            kind="music", accepted_at=now, duration=None, has_webhook=has_webhook
        )
        track, _ = desk.watch(track_id)
        if noticed:
            desk.list.mark_changed(track, now)
        desk.get(track, row(track_id, "completed"))
    assert desk.list.hints.hooks_arrive is (has_webhook and noticed)
