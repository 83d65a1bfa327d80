"""What a page says about the lists, and about tracks that it does not show."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import APIConnectionError, InternalServerError
from finetuning_async._polling._listing_health import MAX_FAILURES
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


async def test_the_completed_list_is_checked_by_the_whole_list_only() -> None:
    for is_filtered in (False, True):
        harness = DispatchHarness()
        for name in ("a", "b", "c"):
            harness.accept(name)
        a, b, c = (harness.watch(name)[0] for name in ("a", "b", "c"))
        await anyio.sleep(30)
        harness.page([a, b], row("a", "completed"), row("b"), is_filtered=is_filtered)
        harness.listings._paused_until.clear()
        harness.page([b, c], is_filtered=True)  # the first one may have been deleted
        usable = harness.listings.is_usable(("generations", True), anyio.current_time())
        assert usable is is_filtered


async def test_the_completed_list_sets_no_offsets() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    a.offset = 99
    harness.page([a], {**row("a", "completed"), "audioUrl": None}, is_filtered=True)
    assert a.offset == 99
    harness.page([a], row("a"), offset=198)
    assert a.offset == 198


@pytest.mark.parametrize("family", ["generations", "sound_effects"])
async def test_a_page_without_a_next_offset_is_followed_by_the_next_rows(
    family: Family,
) -> None:
    harness = DispatchHarness()
    name = "generations" if family == "generations" else "soundEffects"
    for track_id in ("a", "b"):
        harness.accept(track_id, "music" if family == "generations" else "sound_effect")
    (a, _), (b, _) = harness.watch("a"), harness.watch("b")
    data = {name: [row("x"), row("b")], "hasMore": True}
    harness.dispatcher.dispatch(Read(family, [a, b], 99), reply(data))
    assert (a.offset, b.offset) == (101, 99)


async def test_only_the_first_page_sets_the_span() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    await anyio.sleep(100)
    harness.set_clock()
    now = anyio.current_time()
    recent = row("x", "completed", createdAt=at(70))
    undated = row("y", "completed")
    harness.page([a], recent, offset=99, has_more=True)
    a.offset = 0
    assert harness.listings.on_first_page([a], now)
    harness.page([a], recent)
    a.offset = 0
    assert harness.listings.on_first_page([a], now)  # there is no other page
    harness.page([a], undated, recent, has_more=True)
    a.offset = 0
    assert not harness.listings.on_first_page([a], now)


@pytest.mark.parametrize("knows", ["all", "no time", "no dates"])
async def test_without_dates_the_reach_of_a_page_is_unknown(knows: str) -> None:
    harness = DispatchHarness()
    await anyio.sleep(50)
    harness.accept("a")
    a, _ = harness.watch("a")
    await anyio.sleep(30)
    if knows != "no time":
        harness.set_clock()
    has_dates = knows != "no dates"
    rows = [
        row(name, "completed", **({"createdAt": at(created)} if has_dates else {}))
        for name, created in (("newest", 70), ("oldest", 20))
    ]
    before = a.status_due_by, a.next_look
    harness.page([a], *rows, is_filtered=True, has_more=True)
    is_known = knows == "all"
    assert (a.seen_running_at > 0) is is_known
    assert harness.listings.can_use_completed_list(a, before[0] - 1) is is_known
    assert a.status_due_by == before[0]  # its status was not shown
    assert (a.next_look == before[1]) is not is_known


@pytest.mark.parametrize("is_filtered", [False, True])
async def test_only_errors_of_the_service_count_against_a_list(
    *, is_filtered: bool
) -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, waits = harness.watch("a")
    now = anyio.current_time()
    listing = COMPLETED if is_filtered else WHOLE
    other = WHOLE if is_filtered else COMPLETED
    read = Read("generations", [a], 0, is_filtered=is_filtered)
    for _ in range(2 * MAX_FAILURES):
        harness.failed(read, APIConnectionError("reset"))
    assert harness.listings.is_usable(listing, now)
    for _ in range(MAX_FAILURES):
        harness.failed(read, InternalServerError("x", status_code=500))
    assert not harness.listings.is_usable(listing, now)
    assert harness.listings.is_usable(other, now)
    fresh = DispatchHarness()
    fresh.refused(Read("generations", [a, a], 0, is_filtered), not_found())
    assert not fresh.listings.is_usable(listing, now)
    assert fresh.listings.is_usable(other, now)
    assert a.failures == 0
    assert waits.error is None


async def test_a_page_that_works_clears_the_failures_of_its_list() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    read, error = Read("generations", [a], 0), InternalServerError("x", status_code=500)
    for _ in range(MAX_FAILURES):
        harness.failed(read, error)
        harness.page([a], row("a"))
    assert harness.listings.is_usable(WHOLE, anyio.current_time())


async def test_a_page_removes_all_ended_tracks_from_the_register() -> None:
    harness = DispatchHarness()
    for name in ("a", "b", "c"):
        harness.accept(name)
    a, _ = harness.watch("a")
    harness.page([a], row("a"), row("b", "completed"), row("c"), row("x", "failed"))
    assert set(harness.inflight.tracks) == {"a", "c"}
    assert set(harness.inflight._ends) == {"b"}  # "x" is not known here


async def test_a_running_track_is_no_witness_against_the_completed_list() -> None:
    harness = DispatchHarness()
    harness.accept("a")
    a, _ = harness.watch("a")
    await anyio.sleep(30)
    for status in ("processing", "failed", "queued"):
        harness.page([a], row("a", status))
        harness.page([a], is_filtered=True)
        assert harness.listings.is_usable(COMPLETED, anyio.current_time())


async def test_only_an_urgent_look_stays_urgent_on_the_next_page() -> None:
    harness = DispatchHarness()
    for name in ("a", "b", "c"):
        harness.accept(name)
    (a, _), (b, _), (c, _) = harness.watch("a"), harness.watch("b"), harness.watch("c")
    now = anyio.current_time()
    a.status_due_by = -inf
    harness.page([a, b, c], row("c"), has_more=True)
    assert (a.is_urgent, a.next_look, a.offset) == (True, -inf, 99)
    assert (b.is_urgent, b.offset) == (False, 99)
    assert b.next_look == pytest.approx(now, abs=0.01)
