"""What is known of the lists; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from hypothesis import given, strategies as st

from finetuning_async._api._models import Generation, Page
from finetuning_async._polling._listing_health import (
    ENOUGH_FAILURES,
    REACH_SLACK,
    REST_AFTER_FAILURES,
    REST_AFTER_REFUSAL,
    ListingHealth,
    ListKind,
)
from finetuning_async._polling._schedule import SHOWN_EVERY
from finetuning_async._polling._watch_list import Watched

WHOLE: ListKind = ("generations", False)
COMPLETED: ListKind = ("generations", True)
EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def track(name: str, accepted_at: float | None = 0.0, show_by: float = inf) -> Watched:
    made = Watched(name, "music")
    made.accepted_at = accepted_at
    made.show_by = show_by
    return made


def completed(*ids: str, has_more: bool = False) -> Page[Generation]:
    rows = tuple(Generation(id=track_id, status="completed") for track_id in ids)
    return Page(items=rows, has_more=has_more, next_offset=len(rows))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_list_that_fails_and_fails_rests_and_is_tried_again(scale: float) -> None:
    lists = ListingHealth(scale=scale)
    for _ in range(ENOUGH_FAILURES):
        assert lists.are_usable(WHOLE, 0.0)
        lists.failed(WHOLE, 0.0)
    assert not lists.are_usable(WHOLE, 0.0)
    assert lists.are_usable(COMPLETED, 0.0)
    assert not lists.are_usable(WHOLE, REST_AFTER_FAILURES * scale - 1)
    assert lists.are_usable(WHOLE, REST_AFTER_FAILURES * scale)


def test_one_page_that_works_clears_its_list() -> None:
    lists = ListingHealth(scale=1.0)
    for _ in range(ENOUGH_FAILURES * 2):
        lists.failed(WHOLE, 0.0)
        lists.worked(WHOLE)
    assert lists.are_usable(WHOLE, 0.0)


def test_a_refused_list_rests_for_longer() -> None:
    lists = ListingHealth(scale=0.1)
    lists.refused(("sound_effects", False), 0.0)
    assert lists.are_usable(WHOLE, 0.0)
    rest = REST_AFTER_REFUSAL / 10
    assert not lists.are_usable(("sound_effects", False), rest - 1)
    assert lists.are_usable(("sound_effects", False), rest)


def test_a_page_is_the_first_until_something_is_known() -> None:
    lists = ListingHealth(scale=1.0)
    a, b = track("a", 0.0), track("b", None)
    assert lists.on_first_page([a, b], 1000.0)
    b.offset = 99
    assert not lists.on_first_page([a, b], 1000.0)


def test_what_is_older_than_the_first_page_is_not_on_it() -> None:
    lists = ListingHealth(scale=0.1)
    lists.first_page_spans("generations", 10.0, 100.0)
    assert lists.on_first_page([track("a", 91.0), track("b", None)], 100.0)
    assert lists.on_first_page([track("a", 91.0)], 101.0)
    assert not lists.on_first_page([track("a", 91.0), track("b", 95.0)], 101.1)
    assert not lists.on_first_page([track("a", 0.0)], 100 + SHOWN_EVERY / 10)
    assert lists.on_first_page([track("a", 0.0)], 100.1 + SHOWN_EVERY / 10)


def test_completed_ones_are_not_asked_for_what_must_be_shown() -> None:
    lists = ListingHealth(scale=1.0)
    assert lists.tell_end(track("a", show_by=10.0), 9.9)
    assert not lists.tell_end(track("a", show_by=10.0), 10.0)
    assert not lists.tell_end(track("a", None), 0.0)
    lists.refused(COMPLETED, 0.0)
    assert not lists.tell_end(track("a"), 0.0)


def test_what_completed_ones_do_not_show_has_not_completed_if_they_reach_so_far() -> (
    None
):
    lists = ListingHealth(scale=1.0)
    old, new = track("old", 50 + REACH_SLACK), track("new", 50.1 + REACH_SLACK)
    done = track("done", 60.0)
    page = completed("done", "stranger", has_more=True)
    assert lists.not_completed([old, new, done], page, 50.0, 70.0) == [new]
    assert not lists.tell_end(old, 70.0)
    assert lists.tell_end(new, 70.0)
    assert lists.not_completed([old, new], completed("done"), -inf, 71.0) == [old, new]
    assert lists.tell_end(old, 70.0)
    assert lists.not_completed([old, new], page, inf, 72.0) == []


@pytest.mark.parametrize("status", ["processing", "failed", "queued"])
def test_a_service_that_does_not_filter_is_noticed(status: str) -> None:
    lists = ListingHealth(scale=1.0)
    rows = (
        Generation(id="x", status="completed"),
        Generation(id="a", status=status),
    )
    page = Page(items=rows, has_more=False, next_offset=2)
    assert lists.not_completed([track("b")], page, -inf, 0.0) == []
    assert not lists.are_usable(COMPLETED, REST_AFTER_REFUSAL - 1)
    assert lists.are_usable(COMPLETED, REST_AFTER_REFUSAL)
    assert lists.are_usable(WHOLE, 0.0)


def test_a_list_that_hides_what_has_completed_is_noticed() -> None:
    lists = ListingHealth(scale=1.0)
    lists.has_completed(track("a", 60.0))
    assert lists.not_completed([track("b")], completed("c"), -inf, 0.0) == []
    assert not lists.are_usable(COMPLETED, 0.0)


@pytest.mark.parametrize(
    ("shown", "accepted_at"),
    [("a", 60.0), ("c", 40.0), ("c", None)],
    ids=["shown", "too old", "of unknown age"],
)
def test_a_list_that_shows_all_it_should_is_believed(
    shown: str, accepted_at: float | None
) -> None:
    lists = ListingHealth(scale=1.0)
    lists.has_completed(track("a", accepted_at))
    b = track("b", 70.0)
    page = completed(shown, has_more=True)
    assert lists.not_completed([b], page, 50.0, 80.0) == [b]
    assert lists.are_usable(COMPLETED, 80.0)
    # It has been heard, and is not asked again.
    assert lists.not_completed([b], completed("d", has_more=True), 50.0, 80.0) == [b]


@given(
    created=st.lists(st.floats(0.0, 300.0), min_size=1, max_size=60, unique=True),
    ended=st.sets(st.integers(0, 59)),
    answered=st.lists(st.floats(0.0, REACH_SLACK - 1.1), min_size=60, max_size=60),
    size=st.integers(1, 30),
)
def test_no_track_that_has_completed_is_taken_to_run(
    created: list[float], ended: set[int], answered: list[float], size: int
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
    watched = [track(str(n), moment + answered[n]) for n, moment in enumerate(created)]
    lists = ListingHealth(scale=1.0)
    out = lists.not_completed(watched, page, reach, now)
    assert not {t.track_id for t in out} & {str(n) for n in ended}
    if not has_more:
        assert len(out) == len(set(range(len(created))) - ended)


def _seconds(moment: float) -> datetime:
    """A date as lists show it: in whole seconds."""
    return EPOCH + timedelta(seconds=int(moment))
