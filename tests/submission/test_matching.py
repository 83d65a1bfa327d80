"""Which row of a list is the track of a lost create, and how far a list is read."""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs
import pytest

from finetuning_async._api import Generation, Page, parsing
from finetuning_async._submission._listing import (
    WELL_BEFORE,
    CompleteListing,
    read_list,
)
from finetuning_async._submission._matching import (
    FAR,
    ListedRow,
    SearchCriteria,
    choose,
    possible_matches,
)

SENT_AT = 1_772_445_600.0

OURS = SearchCriteria(kind="music", prompt="rain", seed=7, is_ours=True, since=SENT_AT)
CALLERS = attrs.evolve(OURS, is_ours=False)
NO_SEED = attrs.evolve(CALLERS, seed=None)


def row(track_id: str = "a", **fields: Any) -> ListedRow:
    usual = {"kind": "music", "prompt": "rain", "seed": 7, "created_at": SENT_AT}
    return ListedRow(id=track_id, **{**usual, **fields})


def ids(found: tuple[ListedRow | None, tuple[ListedRow, ...]]) -> tuple[Any, ...]:
    one, several = found
    return (one and one.id, *(each.id for each in several))


def test_of_two_rows_with_the_callers_seed_the_one_with_the_very_prompt_is_it() -> None:
    rows = [row("a", prompt="rain, live"), row("b")]
    assert ids(choose(CALLERS, rows)) == ("b",)


def test_of_two_rows_alike_the_one_with_the_parameters_sent_is_it() -> None:
    rows = [row("a"), row("b")]
    assert ids(choose(CALLERS, rows)) == (None, "a", "b")
    assert ids(choose(CALLERS, rows, differs=lambda each: each.id == "a")) == ("b",)


def test_a_row_alone_may_show_another_prompt_and_other_parameters() -> None:
    changed = row(prompt="Rain, with thunder")
    assert ids(choose(CALLERS, [changed], differs=lambda _: True)) == ("a",)


def test_while_another_create_shares_the_seed_only_the_very_prompt_is_proof() -> None:
    longer = row(prompt="rain, live")
    assert ids(choose(CALLERS, [longer], is_shared=True)) == (None, "a")
    assert ids(choose(CALLERS, [row()], is_shared=True)) == ("a",)
    assert ids(choose(OURS, [longer], is_shared=True)) == ("a",)


@pytest.mark.parametrize(
    ("fields", "is_sure"),
    [
        ({}, True),
        ({"created_at": SENT_AT - 0.5}, False),
        ({"created_at": None}, False),
        ({"kind": None}, False),
        ({"kind": "instrumental"}, False),
        ({"prompt": "snow"}, False),
        ({"prompt": ""}, False),
    ],
)
def test_with_the_callers_seed_a_row_is_sure_if_it_matches_in_all_fields(
    fields: dict[str, Any], *, is_sure: bool
) -> None:
    found = choose(CALLERS, [row(**fields)])
    assert ids(found) == (("a",) if is_sure else (None, "a"))
    assert ids(choose(OURS, [row(**fields)])) == ("a",)


def test_a_row_that_is_merely_near_is_no_candidate_beside_one_that_matches() -> None:
    early = row("a", created_at=SENT_AT - 60)
    vague = row("b", kind=None)
    assert ids(choose(CALLERS, [early, vague])) == (None, "b")


@pytest.mark.parametrize(
    ("fields", "is_candidate"),
    [
        ({}, True),
        ({"prompt": ""}, True),
        ({"prompt": "RAIN, live"}, True),
        ({"prompt": "snow"}, False),
        ({"created_at": None}, True),
        ({"created_at": SENT_AT - FAR}, True),
        ({"created_at": SENT_AT - FAR - 1}, False),
    ],
)
def test_a_row_without_a_seed_is_a_candidate_by_its_prompt_unless_it_is_old(
    fields: dict[str, Any], *, is_candidate: bool
) -> None:
    found = choose(OURS, [row(**{"seed": None, **fields})])
    assert ids(found) == ((None, "a") if is_candidate else (None,))


@pytest.mark.parametrize(
    ("fields", "is_candidate"),
    [
        ({}, True),
        ({"created_at": SENT_AT - 1}, True),
        ({"created_at": SENT_AT - FAR - 1}, False),
        ({"prompt": "rain, live"}, False),
    ],
)
def test_without_a_seed_the_very_prompt_makes_a_candidate_and_never_a_proof(
    fields: dict[str, Any], *, is_candidate: bool
) -> None:
    found = choose(NO_SEED, [row(**fields)])
    assert ids(found) == ((None, "a") if is_candidate else (None,))


def test_a_row_with_the_seed_or_a_young_one_without_any_may_be_the_lost_track() -> None:
    rows = [
        row("a", created_at=SENT_AT - FAR - 1),
        row("b", seed=None),
        row("c", seed=None, created_at=SENT_AT - FAR - 1),
        row("d", seed=8),
    ]
    assert possible_matches(OURS, rows) == ("a", "b")


def page(*dates: float) -> Page[Generation]:
    """The first page of a longer list, of rows with these dates."""
    rows = tuple(
        attrs.evolve(
            parsing.generation_row({"id": f"{number}"}),
            created_at=dt.datetime.fromtimestamp(date, dt.UTC),
        )
        for number, date in enumerate(dates)
    )
    return Page(items=rows, has_more=True, next_offset=0, raw={"hasMore": True})


@pytest.mark.parametrize(
    ("dates", "reads"),
    [
        ((SENT_AT, SENT_AT - WELL_BEFORE - 1), 1),
        ((SENT_AT, SENT_AT - WELL_BEFORE), 2),
        ((SENT_AT - WELL_BEFORE - 1, SENT_AT), 2),
        ((SENT_AT - WELL_BEFORE - 1,), 2),
    ],
    ids=["goes back", "does not quite", "is in no order", "shows no order"],
)
async def test_reading_stops_at_a_page_in_order_that_goes_back_far_enough(
    dates: tuple[float, ...], reads: int
) -> None:
    offsets: list[int] = []

    async def read(offset: int) -> Page[Generation]:
        offsets.append(offset)
        return page(*dates) if len(offsets) == 1 else page()

    await read_list(read, max_pages=5, verify_end=True, since=SENT_AT)
    assert len(offsets) == reads


async def read_pages(rows: int, limit: int, skip: int = 0) -> CompleteListing | None:
    """Read a list of so many rows; `skip` of them vanish before each later page."""

    async def read(offset: int) -> Page[Generation]:
        start = offset + skip if offset else 0
        ids = range(start, min(start + limit, rows))
        items = tuple(parsing.generation_row({"id": f"{each}"}) for each in ids)
        has_more = start + limit < rows
        raw = {"hasMore": has_more}
        return Page(items=items, has_more=has_more, next_offset=0, raw=raw)

    return await read_list(read, max_pages=20, verify_end=True)


@pytest.mark.parametrize(
    ("limit", "skip", "is_whole"), [(3, 0, True), (3, 1, False), (1, 0, False)]
)
async def test_a_list_is_whole_if_each_page_begins_with_the_last_row_before_it(
    limit: int, skip: int, *, is_whole: bool
) -> None:
    listing = await read_pages(8, limit, skip)
    assert listing is not None
    assert listing.is_whole is is_whole
    assert skip or len(listing.rows) == 8


async def test_a_page_with_the_last_row_alone_is_not_the_end_if_there_is_more() -> None:
    pages = [(("a", "b"), True), (("b",), True), ((), False)]

    async def read(offset: int) -> Page[Generation]:
        ids, has_more = pages.pop(0)
        items = tuple(parsing.generation_row({"id": each}) for each in ids)
        raw = {"hasMore": has_more}
        return Page(items=items, has_more=has_more, next_offset=0, raw=raw)

    listing = await read_list(read, max_pages=5, verify_end=True)
    assert listing is not None
    assert ([row.id for row in listing.rows], listing.is_whole) == (["a", "b"], True)
