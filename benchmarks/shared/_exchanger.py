"""One of forty processes: it waits for a line, and exchanges at even intervals.

    python -m benchmarks.shared._exchanger URL NUMBER SECONDS NEWS

It says how long each exchange took, and each bare round trip that it made in between.
With NEWS, 1 and not 0, it has something to tell each time, so that all of them write.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from finetuning_async import RateLimits
from finetuning_async._coordination._exchange import LedgerExchanger
from finetuning_async._coordination._exchange_messages import (
    ExchangeRequest,
    PermitRequest,
)
from finetuning_async.redis._store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable

RATE: Final = 4.0
"""Exchanges a second."""


async def main(url: str, number: str, seconds: str, news: str) -> None:
    rng = random.Random(int(number))
    async with Redis.from_url(url) as client:
        store = LedgerExchanger(RedisStore(client, "crowd", rng), rng)
        permit_request = PermitRequest(id=f"waits {number}", budget="creates")
        await client.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        exchanges, trips = [], []
        begun = time.perf_counter()
        due = begun + rng.random() / RATE
        for turn in range(1, int(float(seconds) * RATE) + 1):
            await asyncio.sleep(due - time.perf_counter())
            request = ExchangeRequest(
                process=number,
                number=turn,
                limits=RateLimits(),
                timeout=60.0,
                permit_requests=(permit_request,),
                tracks_in_progress=turn % 2 * int(news),
            )
            exchanges.append(await _timed(store.exchange(request)))
            await asyncio.sleep(max(due + 0.5 / RATE - time.perf_counter(), 0))
            trips.append(await _timed(client.ping()))
            due += 1 / RATE
    print(json.dumps([exchanges, trips]))


async def _timed(work: Awaitable[object]) -> float:
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
