"""Which read comes next; pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from finetuning_async._api._models import Generation, Page
from finetuning_async._polling._absence import Absence, Sweeps
from finetuning_async._polling._listing_health import ListingHealth
from finetuning_async._polling._read_planner import (
    PAGE_SIZE,
    Read,
    choose,
    relocate_missing,
)
from finetuning_async._polling._watch_list import Watched

if TYPE_CHECKING:
    from finetuning_async._types import Kind


def tracks(
    *ids: str,
    offset: int | None = 0,
    kind: Kind = "music",
    accepted_at: float | None = None,
    status_due_by: float = -inf,
) -> list[Watched]:
    made = [Watched(track_id, kind) for track_id in ids]
    for track in made:
        track.offset = offset
        track.accepted_at = accepted_at
        track.status_due_by = status_due_by
    return made


def chosen(
    due: list[Watched], listings: ListingHealth | None = None, now: float = 0.0
) -> Read:
    return choose(
        due, now=now, listings=listings or ListingHealth(scale=1.0), sweeps=Sweeps()
    )


def page(*ids: str, has_more: bool = False, next_offset: int = 99) -> Page[Generation]:
    rows = tuple(Generation(id=track_id, status="processing") for track_id in ids)
    return Page(items=rows, has_more=has_more, next_offset=next_offset)


def test_one_track_is_read_by_its_own_get_alone() -> None:
    call = chosen(tracks("a/b ?")).call
    assert (call.method, call.path) == ("GET", "/v1/generations/a%2Fb%20%3F")
    assert not call.query


def test_several_tracks_are_read_by_a_page() -> None:
    call = chosen(tracks("a", "b")).call
    assert call.path == "/v1/generations"
    assert call.query == {"limit": PAGE_SIZE, "offset": 0}


def test_families_do_not_share_a_page() -> None:
    due = [*tracks("a", kind="sound_effect"), *tracks("b", "c")]
    assert chosen(due).call.path == "/v1/sound-effects/a"
    due = [*tracks("b"), *tracks("a", kind="sound_effect"), *tracks("c")]
    read = chosen(due)
    assert [track.track_id for track in read.tracks] == ["b", "c"]
    assert read.family == "generations"


def test_a_list_for_a_missing_track_shows_what_else_is_due_on_its_page() -> None:
    missing, asked_for = tracks("missing", "asked for")
    missing.absence = Absence(0.0, ["generations"])
    missing.absence.on_404("generations", 0.0)
    asked_for.absence = Absence(0.0, ["generations"])  # its GET comes first
    due = [
        missing,
        asked_for,
        *tracks("on the page"),
        *tracks("on the next", offset=99),
        *tracks("effect", kind="sound_effect"),
    ]
    read = chosen(due)
    assert (read.family, read.offset) == ("generations", 0)
    assert [track.track_id for track in read.tracks] == ["missing", "on the page"]
    assert [track.track_id for track in chosen(due[1:]).tracks] == ["asked for"]


def test_only_where_no_kind_is_known_a_look_among_the_effects_is_a_guess() -> None:
    effect, unknown, plain = tracks("a", "b", "c", kind="sound_effect")
    effect.absence = Absence(0.0, ["sound_effects"])
    unknown.absence = Absence(0.0, ["generations", "sound_effects"])
    assert Read("sound_effects", [unknown]).is_guess
    assert not Read("generations", [unknown]).is_guess
    for track in (effect, plain):
        assert not Read("sound_effects", [track]).is_guess
        assert not Read("sound_effects", [unknown, track]).is_guess


def test_the_most_urgent_track_decides() -> None:
    due = [*tracks("x", offset=None), *tracks("a", "b")]
    assert chosen(due).call.path == "/v1/generations/x"
    due = [*tracks("y", "z", offset=99), *tracks("a", "b")]
    assert chosen(due).offset == 99


def test_without_a_usable_list_each_track_gets_its_own_get() -> None:
    listings = ListingHealth(scale=1.0)
    listings.page_refused(("generations", False), 0.0)
    assert chosen(tracks("a", "b"), listings).offset is None
    effects = tracks("a", "b", kind="sound_effect")
    assert chosen(effects, listings).offset == 0


def test_a_partial_row_gets_its_own_get() -> None:
    due = tracks("a", "b", "c")
    due[0].partial_row = Generation(id="a", status="failed")
    assert chosen(due).call.path == "/v1/generations/a"
    assert [t.track_id for t in chosen(due[1:] + due[:1]).tracks] == [
        "b",
        "c",
    ]


def test_a_missing_row_is_looked_for_on_the_next_page() -> None:
    due = tracks("a", "b", "c")
    read = Read("generations", due, 0)
    absent = relocate_missing(read, page("a", has_more=True, next_offset=99))
    assert [(t.track_id, t.offset) for t in absent] == [("b", 99), ("c", 99)]


@pytest.mark.parametrize(
    "shown", [page("a"), page("other", has_more=True)], ids=["last page", "none found"]
)
def test_a_row_on_no_page_gets_its_own_get(shown: Page[Generation]) -> None:
    due = tracks("b", "c")
    absent = relocate_missing(Read("generations", due, 0), shown)
    assert [track.offset for track in absent] == [None, None]


def test_tracks_on_several_pages_are_read_by_the_completed_list() -> None:
    early = tracks("a", "b", offset=99, accepted_at=0.0, status_due_by=50.0)
    late = tracks("c", "d", accepted_at=20.0, status_due_by=50.0)
    read = chosen([*early, *late], now=40.0)
    assert read.call.path == "/v1/generations"
    assert read.call.query == {
        "limit": PAGE_SIZE,
        "offset": 0,
        "status": "completed",
    }
    assert read.tracks == [*early, *late]
    assert read.listing == ("generations", True)


def test_tracks_on_the_first_page_are_read_by_that_page() -> None:
    due = tracks("a", "b", accepted_at=0.0, status_due_by=50.0)
    assert not chosen(due, now=40.0).is_filtered


def test_one_track_on_another_page_gets_its_own_get() -> None:
    (due,) = tracks("a", offset=99, accepted_at=0.0, status_due_by=50.0)
    assert chosen([due], now=40.0).offset is None


def test_a_status_that_is_due_is_not_left_to_the_completed_list() -> None:
    stale = tracks("a", "b", offset=99, accepted_at=0.0, status_due_by=40.0)
    fresh = tracks("c", "d", accepted_at=0.0, status_due_by=50.0)
    fresh += tracks("e", offset=99, accepted_at=0.0, status_due_by=50.0)
    effects = tracks("f", kind="sound_effect", accepted_at=0.0, status_due_by=50.0)
    read = chosen([*stale, *fresh], now=40.0)
    assert (read.offset, read.is_filtered) == (99, False)
    assert read.tracks == [*stale, fresh[2]]
    read = chosen([*fresh, *effects, *stale], now=40.0)
    assert read.is_filtered
    assert read.tracks == fresh


def test_unlisted_tracks_and_partial_rows_get_their_own_get() -> None:
    fresh = tracks("c", accepted_at=0.0, status_due_by=50.0)
    fresh += tracks("d", offset=99, accepted_at=0.0, status_due_by=50.0)
    unlisted = tracks("a", offset=None, accepted_at=0.0, status_due_by=50.0)
    cut_short = tracks("b", accepted_at=0.0, status_due_by=50.0)
    cut_short[0].partial_row = Generation(id="b", status="failed")
    for special in (unlisted, cut_short):
        assert chosen([*special, *fresh], now=40.0).tracks == special
        assert chosen([*fresh, *special], now=40.0).tracks == fresh


def test_a_track_older_than_a_page_is_looked_for_on_the_next() -> None:
    for ages, expected in (
        ((5.0, 5.0), [99, 99]),
        ((5.0, 15.0), [99, None]),
        ((5.0, 10.0), [99, None]),
        ((5.0, None), [99, None]),
    ):
        due = tracks("a", "b")
        due[0].accepted_at, due[1].accepted_at = ages
        read = Read("generations", due, 0)
        relocate_missing(read, page("other", has_more=True, next_offset=99), reach=10.0)
        assert [track.offset for track in due] == expected


@pytest.mark.parametrize(("count", "offset"), [(1, None), (2, None), (3, 198)])
def test_no_more_pages_are_tried_than_gets_would_cost(
    count: int, offset: int | None
) -> None:
    due = tracks(*map(str, range(count)), offset=99, accepted_at=0.0)
    read = Read("generations", due, 99)
    relocate_missing(read, page("other", has_more=True, next_offset=198), reach=10.0)
    assert {track.offset for track in due} == {offset}


def test_after_the_last_page_a_track_gets_its_own_get() -> None:
    due = tracks("a", "b", "c", accepted_at=0.0)
    relocate_missing(
        Read("generations", due, 0), page("other", next_offset=99), reach=10.0
    )
    assert {track.offset for track in due} == {None}


@given(
    listed=st.lists(st.integers(0, 400), unique=True, max_size=400),
    watched=st.sets(st.integers(0, 400), min_size=1, max_size=60),
)
def test_every_track_is_read_within_few_reads_whatever_the_list_shows(
    listed: list[int], watched: set[int]
) -> None:
    waiting = {str(n): Watched(str(n), "music") for n in sorted(watched)}
    rows = [str(n) for n in listed]
    reads = 0
    while waiting:
        read = chosen(list(waiting.values()))
        reads += 1
        if read.offset is None:
            del waiting[read.tracks[0].track_id]
            continue
        end = read.offset + PAGE_SIZE
        shown = rows[read.offset : end]
        relocate_missing(read, page(*shown, has_more=end < len(rows), next_offset=end))
        for track_id in shown:
            waiting.pop(track_id, None)
    unlisted = len(watched - set(listed))
    pages = len(rows) // PAGE_SIZE + 1
    # Each page is read once and shows something, or all it should show is left to
    # reads of their own.
    assert reads <= pages + len(watched)
    if unlisted == 0 and len(rows) <= PAGE_SIZE:
        assert reads == 1
