"""`LoadChanged`: creates that wait or are in doubt, and tracks in flight."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    Event,
    GenerationEnded,
    LoadChanged,
    LocalRateLimiter,
    RateLimit,
    RateLimits,
    RateLimitWaited,
    SubmissionUnknownError,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from finetuning_async import AsyncClient
    from finetuning_async._types import Priority

CREATE = "/v1/generations"
LIMITS = RateLimits(creates=RateLimit(2, per=60.0), reads=RateLimit(60, per=60.0))


def _loads(seen: list[Event]) -> list[LoadChanged]:
    return [event for event in seen if isinstance(event, LoadChanged)]


def _waiting(load: LoadChanged) -> tuple[int, int, int]:
    return load.waiting_high, load.waiting_normal, load.waiting_low


async def test_a_track_is_in_flight_from_its_acceptance_to_its_end() -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (_, client):
        await client.generations.create("x")
        (load,) = _loads(seen)
        assert (load.in_flight, load.in_doubt, _waiting(load)) == (1, 0, (0, 0, 0))
        await client.generate("y")
    loads = _loads(seen)
    assert [load.in_flight for load in loads][:2] == [1, 2]
    assert loads[-1].in_flight <= 1
    assert [load.creates_free for load in loads][:2] == [9, 8]


async def _create(client: AsyncClient, priority: Priority) -> None:
    await client.generations.create("x", priority=priority)


async def test_creates_wait_by_priority_and_the_last_report_is_true() -> None:
    seen: list[Event] = []
    emulator = Emulator(creates_per_minute=2)
    async with emulated(emulator, rate_limits=LIMITS, on_event=seen.append) as (
        _,
        client,
    ):
        async with anyio.create_task_group() as group:
            for priority in ("normal",) * 4 + ("high", "low", "low"):
                group.start_soon(_create, client, priority)
        loads = _loads(seen)
    highest = [max(counts) for counts in zip(*map(_waiting, loads), strict=True)]
    # The first goes alone, since its response shows how the service counts. On trio,
    # which begins tasks in any order, it may be the one of high priority.
    assert highest in ([1, 3, 2], [0, 4, 2])
    assert _waiting(loads[-1]) == (0, 0, 0)
    states = [(_waiting(load), load.in_flight, load.in_doubt) for load in loads]
    assert all(a != b for a, b in pairwise(states))


async def test_the_free_permits_are_those_of_the_moment() -> None:
    free: list[tuple[int | None, int | None]] = []
    asked: list[tuple[int | None, int | None]] = []

    def note(event: Event) -> None:
        if isinstance(event, LoadChanged):
            status = view.rate_limit_status()
            free.append((event.creates_free, event.reads_free))
            asked.append((status.creates.available, status.reads.available))

    async with emulated(Emulator(creates_per_minute=2), rate_limits=LIMITS) as (
        _,
        client,
    ):
        view = client.with_options(on_event=note)
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(_create, view, "normal")
    assert free == asked
    assert {creates for creates, _ in free} >= {0, 1}


async def test_a_create_that_is_cancelled_does_not_wait_any_more() -> None:
    seen: list[Event] = []
    emulator = Emulator(creates_per_minute=2)
    async with emulated(emulator, rate_limits=LIMITS, on_event=seen.append) as (
        _,
        client,
    ):
        for _ in range(2):
            await client.generations.create("x")
        with anyio.move_on_after(5):
            await client.generations.create("y", priority="high")
    assert [load.waiting_high for load in _loads(seen)] == [0, 0, 1, 0]


class _Own:
    """A limiter of the caller's: no permits by priority, no slots with them."""

    def __init__(self) -> None:
        self._inner = LocalRateLimiter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_one_that_waits_for_the_queue_alone_counts_as_well() -> None:
    seen: list[Event] = []
    async with emulated(
        Emulator(queue_size=1), on_event=seen.append, rate_limiter=_Own()
    ) as (_, client):
        await client.generations.create("x")
        await client.generations.create("y", priority="high")
    assert [load.waiting_high for load in _loads(seen)][:2] == [0, 1]
    assert _loads(seen)[-1].waiting_high == 0
    (waited,) = [event for event in seen if isinstance(event, RateLimitWaited)]
    assert waited.budget == "queue"
    assert waited.duration > 10
    assert waited.attempt == 2, "the first one met the full queue"


async def test_a_lost_create_is_in_doubt_until_it_is_found_or_given_up() -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", CREATE))
        await client.generations.create("x")
        found = _loads(seen)
        assert [load.in_doubt for load in found] == [1, 1, 0]
        assert [load.in_flight for load in found] == [0, 1, 1]
        emulator.add_fault(Fault("lost_before_commit", CREATE))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("y")
        emulator.add_fault(Fault("lost_before_commit", CREATE))
        with anyio.move_on_after(2):
            await client.generations.create("z")
    assert {load.in_doubt for load in _loads(seen)[3:]} == {0, 1}
    assert _loads(seen)[-1].in_doubt == 0


async def test_each_client_of_the_account_that_listens_gets_the_load_of_all() -> None:
    mine: list[Event] = []
    yours: list[Event] = []
    async with emulated(Emulator(creates_per_minute=2), rate_limits=LIMITS) as (
        _,
        client,
    ):
        view = client.with_options(on_event=mine.append)
        other = client.with_options(on_event=yours.append)
        for each in (view, other):
            await each.me()
        async with anyio.create_task_group() as group:
            for _ in range(3):  # of a client that does not listen itself
                group.start_soon(_create, client, "low")
        assert max(load.waiting_low for load in _loads(mine)) >= 1
        assert _loads(mine) == _loads(yours)
        assert _loads(mine)[-1].in_flight == 3
        count = len(yours)
        del other, each
        gc.collect()
        await client.generations.create("x")
        assert len(yours) == count
        assert _loads(mine)[-1].in_flight >= 1


class _Broken(_Own):
    is_broken = False

    def status(self) -> Any:
        if self.is_broken:
            raise RuntimeError("of the limiter")
        return self._inner.status()


async def test_a_limiter_that_cannot_say_what_is_free_ends_no_create(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Event] = []
    limiter = _Broken()
    async with emulated(rate_limiter=limiter) as (_, client):
        view = client.with_options(on_event=seen.append)
        await view.me()
        limiter.is_broken = True
        assert (await client.generations.create("x")).status == "pending"
    assert "reading the free permits" in caplog.text
    assert _loads(seen) == []


async def test_an_end_says_how_late_it_was_seen_at_most() -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (emulator, client):
        for number in range(4):
            track = await client.generate(f"n {number}")
            ended = next(e for e in reversed(seen) if isinstance(e, GenerationEnded))
            assert ended.noticed_after is not None
            real = ended.at - emulator.tracks[track.id].ends_at
            # The service's clock is known to a second, as its Date header is.
            assert real - 0.01 <= ended.noticed_after <= real + 1.5


async def test_the_time_before_anybody_waited_is_not_late() -> None:
    seen: list[Event] = []
    async with emulated(on_event=seen.append) as (_, client):
        waited, listed = [await client.generations.create("x") for _ in range(2)]
        await anyio.sleep(500)
        await client.wait_for_completion(waited)
        await client.generations.get(listed.id)
    ends = {e.generation_id: e for e in seen if isinstance(e, GenerationEnded)}
    late = ends[waited.id].noticed_after
    assert late is not None
    assert late < 3
    assert ends[listed.id].noticed_after is None
