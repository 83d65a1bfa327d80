"""One of several processes that wait for tracks and share a store.

    python -m benchmarks.polling._waiting_process URL STORE KEY PER BACKEND

STORE is as in `benchmarks.shared._worker`; PER is the number of seconds in which it may
read 60 times. It reads lines ``wait ID`` and ``hint ID``, and prints ``read`` for each
read that it sends and ``ended ID STATUS`` for each wait, with the machine's time.
"""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack

import anyio

from benchmarks.shared._worker import limiter_of
from finetuning_async import AsyncClient, RateLimit, RateLimits, RequestSent


def report(*words: str) -> None:
    """Print a line with the time."""
    print(*words, time.monotonic(), flush=True)


def on_event(event: object) -> None:
    """Report that a read is sent."""
    if isinstance(event, RequestSent) and event.method == "GET":
        report("read")


async def wait(client: AsyncClient, track_id: str) -> None:
    """Wait for a track, and report its final status."""
    track = await client.wait_for_completion(track_id)
    report("ended", track_id, track.status)


async def main(*arguments: str) -> None:
    """Follow the lines of input until it ends."""
    url, store, key, per = arguments
    limits = RateLimits(
        creates=RateLimit(10, per=float(per)), reads=RateLimit(60, per=float(per))
    )
    async with AsyncExitStack() as stack:
        limiter = await limiter_of(store, stack)
        client = await stack.enter_async_context(
            AsyncClient(
                key,
                base_url=url,
                rate_limits=limits,
                rate_limiter=limiter,
                on_event=on_event,
            )
        )
        report("ready")
        async with anyio.create_task_group() as group:
            async for line in anyio.wrap_file(sys.stdin):
                word, track_id = line.split()
                if word == "wait":
                    group.start_soon(wait, client, track_id)
                else:
                    client.mark_changed(track_id)
                    await client.publish_changes()
            group.cancel_scope.cancel()


if __name__ == "__main__":
    *arguments, backend = sys.argv[1:]
    anyio.run(main, *arguments, backend=backend)
