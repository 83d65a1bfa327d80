"""What a process knows of the permits that a store keeps, between its exchanges."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._shared_limiter import FRESH, StoreLimiter
from finetuning_async._pacing._limiter import LimiterWithTerms
from finetuning_async._pacing._queue_protocols import ANY_REQUEST
from tests.coordination._store_setups import LIMITS, MemoryStore, memory_shop

if TYPE_CHECKING:
    from finetuning_async._pacing._limiter import Limiter

LIMIT = LIMITS.creates.limit
SERVED = ResponseFacts(status=202, limit=LIMIT, remaining=LIMIT)
REFUSED = ResponseFacts(status=429, code="GENERATION_RATE_LIMITED", retry_after=30.0)


async def spend(limiter: Limiter, *facts: ResponseFacts) -> None:
    """Send creates that get these responses, and report them to the store."""
    for each in facts:
        (await limiter.acquire("creates")).answered(each)
    await limiter.flush()


async def ask(limiter: Limiter) -> None:
    """Take a permit of reads and give it back: an exchange with the store."""
    (await limiter.acquire("reads")).unsent()
    await limiter.flush()


async def test_what_other_processes_spent_is_known_until_it_is_old() -> None:
    shop = memory_shop()
    other, limiter = shop.process(), shop.process()
    await anyio.sleep(100)
    await spend(other, *[SERVED] * LIMIT)
    await ask(limiter)
    before = limiter.status().creates
    assert before.next_free_in > 50
    await anyio.sleep(FRESH / 2)
    now, status = anyio.current_time(), limiter.status().creates
    expected = pytest.approx(before.next_free_in - FRESH / 2, abs=0.01)
    assert status.next_free_in == expected
    assert limiter.earliest("creates") - now == expected
    line = LimiterWithTerms(limiter, ANY_REQUEST).line_state(1)
    assert line.tokens == pytest.approx([status.next_free_in] * LIMIT, abs=0.1)
    assert before.service_spoke_ago is not None
    assert status.service_spoke_ago == pytest.approx(
        before.service_spoke_ago + FRESH / 2, abs=0.01
    )
    await anyio.sleep(FRESH)
    now = anyio.current_time()
    assert limiter.earliest("creates") == pytest.approx(now, abs=0.01)
    await anyio.sleep(60)
    assert limiter.status().creates.next_free_in == 0
    line = LimiterWithTerms(limiter, ANY_REQUEST).line_state(1)
    assert line.tokens == (0.0,) * LIMIT


async def test_a_gate_that_another_process_closed_is_known() -> None:
    shop = memory_shop()
    other, limiter = shop.process(), shop.process()
    await anyio.sleep(100)
    await spend(other, REFUSED)
    await ask(limiter)
    closed_for = limiter.status().creates.closed_for
    assert closed_for == pytest.approx(30.2, abs=0.3)
    opens_at = anyio.current_time() + closed_for
    assert limiter.gate_opens("creates") == pytest.approx(opens_at, abs=0.01)
    await anyio.sleep(10)
    assert limiter.gate_opens("creates") == pytest.approx(opens_at, abs=0.01)
    assert limiter.earliest("creates") == pytest.approx(opens_at, abs=0.01)
    expected = pytest.approx(closed_for - 10, abs=0.01)
    assert limiter.status().creates.closed_for == expected
    await anyio.sleep(30)
    assert limiter.status().creates.closed_for == 0


async def test_without_the_store_a_process_goes_by_what_it_has_sent_itself() -> None:
    store = MemoryStore()
    limiter = memory_shop(store).process()
    await anyio.sleep(100)
    await spend(limiter, *[SERVED] * LIMIT)
    store.is_down = True
    await anyio.sleep(FRESH + 1)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(limiter.acquire, "creates")
        await anyio.sleep(5)
        queue, _ = limiter._all_queues()
        assert len(queue) == 2
        assert LimiterWithTerms(limiter, ANY_REQUEST).line_state(1).first == 2
        assert limiter.earliest("creates") > anyio.current_time() + 30
        assert limiter.status().creates.next_free_in > 30
        group.cancel_scope.cancel()


async def test_a_place_counts_those_who_wait_in_other_processes() -> None:
    shop = memory_shop()
    other, limiter = shop.process(), shop.process()
    await spend(other, *[SERVED] * LIMIT)
    async with anyio.create_task_group() as group:
        for each, count in ((other, 2), (limiter, 1)):
            for _ in range(count):
                group.start_soon(each.acquire, "creates")
            await anyio.sleep(1)
        queue, _ = limiter._all_queues()
        ((ahead, _),) = queue.places()
        assert ahead == 1, "in the middle, as far as is known"
        line = LimiterWithTerms(limiter, ANY_REQUEST).line_state(1)
        assert (line.first, line.last) == (3, 3)
        assert sum(line.waiting) == 3
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("account", "name"), [("ours", "ours"), (None, "of the key")])
def test_each_event_loop_reaches_the_store_by_the_name_of_the_account(
    account: str | None, name: str
) -> None:
    names: list[str] = []

    def connect(name: str) -> MemoryStore:
        names.append(name)
        return MemoryStore()

    limiter = StoreLimiter(connect, account=account, timeout=20.0, rng=random.Random(1))

    async def main() -> None:
        for under_way in (1, 2):
            limiter.bind("of the key", LIMITS, partial(int, under_way))
            limiter.new_coordinator()
        assert sum(count() for count in limiter._track_counts) == 3

    for number in (1, 2):
        asyncio.run(main())
        assert names == [name] * number
