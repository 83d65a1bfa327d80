"""One process: sends its creates as fast as it gets permits.

    python -m benchmarks.shared._worker URL STORE NUMBER CREATES

STORE is ``file:FOLDER``, ``postgres:CONNINFO``, or the URL of a Redis. It prints that
it is ready, starts when it reads a line, and prints the CPU seconds that it took.
"""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack

import anyio

from finetuning_async import AsyncClient, RateLimit, RateLimiter, RateLimits

LIMITS = RateLimits(creates=RateLimit(10, per=2.0), reads=RateLimit(60, per=2.0))


async def limiter_of(store: str, stack: AsyncExitStack) -> RateLimiter:
    """Return the limiter of this process."""
    if store.startswith("file:"):
        from finetuning_async.shared import SharedRateLimiter

        return SharedRateLimiter(store.removeprefix("file:"), account="one")
    if store.startswith("postgres:"):
        from finetuning_async.postgres import PostgresRateLimiter

        return PostgresRateLimiter(store.removeprefix("postgres:"), account="one")
    from finetuning_async.redis import RedisRateLimiter

    return await stack.enter_async_context(RedisRateLimiter(store, account="one"))


async def main(*args: str) -> None:
    """Send all creates."""
    url, store, number, creates = args
    async with AsyncExitStack() as stack:
        limiter = await limiter_of(store, stack)
        key = "ft_live_" + 32 * number
        client = AsyncClient(
            key, base_url=url, rate_limits=LIMITS, rate_limiter=limiter
        )
        await stack.enter_async_context(client)
        print("ready", flush=True)
        sys.stdin.readline()
        before = time.process_time()
        async with anyio.create_task_group() as group:
            for _ in range(int(creates)):
                group.start_soon(client.generations.create, "song")
        print(time.process_time() - before, flush=True)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
