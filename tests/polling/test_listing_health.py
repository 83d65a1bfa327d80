"""Which lists can be used; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from hypothesis import given, strategies as st

from finetuning_async._api._models import Generation, Page
from finetuning_async._polling._listing_health import (
    MAX_FAILURES,
    PAUSE_AFTER_FAILURES,
    PAUSE_AFTER_REFUSAL,
    REACH_SLACK,
    ListingHealth,
    ListKind,
)
from finetuning_async._polling._schedule import SHOWN_EVERY
from finetuning_async._polling._watch_list import Watched

WHOLE: ListKind = ("generations", False)
COMPLETED: ListKind = ("generations", True)
EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def track(
    name: str, accepted_at: float | None = 0.0, status_due_by: float = inf
) -> Watched:
    made = Watched(name, "music")
    made.accepted_at = accepted_at
    made.status_due_by = status_due_by
    return made


def completed(*ids: str, has_more: bool = False) -> Page[Generation]:
    rows = tuple(Generation(id=track_id, status="completed") for track_id in ids)
    return Page(items=rows, has_more=has_more, next_offset=len(rows))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_list_that_keeps_failing_is_paused_and_tried_again(scale: float) -> None:
    listings = ListingHealth(scale=scale)
    for _ in range(MAX_FAILURES):
        assert listings.is_usable(WHOLE, 0.0)
        listings.page_failed(WHOLE, 0.0)
    assert not listings.is_usable(WHOLE, 0.0)
    assert listings.is_usable(COMPLETED, 0.0)
    assert not listings.is_usable(WHOLE, PAUSE_AFTER_FAILURES * scale - 1)
    assert listings.is_usable(WHOLE, PAUSE_AFTER_FAILURES * scale)


def test_one_page_that_works_clears_its_list() -> None:
    listings = ListingHealth(scale=1.0)
    for _ in range(MAX_FAILURES * 2):
        listings.page_failed(WHOLE, 0.0)
        listings.page_worked(WHOLE)
    assert listings.is_usable(WHOLE, 0.0)


def test_a_refused_list_is_paused_for_longer() -> None:
    listings = ListingHealth(scale=0.1)
    listings.page_refused(("sound_effects", False), 0.0)
    assert listings.is_usable(WHOLE, 0.0)
    rest = PAUSE_AFTER_REFUSAL / 10
    assert not listings.is_usable(("sound_effects", False), rest - 1)
    assert listings.is_usable(("sound_effects", False), rest)


def test_tracks_count_as_on_the_first_page_until_its_span_is_known() -> None:
    listings = ListingHealth(scale=1.0)
    a, b = track("a", 0.0), track("b", None)
    assert listings.on_first_page([a, b], 1000.0)
    b.offset = 99
    assert not listings.on_first_page([a, b], 1000.0)


def test_a_track_older_than_the_first_page_is_not_on_it() -> None:
    listings = ListingHealth(scale=0.1)
    listings.set_first_page_span("generations", 10.0, 100.0)
    assert listings.on_first_page([track("a", 91.0), track("b", None)], 100.0)
    assert listings.on_first_page([track("a", 91.0)], 101.0)
    assert not listings.on_first_page([track("a", 91.0), track("b", 95.0)], 101.1)
    assert not listings.on_first_page([track("a", 0.0)], 100 + SHOWN_EVERY / 10)
    assert listings.on_first_page([track("a", 0.0)], 100.1 + SHOWN_EVERY / 10)


def test_the_completed_list_is_not_read_once_a_status_is_due() -> None:
    listings = ListingHealth(scale=1.0)
    assert listings.can_use_completed_list(track("a", status_due_by=10.0), 9.9)
    assert not listings.can_use_completed_list(track("a", status_due_by=10.0), 10.0)
    assert not listings.can_use_completed_list(track("a", None), 0.0)
    listings.page_refused(COMPLETED, 0.0)
    assert not listings.can_use_completed_list(track("a"), 0.0)


def test_a_track_within_reach_but_not_on_the_completed_list_has_not_completed() -> None:
    listings = ListingHealth(scale=1.0)
    old, new = track("old", 50 + REACH_SLACK), track("new", 50.1 + REACH_SLACK)
    done = track("done", 60.0)
    page = completed("done", "stranger", has_more=True)
    assert listings.not_completed([old, new, done], page, 50.0, 70.0) == [new]
    assert not listings.can_use_completed_list(old, 70.0)
    assert listings.can_use_completed_list(new, 70.0)
    assert listings.not_completed([old, new], completed("done"), -inf, 71.0) == [
        old,
        new,
    ]
    assert listings.can_use_completed_list(old, 70.0)
    assert listings.not_completed([old, new], page, inf, 72.0) == []


@pytest.mark.parametrize("status", ["processing", "failed", "queued"])
def test_a_service_that_does_not_filter_is_detected(status: str) -> None:
    listings = ListingHealth(scale=1.0)
    rows = (
        Generation(id="x", status="completed"),
        Generation(id="a", status=status),
    )
    page = Page(items=rows, has_more=False, next_offset=2)
    assert listings.not_completed([track("b")], page, -inf, 0.0) == []
    assert not listings.is_usable(COMPLETED, PAUSE_AFTER_REFUSAL - 1)
    assert listings.is_usable(COMPLETED, PAUSE_AFTER_REFUSAL)
    assert listings.is_usable(WHOLE, 0.0)


def test_a_list_that_hides_completed_tracks_is_detected() -> None:
    listings = ListingHealth(scale=1.0)
    listings.note_completed(track("a", 60.0))
    assert listings.not_completed([track("b")], completed("c"), -inf, 0.0) == []
    assert not listings.is_usable(COMPLETED, 0.0)


@pytest.mark.parametrize(
    ("shown", "accepted_at"),
    [("a", 60.0), ("c", 40.0), ("c", None)],
    ids=["shown", "too old", "of unknown age"],
)
def test_a_list_that_shows_its_witness_is_believed(
    shown: str, accepted_at: float | None
) -> None:
    listings = ListingHealth(scale=1.0)
    listings.note_completed(track("a", accepted_at))
    b = track("b", 70.0)
    page = completed(shown, has_more=True)
    assert listings.not_completed([b], page, 50.0, 80.0) == [b]
    assert listings.is_usable(COMPLETED, 80.0)
    # The witness is used up, and does not count again.
    assert listings.not_completed([b], completed("d", has_more=True), 50.0, 80.0) == [b]


@given(
    created=st.lists(st.floats(0.0, 300.0), min_size=1, max_size=60, unique=True),
    ended=st.sets(st.integers(0, 59)),
    delays=st.lists(st.floats(0.0, REACH_SLACK - 1.1), min_size=60, max_size=60),
    size=st.integers(1, 30),
)
def test_no_completed_track_is_taken_to_run(
    created: list[float], ended: set[int], delays: list[float], size: int
) -> None:
    now = 310.0
    rows = [
        (moment, Generation(id=str(n), status="completed", created_at=_seconds(moment)))
        for n, moment in enumerate(created)
        if n in ended
    ]
    newest_first = [row for _, row in sorted(rows, key=lambda r: -r[0])]
    shown, has_more = newest_first[:size], len(newest_first) > size
    page = Page(items=tuple(shown), has_more=has_more, next_offset=size)
    dates = [row.created_at.timestamp() for row in shown if row.created_at]
    reach = min(dates) - EPOCH.timestamp() if has_more else -inf
    watched = [track(str(n), moment + delays[n]) for n, moment in enumerate(created)]
    listings = ListingHealth(scale=1.0)
    out = listings.not_completed(watched, page, reach, now)
    assert not {t.track_id for t in out} & {str(n) for n in ended}
    if not has_more:
        assert len(out) == len(set(range(len(created))) - ended)


def _seconds(moment: float) -> datetime:
    """A date as lists show it, in whole seconds."""
    return EPOCH + timedelta(seconds=int(moment))
