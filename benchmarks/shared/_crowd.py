"""Forty processes, four exchanges a second each: how long one takes.

    python -m benchmarks.shared._crowd URL NUMBER SECONDS NEWS

is one of them: it waits for a line, exchanges with the store at even intervals, and
says how long each exchange took, and each bare round trip that it makes in between.
With NEWS, 1 and not 0, it has something to tell each time, so that all of them write.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from itertools import chain
from typing import TYPE_CHECKING, Final

import attrs
from redis.asyncio import Redis

from finetuning_async import RateLimits
from finetuning_async._store_exchange import BookStore
from finetuning_async._store_words import Ask, Request
from finetuning_async.redis._store import RedisStore

if TYPE_CHECKING:
    from collections.abc import Awaitable

PROCESSES: Final = 40
RATE: Final = 4.0
"""Exchanges a second, of each process."""


@attrs.frozen
class Latencies:
    """What was measured, in seconds.

    Attributes:
        exchanges: How long each took, ascending.
        trips: How long each bare round trip took, ascending.
    """

    exchanges: list[float]
    trips: list[float]


def crowd(
    url: str, *, news: bool, processes: int = PROCESSES, seconds: float = 10.0
) -> Latencies:
    """Run them all."""
    workers = [_start(url, number, seconds, news) for number in range(processes)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate()[0]) for worker in workers]
    exchanges, trips = (sorted(chain(*each)) for each in zip(*told, strict=True))
    return Latencies(exchanges, trips)


def _start(url: str, number: int, seconds: float, news: bool) -> subprocess.Popen[str]:
    arguments = [url, str(number), str(seconds), str(int(news))]
    return subprocess.Popen(  # noqa: S603 - this module
        [sys.executable, "-m", __name__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def _one(url: str, number: str, seconds: str, news: str) -> None:
    rng = random.Random(int(number))
    async with Redis.from_url(url) as client:
        store = BookStore(RedisStore(client, "crowd", rng), rng)
        ask = Ask(id=f"waits {number}", budget="creates")
        await client.ping()
        print("ready", flush=True)
        sys.stdin.readline()
        exchanges, trips = [], []
        begun = time.perf_counter()
        due = begun + rng.random() / RATE
        for turn in range(1, int(float(seconds) * RATE) + 1):
            await asyncio.sleep(due - time.perf_counter())
            request = Request(
                process=number,
                number=turn,
                limits=RateLimits(),
                timeout=60.0,
                asks=(ask,),
                under_way=turn % 2 * int(news),
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
    asyncio.run(_one(*sys.argv[1:]))
