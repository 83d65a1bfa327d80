"""1,000 turns a second through Redis, and how long each took to come."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import attrs

from finetuning_async import AnswerFacts, RateLimit, RateLimits
from finetuning_async.redis import RedisRateLimiter

RATE: Final = 1000.0
"""Turns asked for in a second."""

ENOUGH: Final = RateLimits(creates=RateLimit(10), reads=RateLimit(10**6))
OK: Final = AnswerFacts(status=200)


@attrs.frozen
class Latencies:
    """What was measured.

    Attributes:
        rate: Turns had in a second.
        p50: Seconds.
        p99: Seconds.
    """

    rate: float
    p50: float
    p99: float


async def turns(url: str, *, seconds: float = 10.0, seed: int = 1) -> Latencies:
    """Ask for turns at random moments; each is held for a moment."""
    rng = random.Random(seed)
    waits: list[float] = []
    async with RedisRateLimiter(url, account="turns") as limiter:
        limiter.bind("turns", ENOUGH, lambda: 0)

        async def one() -> None:
            begun = time.perf_counter()
            permit = await limiter.acquire("reads")
            waits.append(time.perf_counter() - begun)
            await asyncio.sleep(0.02)
            permit.answered(OK)
            await limiter.flush()

        for _ in range(8):  # without a header the first go one by one
            await one()
        waits.clear()
        begun = due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while due < begun + seconds:
                due += rng.expovariate(RATE)
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                group.create_task(one())
        took = time.perf_counter() - begun
    waits.sort()
    return Latencies(
        rate=len(waits) / took,
        p50=waits[len(waits) // 2],
        p99=waits[len(waits) * 99 // 100],
    )
