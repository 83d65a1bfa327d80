"""The reads that prove a missing track, step by step, without the poll loop."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from finetuning_async import Generation, InternalServerError
from finetuning_async._polling._absence import RETRY_GET_AFTER, Absence
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._reads_in_flight import (
    HANGS_AFTER,
    ReadInFlight,
    ReadsInFlight,
)
from finetuning_async._polling._waiters import Watcher
from tests._dispatch_harness import DispatchHarness, not_found, row

if TYPE_CHECKING:
    from finetuning_async._polling._absence import Step
    from finetuning_async._polling._watch_list import Watched

GET: Step = ("get", "generations")
LIST: Step = ("list", "generations")


def watcher(track_id: str) -> Watcher:
    return Watcher(cast("Any", None), track_id, None)


def missing(harness: DispatchHarness, track_id: str) -> tuple[Watched, Absence]:
    """A track whose first ``GET`` has responded 404."""
    harness.accept(track_id)
    track, _ = harness.watch(track_id)
    harness.refused(Read("generations", [track]), not_found())
    assert track.absence is not None
    return track, track.absence


def seconds_to_look(track: Watched) -> float:
    return track.next_look - anyio.current_time()


async def test_after_a_page_that_failed_a_missing_track_waits_and_others_do_not() -> (
    None
):
    harness = DispatchHarness()
    a, _ = missing(harness, "a")
    harness.accept("b")
    b, _ = harness.watch("b")
    before = b.next_look
    assert seconds_to_look(a) == pytest.approx(0, abs=0.01)
    failed = Read("generations", [a, b], 0)
    harness.failed(failed, InternalServerError("x", status_code=500))
    assert seconds_to_look(a) == pytest.approx(RETRY_GET_AFTER, abs=0.01)
    assert b.next_look == before
    harness.watch_list.schedule_now(a)
    harness.failed(failed, InternalServerError("x", status_code=500))
    assert a.next_look == -inf, "a hint is followed at once"


async def test_a_list_that_repeats_itself_begins_the_round_anew() -> None:
    harness = DispatchHarness()
    a, absence = missing(harness, "a")
    for steps in ([LIST], [GET]):
        offset = harness.dispatcher.missing_tracks.sweeps.next_offset("generations")
        harness.page([a], row("x"), offset=offset, has_more=True)
        assert list(absence.steps) == steps
    assert absence.rounds == 0


async def test_a_list_for_another_track_does_not_hasten_the_next_get() -> None:
    harness = DispatchHarness()
    a, absence = missing(harness, "a")
    await anyio.sleep(1)
    harness.page([a], row("x"))
    assert absence.rounds == 1
    assert list(absence.steps) == [GET]
    again = a.next_look
    assert seconds_to_look(a) == pytest.approx(RETRY_GET_AFTER, abs=0.01)
    missing(harness, "b")
    await anyio.sleep(1)
    harness.page([], row("x"))
    assert (a.next_look, a.is_urgent) == (again, False)


def test_a_round_that_is_due_begins_a_few_seconds_later() -> None:
    for now in (0.0, 7.0):
        absence = Absence(0.0, ["generations"])
        assert absence.begin_round(now) == now + RETRY_GET_AFTER


def test_only_the_next_step_is_expected() -> None:
    absence = Absence(0.0, ["generations"])
    assert absence.expects(GET)
    assert not absence.expects(LIST)
    absence.abandon_round()
    assert not absence.expects(GET)


def test_only_where_both_families_are_asked_it_is_a_guess() -> None:
    assert not Absence(0.0, ["generations"]).is_guess
    assert Absence(0.0, ["generations", "sound_effects"]).is_guess


async def test_of_several_reads_of_a_track_the_oldest_counts() -> None:
    harness, reads = DispatchHarness(), ReadsInFlight()
    a, _ = harness.watch("a")
    sent = [
        ReadInFlight(watcher("reader"), Read("generations", [a]), sent_at)
        for sent_at in (10.0, 12.0)
    ]
    for each in sent:
        reads.add(each)
    assert reads.pending_since(a) == 10.0
    assert reads.hanging(10.0 + HANGS_AFTER - 0.1) == []
    assert reads.hanging(10.0 + HANGS_AFTER + 0.1) == [sent[0]]


def test_a_state_is_as_fresh_as_the_newest_read_that_showed_it() -> None:
    waits = watcher("a")
    for seen_at in (5.0, 3.0):
        waits.update(Generation(id="a", status="processing"), seen_at)
    assert waits.seen_at == 5.0
