"""What holds when the store fails, hangs, is slow, loses its content or is damaged."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._store_client import StoreClient
from finetuning_async._pacing._limiter import LimiterWithTerms, with_terms
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async._pacing._queue_protocols import Terms
from tests.coordination._store_setups import (
    TIMEOUT,
    MemoryStore,
    Processes,
    memory_shop,
)
from tests.coordination.test_conformance import (
    LEASE,
    OK,
    Service,
    acquired_after,
    request,
    served,
    use_up,
)

if TYPE_CHECKING:
    from finetuning_async._coordination._exchange_messages import (
        ExchangeReply,
        ExchangeRequest,
    )

pytestmark = pytest.mark.sampled(2)

LIMITS = RateLimits(creates=RateLimit(4), reads=RateLimit(6))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def create_all(
    shop: Processes,
    service: Service,
    *,
    count: int = 16,
    processes: int = 2,
    limits: RateLimits = LIMITS,
) -> None:
    """Have some processes send `count` creates in all, until all are served."""
    rng = random.Random(4)
    limiters = [shop.process(limits) for _ in range(processes)]
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(request, limiters[number % processes], service, rng)


def store_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "store of the rate" in r.message]


async def test_without_a_reachable_store_all_creates_go_out(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.is_down = True
    service = Service()
    await create_all(memory_shop(store), service, count=8)
    assert len(service.counted) == 8
    assert service.refused == 0
    assert len(store_warnings(caplog)) == 2, "one line for each process"
    assert all(
        "unavailable (ConnectionError: connection refused)" in line
        for line in store_warnings(caplog)
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("failure", ["down", "hangs"])
async def test_waiting_requests_use_a_share_until_the_store_is_back(
    store: MemoryStore, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    service = Service()

    async def break_store() -> None:
        await anyio.sleep(70)
        if failure == "down":
            store.is_down = True
        else:
            store.delay = 1000.0
        await anyio.sleep(150)
        assert len(service.counted) > 8, "no process continues"
        store.is_down, store.delay = False, 0.0

    async with anyio.create_task_group() as group:
        group.start_soon(break_store)
        await create_all(memory_shop(store), service, count=24)
    assert len(service.counted) == 24
    assert service.refused <= 2, "each process takes the other for another client, once"
    assert service.worst_window() <= 4
    assert anyio.current_time() < 9 * LEASE
    lines = store_warnings(caplog)
    assert [line.split("(")[0] for line in lines].count(
        "the store of the rate limits is unavailable "
    ) == 2
    assert len(lines) in {3, 4}, "once for each process that still waits"


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("moment", "headers"),
    [
        (1.0, True),
        (30.0, False),
        (60.3, True),
        (60.3, False),
        (61.0, False),
        (90.0, True),
        (121.5, False),
    ],
)
async def test_a_pause_of_the_store_causes_no_429(
    store: MemoryStore, moment: float, headers: bool
) -> None:
    limits = RateLimits(creates=RateLimit(10), reads=RateLimit(60))
    service = Service(limit=10, headers=headers)

    async def pause() -> None:
        await anyio.sleep(moment)
        store.paused_until = anyio.current_time() + 2.5

    async with anyio.create_task_group() as group:
        group.start_soon(pause)
        await create_all(
            memory_shop(store), service, count=30, processes=3, limits=limits
        )
    assert (service.refused, service.worst_window()) == (0, 10)
    assert anyio.current_time() < 2 * LEASE + 30


async def test_a_process_that_cannot_reach_the_store_delays_no_other(
    store: MemoryStore,
) -> None:
    cut_off = MemoryStore()
    cut_off.states = store.states
    stores = iter([cut_off, store])
    shop = Processes(lambda: next(stores))
    cut_off_process, other_process = shop.process(), shop.process()
    await acquired_after(cut_off_process)
    waits: list[float] = []

    async def flap() -> None:
        while True:
            cut_off.is_down = not cut_off.is_down
            await acquired_after(cut_off_process, "reads")
            await anyio.sleep(2)

    async with anyio.create_task_group() as group:
        group.start_soon(flap)
        for _ in range(20):
            waits.append(await acquired_after(other_process, "reads"))
            await anyio.sleep(0.5)
        group.cancel_scope.cancel()
    assert max(waits) < 1


async def test_a_slow_store_is_waited_for(store: MemoryStore) -> None:
    store.delay = 0.6
    service = Service()
    await create_all(memory_shop(store), service)
    assert (service.refused, service.worst_window()) == (0, 4)


async def test_a_lost_reply_neither_doubles_nor_loses_a_permit(
    store: MemoryStore,
) -> None:
    rng = random.Random(8)

    def fails() -> bool:
        return rng.random() < 0.1

    store.fails = fails
    shop, service = memory_shop(store), Service()
    await create_all(shop, service, count=20)
    assert len(service.counted) == 20
    assert service.worst_window() <= 4
    store.fails = lambda: False
    limiter = shop.process()
    # A permit whose end was not reported expires after `TIMEOUT`. A service that has
    # refused may use a sliding counter, which counts it for two more periods.
    await anyio.sleep(TIMEOUT + 2 * LEASE)
    service.counted.clear()
    for _ in range(4):
        with anyio.fail_after(10):
            await request(limiter, service, rng, longest=0.1)


@pytest.mark.parametrize("moment", [20.0, 61.0, 62.5])
async def test_a_store_that_lost_its_content_allows_no_burst(
    store: MemoryStore, moment: float
) -> None:
    service = Service()

    async def forget() -> None:
        await anyio.sleep(moment)
        store.states.clear()

    async with anyio.create_task_group() as group:
        group.start_soon(forget)
        await create_all(memory_shop(store), service, count=12)
    assert (service.refused, service.worst_window()) == (0, 4)


async def test_an_unreadable_ledger_is_replaced(store: MemoryStore) -> None:
    store.states["limits"] = '{"version": 999}'
    assert await acquired_after(memory_shop(store).process()) < 1
    store.states["limits"] = "half a b"
    assert await acquired_after(memory_shop(store).process()) < 1


async def test_a_request_cancelled_in_an_exchange_loses_no_token(
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


async def test_a_report_that_was_not_flushed_goes_with_the_next_exchange(
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


async def test_what_a_process_shows_ages_with_the_last_exchange(
    store: MemoryStore,
) -> None:
    shop = memory_shop(store)
    limiter, other = shop.process(LIMITS), shop.process(LIMITS)
    await use_up(limiter, 4)
    await acquired_after(other, "reads")
    line = with_terms(other, Terms())
    assert isinstance(line, LimiterWithTerms)
    assert line.line_state(1).tokens == pytest.approx((LEASE,) * 4, abs=0.2)
    await anyio.sleep(30)
    (await limiter.acquire("reads")).answered(OK)
    refused = ResponseFacts(status=429, code="RATE_LIMITED", retry_after=40.0)
    (await limiter.acquire("reads")).answered(refused)
    await limiter.flush()
    before, asked = limiter.status(), anyio.current_time()
    assert before.creates.next_free_in == pytest.approx(LEASE - 30, abs=0.2)
    assert before.reads.closed_for == pytest.approx(40, abs=0.6)
    earliest = asked + before.creates.next_free_in
    assert limiter.earliest("creates") == pytest.approx(earliest, abs=0.01)
    await anyio.sleep(1.5)
    after = limiter.status()
    aged = before.creates.next_free_in - 1.5, before.reads.closed_for - 1.5
    shown = after.creates.next_free_in, after.reads.closed_for
    assert shown == pytest.approx(aged, abs=0.01)
    spoke = before.creates.service_spoke_ago, after.creates.service_spoke_ago
    assert spoke == pytest.approx((30, 31.5), abs=0.1)
    assert after.reads.service_spoke_ago is None
    line = with_terms(limiter, Terms())
    assert isinstance(line, LimiterWithTerms)
    state = line.line_state(3)
    assert (state.first, state.last, state.waiting) == (0, 2, (0, 0, 0))
    assert state.tokens == pytest.approx((LEASE - 31.5,) * 4, abs=0.2)
    await anyio.sleep(2)
    # So old that only the gates are known.
    now = anyio.current_time()
    assert limiter.earliest("creates") == pytest.approx(now, abs=0.01)
    assert limiter.earliest("reads") == pytest.approx(asked + 40, abs=0.6)


@pytest.mark.parametrize(("pause", "sent"), [(0.5, 1), (5.0, 2)])
async def test_a_process_cut_off_uses_its_part_of_what_was_free(
    store: MemoryStore, pause: float, sent: int
) -> None:
    shop = memory_shop(store)
    one, other = shop.process(LIMITS), shop.process(LIMITS)
    await served(one, ResponseFacts(status=200, limit=4, remaining=3))
    await acquired_after(other)
    await anyio.sleep(pause)
    store.is_down = True
    count = 0
    with anyio.move_on_after(20):
        while True:
            await served(other, ResponseFacts(status=200, limit=4, remaining=2 - count))
            count += 1
    # Half of the three that were free; where that is too long ago to be known, half
    # of all, one after the other.
    assert count == sent


async def test_without_the_store_a_free_permit_of_the_share_is_taken_at_once(
    store: MemoryStore,
) -> None:
    store.is_down = True
    limits = RateLimits(creates=RateLimit(8), reads=RateLimit(8))
    limiter = memory_shop(store).process(limits)
    await served(limiter, ResponseFacts(status=200, limit=8, remaining=7))
    permit = limiter.try_acquire("creates")
    assert permit is not None
    permit.unsent()
    await anyio.sleep(1.5)
    assert limiter.try_acquire("creates") is None, "it is time to try the store again"


async def test_the_ledger_learns_for_how_long_a_process_was_without_it() -> None:
    requests: list[ExchangeRequest] = []

    class Down:
        """A ledger that cannot be reached."""

        async def exchange(self, request: ExchangeRequest) -> ExchangeReply:
            requests.append(request)
            raise ConnectionError("connection refused")

    client = StoreClient(
        Down(),
        LIMITS,
        timeout=TIMEOUT,
        rng=random.Random(1),
        tracks_in_progress=lambda: 0,
        polling=lambda: 0,
    )
    await anyio.sleep(100)
    client.report("sent", "x", "creates")
    for _ in range(3):
        await client.flush()
        await anyio.sleep(5)
    told = [request.degraded_for for request in requests]
    assert told == pytest.approx([0, 5, 10], abs=0.01)
