"""What a page tells of the lists, and of the tracks it does not show."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import APIConnectionError, InternalServerError
from finetuning_async._polling._listing_health import ENOUGH_FAILURES
from finetuning_async._polling._read_planner import Read
from tests._dispatch_harness import (
    COMPLETED,
    WHOLE,
    DispatchHarness,
    at,
    not_found,
    reply,
    row,
)

if TYPE_CHECKING:
    from finetuning_async._types import Family


async def test_completed_ones_are_tested_by_what_the_whole_list_shows_only() -> None:
    for is_filtered in (False, True):
        desk = DispatchHarness()
        for name in ("a", "b", "c"):
            desk.accept(name)
        a, b, c = (desk.watch(name)[0] for name in ("a", "b", "c"))
        await anyio.sleep(30)
        desk.page([a, b], row("a", "completed"), row("b"), is_filtered=is_filtered)
        desk.lists._resting.clear()
        desk.page([b, c], is_filtered=True)  # the first one was deleted, perhaps
        usable = desk.lists.are_usable(("generations", True), anyio.current_time())
        assert usable is is_filtered


async def test_a_page_of_completed_ones_says_nothing_about_places() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    a.offset = 99
    desk.page([a], {**row("a", "completed"), "audioUrl": None}, is_filtered=True)
    assert a.offset == 99
    desk.page([a], row("a"), offset=198)
    assert a.offset == 198


@pytest.mark.parametrize("family", ["generations", "sound_effects"])
async def test_a_page_that_does_not_name_the_next_is_followed_by_the_next_rows(
    family: Family,
) -> None:
    desk = DispatchHarness()
    name = "generations" if family == "generations" else "soundEffects"
    for track_id in ("a", "b"):
        desk.accept(track_id, "music" if family == "generations" else "sound_effect")
    (a, _), (b, _) = desk.watch("a"), desk.watch("b")
    data = {name: [row("x"), row("b")], "hasMore": True}
    desk.news.take(Read(family, [a, b], 99), reply(data))
    assert (a.offset, b.offset) == (101, 99)


async def test_only_the_first_page_says_how_far_it_reaches() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    await anyio.sleep(100)
    desk.set_clock()
    now = anyio.current_time()
    recent = row("x", "completed", createdAt=at(70))
    undated = row("y", "completed")
    desk.page([a], recent, offset=99, has_more=True)
    a.offset = 0
    assert desk.lists.on_first_page([a], now)
    desk.page([a], recent)
    a.offset = 0
    assert desk.lists.on_first_page([a], now)  # there is no other page
    desk.page([a], undated, recent, has_more=True)
    a.offset = 0
    assert not desk.lists.on_first_page([a], now)


@pytest.mark.parametrize("knows", ["all", "no time", "no dates"])
async def test_without_dates_a_page_reaches_nowhere(knows: str) -> None:
    desk = DispatchHarness()
    await anyio.sleep(50)
    desk.accept("a")
    a, _ = desk.watch("a")
    await anyio.sleep(30)
    if knows != "no time":
        desk.set_clock()
    date = {} if knows == "no dates" else {"createdAt": at(20)}
    before = a.show_by, a.next_look
    desk.page([a], row("x", "completed", **date), is_filtered=True, has_more=True)
    is_known = knows == "all"
    assert (a.ran_at > 0) is is_known
    assert desk.lists.tell_end(a, before[0] - 1) is is_known
    assert a.show_by == before[0]  # it has not been shown
    assert (a.next_look == before[1]) is not is_known


@pytest.mark.parametrize("is_filtered", [False, True])
async def test_only_what_the_service_does_wrong_counts_against_a_list(
    *, is_filtered: bool
) -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, waits = desk.watch("a")
    now = anyio.current_time()
    listing = COMPLETED if is_filtered else WHOLE
    other = WHOLE if is_filtered else COMPLETED
    read = Read("generations", [a], 0, is_filtered=is_filtered)
    for _ in range(2 * ENOUGH_FAILURES):
        desk.failed(read, APIConnectionError("reset"))
    assert desk.lists.are_usable(listing, now)
    for _ in range(ENOUGH_FAILURES):
        desk.failed(read, InternalServerError("x", status_code=500))
    assert not desk.lists.are_usable(listing, now)
    assert desk.lists.are_usable(other, now)
    fresh = DispatchHarness()
    fresh.refused(Read("generations", [a, a], 0, is_filtered), not_found())
    assert not fresh.lists.are_usable(listing, now)
    assert fresh.lists.are_usable(other, now)
    assert a.failures == 0
    assert waits.error is None


async def test_a_page_that_can_be_read_clears_its_list() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    read, error = Read("generations", [a], 0), InternalServerError("x", status_code=500)
    for _ in range(ENOUGH_FAILURES):
        desk.failed(read, error)
        desk.page([a], row("a"))
    assert desk.lists.are_usable(WHOLE, anyio.current_time())


async def test_a_page_empties_the_register_of_all_that_have_ended() -> None:
    desk = DispatchHarness()
    for name in ("a", "b", "c"):
        desk.accept(name)
    a, _ = desk.watch("a")
    desk.page([a], row("a"), row("b", "completed"), row("c"), row("x", "failed"))
    assert set(desk.inflight.tracks) == {"a", "c"}
    assert set(desk.inflight._ends) == {"b"}  # nobody here knows of "x"


async def test_what_still_runs_is_no_test_of_the_completed_ones() -> None:
    desk = DispatchHarness()
    desk.accept("a")
    a, _ = desk.watch("a")
    await anyio.sleep(30)
    for status in ("processing", "failed", "queued"):
        desk.page([a], row("a", status))
        desk.page([a], is_filtered=True)
        assert desk.lists.are_usable(COMPLETED, anyio.current_time())


async def test_only_an_urgent_look_stays_urgent_on_the_next_page() -> None:
    desk = DispatchHarness()
    for name in ("a", "b", "c"):
        desk.accept(name)
    (a, _), (b, _), (c, _) = desk.watch("a"), desk.watch("b"), desk.watch("c")
    now = anyio.current_time()
    a.show_by = -inf
    desk.page([a, b, c], row("c"), has_more=True)
    assert (a.is_urgent, a.next_look, a.offset) == (True, -inf, 99)
    assert (b.is_urgent, b.offset) == (False, 99)
    assert b.next_look == pytest.approx(now, abs=0.01)
