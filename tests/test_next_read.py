"""Which read comes next; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning_async._models import Generation, Page
from finetuning_async._next_read import (
    ENOUGH_FAILURES,
    PAGE_SIZE,
    REST_AFTER_FAILURES,
    REST_AFTER_REFUSAL,
    ListHealth,
    Read,
    choose,
    missing,
)
from finetuning_async._watch_list import Watched

if TYPE_CHECKING:
    from finetuning_async._types import Kind
    from finetuning_async._watch_list import Family

BOTH: set[Family] = {"generations", "sound_effects"}


def tracks(*ids: str, offset: int | None = 0, kind: Kind = "music") -> list[Watched]:
    made = [Watched(track_id, kind) for track_id in ids]
    for track in made:
        track.offset = offset
    return made


def page(*ids: str, has_more: bool = False, next_offset: int = 99) -> Page[Generation]:
    rows = tuple(Generation(id=track_id, status="processing") for track_id in ids)
    return Page(items=rows, has_more=has_more, next_offset=next_offset)


def test_one_track_is_read_by_itself() -> None:
    call = choose(tracks("a/b ?"), lists=BOTH).call
    assert (call.method, call.path) == ("GET", "/v1/generations/a%2Fb%20%3F")
    assert not call.query


def test_several_are_read_by_a_page() -> None:
    call = choose(tracks("a", "b"), lists=BOTH).call
    assert call.path == "/v1/generations"
    assert call.query == {"limit": PAGE_SIZE, "offset": 0}


def test_families_do_not_share_a_page() -> None:
    due = [*tracks("a", kind="sound_effect"), *tracks("b", "c")]
    assert choose(due, lists=BOTH).call.path == "/v1/sound-effects/a"
    due = [*tracks("b"), *tracks("a", kind="sound_effect"), *tracks("c")]
    read = choose(due, lists=BOTH)
    assert [track.track_id for track in read.tracks] == ["b", "c"]
    assert read.family == "generations"


def test_the_most_urgent_track_decides() -> None:
    due = [*tracks("x", offset=None), *tracks("a", "b")]
    assert choose(due, lists=BOTH).call.path == "/v1/generations/x"
    due = [*tracks("y", "z", offset=99), *tracks("a", "b")]
    assert choose(due, lists=BOTH).offset == 99


def test_without_its_list_each_is_read_by_itself() -> None:
    assert choose(tracks("a", "b"), lists={"sound_effects"}).offset is None


def test_a_row_that_was_cut_short_is_read_by_itself() -> None:
    due = tracks("a", "b", "c")
    due[0].row = Generation(id="a", status="failed")
    assert choose(due, lists=BOTH).call.path == "/v1/generations/a"
    assert [t.track_id for t in choose(due[1:] + due[:1], lists=BOTH).tracks] == [
        "b",
        "c",
    ]


def test_a_missing_row_is_looked_for_on_the_next_page() -> None:
    due = tracks("a", "b", "c")
    read = Read("generations", due, 0)
    absent = missing(read, page("a", has_more=True, next_offset=99))
    assert [(t.track_id, t.offset) for t in absent] == [("b", 99), ("c", 99)]


@pytest.mark.parametrize(
    "shown", [page("a"), page("other", has_more=True)], ids=["last page", "none found"]
)
def test_a_row_that_is_nowhere_gets_its_own_read(shown: Page[Generation]) -> None:
    due = tracks("b", "c")
    absent = missing(Read("generations", due, 0), shown)
    assert [track.offset for track in absent] == [None, None]


@given(
    listed=st.lists(st.integers(0, 400), unique=True, max_size=400),
    watched=st.sets(st.integers(0, 400), min_size=1, max_size=60),
)
def test_whatever_the_list_shows_every_track_is_read_within_few_reads(
    listed: list[int], watched: set[int]
) -> None:
    waiting = {str(n): Watched(str(n), "music") for n in sorted(watched)}
    rows = [str(n) for n in listed]
    reads = 0
    while waiting:
        read = choose(list(waiting.values()), lists=BOTH)
        reads += 1
        if read.offset is None:
            del waiting[read.tracks[0].track_id]
            continue
        end = read.offset + PAGE_SIZE
        shown = rows[read.offset : end]
        missing(read, page(*shown, has_more=end < len(rows), next_offset=end))
        for track_id in shown:
            waiting.pop(track_id, None)
    unlisted = len(watched - set(listed))
    pages = len(rows) // PAGE_SIZE + 1
    # Each page is read once and shows something, or all it should show is left to
    # reads of their own.
    assert reads <= pages + len(watched)
    if unlisted == 0 and len(rows) <= PAGE_SIZE:
        assert reads == 1


def test_a_list_that_fails_and_fails_rests_and_is_tried_again() -> None:
    lists = ListHealth(scale=1.0)
    for _ in range(ENOUGH_FAILURES):
        assert "generations" in lists.usable(0.0)
        lists.failed("generations", 0.0)
    assert lists.usable(0.0) == {"sound_effects"}
    assert lists.usable(REST_AFTER_FAILURES) == BOTH


def test_one_page_that_works_clears_its_list() -> None:
    lists = ListHealth(scale=1.0)
    for _ in range(ENOUGH_FAILURES * 2):
        lists.failed("generations", 0.0)
        lists.worked("generations")
    assert lists.usable(0.0) == BOTH


def test_a_refused_list_rests_for_longer() -> None:
    lists = ListHealth(scale=0.1)
    lists.refused("sound_effects", 0.0)
    assert lists.usable(REST_AFTER_REFUSAL / 10 - 1) == {"generations"}
    assert lists.usable(REST_AFTER_REFUSAL / 10) == BOTH
