"""What a permit costs: time without waiters, memory with thousands of them."""

from __future__ import annotations

import asyncio
import random
import time
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._process_limiter import ProcessLimiter
from finetuning_async._pacing._limits import RateLimit, RateLimits

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from finetuning_async._pacing._limiter import Limiter

ROUNDS: Final = 5_000
WAITERS: Final = 10_000
PLENTY: Final = 10**6

_numbers = count()


def limiter_of(limit: int) -> Limiter:
    """A limiter as every client has it, with creates limited to `limit` a minute."""
    limits = RateLimits(creates=RateLimit(limit))
    key = ("https://service.example", f"account {next(_numbers)}", False)
    return ProcessLimiter(limits, rng=random.Random(1), key=key)


async def uncontended() -> tuple[float, float]:
    """Microseconds of an acquire, and of an acquire and its response; best of 5."""
    facts = ResponseFacts(status=200, limit=PLENTY, remaining=PLENTY)
    acquiring, both = [], []
    for _ in range(5):
        limiter = limiter_of(PLENTY)
        (await limiter.acquire("creates")).answered(facts)
        start = time.perf_counter()
        permits = [await limiter.acquire("creates") for _ in range(ROUNDS)]
        acquired = time.perf_counter()
        for permit in permits:
            permit.answered(facts)
        acquiring.append(acquired - start)
        both.append(time.perf_counter() - start)
    return min(acquiring) / ROUNDS * 1e6, min(both) / ROUNDS * 1e6


async def memory_of_a_waiter(waiters: int = WAITERS) -> float:
    """Bytes of one of `waiters` beyond those of a task that waits for an event."""
    event = asyncio.Event()
    limiter = limiter_of(1)
    (await limiter.acquire("creates")).answered(ResponseFacts(status=200))

    async def wait() -> None:
        await event.wait()

    async def waiting() -> None:
        await limiter.acquire("creates")

    bare = await _bytes_each([wait() for _ in range(waiters)])
    return await _bytes_each([waiting() for _ in range(waiters)]) - bare


async def _bytes_each(coroutines: list[Coroutine[object, object, None]]) -> float:
    tracemalloc.start()
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await asyncio.sleep(0.1)
    used = tracemalloc.get_traced_memory()[0] / len(tasks)
    tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used


def table() -> str:
    """Time and memory as text."""
    lines = []
    for backend in ("asyncio", "trio"):
        acquire, both = anyio.run(uncontended, backend=backend)
        lines.append(
            f"{backend}: acquire {acquire:.1f} us, with its response {both:.1f} us"
        )
    lines.append(f"a waiter: {asyncio.run(memory_of_a_waiter()):.0f} B beyond a task")
    return "\n".join(lines)
