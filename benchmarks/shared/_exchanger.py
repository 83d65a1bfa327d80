"""One of forty processes: waits for a line of input, then exchanges at even intervals.

    python -m benchmarks.shared._exchanger URL NUMBER SECONDS WRITING

It prints how long each exchange took, and each bare round trip in between. If WRITING
is 1 and not 0, each exchange changes the ledger, so that all processes write.
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


async def main(url: str, number: str, seconds: str, writing: str) -> None:
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
        for round_ in range(1, int(float(seconds) * RATE) + 1):
            await asyncio.sleep(due - time.perf_counter())
            request = ExchangeRequest(
                process=number,
                number=round_,
                limits=RateLimits(),
                timeout=60.0,
                permit_requests=(permit_request,),
                tracks_in_progress=round_ % 2 * int(writing),
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
