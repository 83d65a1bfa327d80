"""What holds when the store fails, hangs, is slow, forgets, or is not understood."""

from __future__ import annotations

import logging
import random

import anyio
import pytest

from finetuning_async._pacing._limits import RateLimit, RateLimits
from tests.coordination._store_setups import (
    TIMEOUT,
    MemoryStore,
    Processes,
    memory_shop,
)
from tests.coordination.test_conformance import LEASE, Service, acquired_after, request

LIMITS = RateLimits(creates=RateLimit(4), reads=RateLimit(6))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def everybody(
    shop: Processes,
    service: Service,
    *,
    count: int = 16,
    processes: int = 2,
    limits: RateLimits = LIMITS,
) -> None:
    """Have some processes send so many, and all of them served."""
    rng = random.Random(4)
    limiters = [shop.process(limits) for _ in range(processes)]
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(request, limiters[number % processes], service, rng)


def spoken(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "store of the rate" in r.message]


async def test_a_store_that_was_never_there_stops_nobody(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.gone = True
    service = Service()
    await everybody(memory_shop(store), service, count=8)
    assert len(service.counted) == 8
    assert service.refused == 0
    assert len(spoken(caplog)) == 2, "one line for each process"
    assert all(
        "unavailable (ConnectionError: nobody there)" in line for line in spoken(caplog)
    )


@pytest.mark.parametrize("trouble", ["gone", "hangs"])
async def test_those_who_wait_go_on_with_a_share_and_come_back(
    store: MemoryStore, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    service = Service()

    async def break_it() -> None:
        await anyio.sleep(70)
        if trouble == "gone":
            store.gone = True
        else:
            store.delay = 1000.0
        await anyio.sleep(150)
        assert len(service.counted) > 8, "nobody goes on"
        store.gone, store.delay = False, 0.0

    async with anyio.create_task_group() as group:
        group.start_soon(break_it)
        await everybody(memory_shop(store), service, count=24)
    assert len(service.counted) == 24
    assert service.refused <= 2, "to each the other is a stranger, once"
    assert service.worst_window() <= 4
    assert anyio.current_time() < 9 * LEASE
    lines = spoken(caplog)
    assert [line.split("(")[0] for line in lines].count(
        "the store of the rate limits is unavailable "
    ) == 2
    assert len(lines) in {3, 4}, "back once, for each process that needs it"


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("moment", [1.0, 30.0, 60.3, 61.0, 90.0, 121.5])
async def test_a_pause_of_the_store_earns_no_refusal(
    store: MemoryStore, moment: float, headers: bool
) -> None:
    limits = RateLimits(creates=RateLimit(10), reads=RateLimit(60))
    service = Service(limit=10, headers=headers)

    async def pause() -> None:
        await anyio.sleep(moment)
        store.paused_until = anyio.current_time() + 2.5

    async with anyio.create_task_group() as group:
        group.start_soon(pause)
        await everybody(
            memory_shop(store), service, count=30, processes=3, limits=limits
        )
    assert (service.refused, service.worst_window()) == (0, 10)
    assert anyio.current_time() < 2 * LEASE + 30


async def test_nobody_is_held_up_because_one_cannot_reach_the_store(
    store: MemoryStore,
) -> None:
    cut_off = MemoryStore()
    cut_off.states = store.states
    stores = iter([cut_off, store])
    shop = Processes(lambda: next(stores))
    unlucky, lucky = shop.process(), shop.process()
    await acquired_after(unlucky)
    waits: list[float] = []

    async def flap() -> None:
        while True:
            cut_off.gone = not cut_off.gone
            await acquired_after(unlucky, "reads")
            await anyio.sleep(2)

    async with anyio.create_task_group() as group:
        group.start_soon(flap)
        for _ in range(20):
            waits.append(await acquired_after(lucky, "reads"))
            await anyio.sleep(0.5)
        group.cancel_scope.cancel()
    assert max(waits) < 1


async def test_a_slow_store_is_waited_for(store: MemoryStore) -> None:
    store.delay = 0.6
    service = Service()
    await everybody(memory_shop(store), service)
    assert (service.refused, service.worst_window()) == (0, 4)


async def test_a_lost_answer_gives_no_turn_twice_and_loses_none(
    store: MemoryStore,
) -> None:
    rng = random.Random(8)

    def fails() -> bool:
        return rng.random() < 0.1

    store.fails = fails
    shop, service = memory_shop(store), Service()
    await everybody(shop, service, count=20)
    assert len(service.counted) == 20
    assert service.worst_window() <= 4
    store.fails = lambda: False
    limiter = shop.process()
    # A turn whose end nobody told is over after `TIMEOUT`; a service that has refused
    # may be a sliding counter, which counts it for two periods more.
    await anyio.sleep(TIMEOUT + 2 * LEASE)
    service.counted.clear()
    for _ in range(4):
        with anyio.fail_after(10):
            await request(limiter, service, rng, longest=0.1)


@pytest.mark.parametrize("moment", [20.0, 61.0, 62.5])
async def test_a_store_that_forgets_all_lets_no_burst_through(
    store: MemoryStore, moment: float
) -> None:
    service = Service()

    async def forget() -> None:
        await anyio.sleep(moment)
        store.states.clear()

    async with anyio.create_task_group() as group:
        group.start_soon(forget)
        await everybody(memory_shop(store), service, count=12)
    assert (service.refused, service.worst_window()) == (0, 4)


async def test_a_book_that_cannot_be_read_is_begun_anew(store: MemoryStore) -> None:
    store.states["limits"] = '{"version": 999}'
    assert await acquired_after(memory_shop(store).process()) < 1
    store.states["limits"] = "half a b"
    assert await acquired_after(memory_shop(store).process()) < 1


async def test_one_that_is_cancelled_in_an_exchange_loses_no_token(
    store: MemoryStore,
) -> None:
    store.delay = 0.4
    shop = memory_shop(store)
    first, second = shop.process(), shop.process()
    for cut in (0.1, 0.3, 0.39, 0.41, 0.5):
        with anyio.move_on_after(cut):
            (await first.acquire("creates")).unsent()
        await first.flush()
    for _ in range(5):
        assert await acquired_after(second) < 2


async def test_what_was_not_flushed_is_told_with_the_next_word(
    store: MemoryStore,
) -> None:
    shop = memory_shop(store)
    first, second = shop.process(LIMITS), shop.process(LIMITS)
    permit = await first.acquire("creates")
    permit.unsent()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await first.flush()
    (await first.acquire("reads")).unsent()
    assert second.status().creates.waiting == 0
    assert await acquired_after(second) < 1
