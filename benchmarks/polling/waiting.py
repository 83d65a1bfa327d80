"""10,000 waiters: what one costs in memory, and all of them while nothing is due.

Ours wait with the default timeout for tracks that cannot be done yet. They are compared
with tasks that only wait for an event, and with the common way: a loop in each task
that sleeps 3 s and checks. Under virtual time a minute of waiting takes no longer than
the work in it; the CPU share is that work divided by a minute.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
import attrs
import httpx

from finetuning_async import AsyncClient
from finetuning_async._pacing._in_flight import TrackInProgress
from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Loop: TypeAlias = Literal["asyncio", "trio"]
    Wait: TypeAlias = Callable[[int], Coroutine[Any, Any, None]]

WATCHED: Final = 120.0
"""Seconds of virtual time in which nothing is due."""

SLEEP: Final = 3.0


@attrs.frozen
class Cost:
    """What the waiters cost."""

    bytes_each: float
    start_us: float
    share: float


class _Unexpected(httpx.AsyncBaseTransport):
    """A service that must receive no request."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"nothing was due, but {request.url} was read")


async def ours(count: int, tracks: int) -> Cost:
    """Measure waiters of the shared poll loop."""
    http = httpx.AsyncClient(transport=_Unexpected())
    async with http, AsyncClient("ft_live_" + "0" * 32, http_client=http) as client:
        account = client._session().account  # noqa: SLF001 - there is no service here
        now = anyio.current_time()
        for _ in range(8):  # tracks of an unknown length take 290 s
            account.poller._dispatcher._estimator.learn(  # noqa: SLF001 - as above
                "music", None, shortest=290.0, longest=290.0
            )
        for number in range(tracks):
            account.inflight.on_accepted(
                f"track-{number}",
                TrackInProgress(kind="music", accepted_at=now, duration=None),
            )
        ids = [f"track-{number % tracks}" for number in range(count)]

        async def wait(number: int) -> None:
            await client.wait_for_completion(ids[number])

        return await measure(wait, count)


async def wait(number: int) -> None:
    """Wait for an event of its own."""
    await anyio.Event().wait()


async def sleeps(number: int) -> None:
    """Check every 3 s."""
    while True:  # noqa: ASYNC110 - the loop is what is measured
        await anyio.sleep(SLEEP)


async def sleeps_with_a_deadline(number: int) -> None:
    """Check every 3 s, under a timeout of its own."""
    with anyio.move_on_after(300):
        while True:  # noqa: ASYNC110 - the loop is what is measured
            await anyio.sleep(SLEEP)


async def measure(wait: Wait, count: int) -> Cost:
    """Start the tasks, measure their memory, and let time pass."""
    async with anyio.create_task_group() as group:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            group.start_soon(wait, number)
        await anyio.sleep(0.01)
        gc.collect()
        size = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        began = time.process_time()
        await anyio.sleep(WATCHED)
        share = (time.process_time() - began) / WATCHED
        group.cancel_scope.cancel()
    return Cost(size / count, await start_time(wait, count), share)


async def start_time(wait: Wait, count: int) -> float:
    """Return the microseconds to start one, without tracing memory."""
    async with anyio.create_task_group() as group:
        began = time.process_time()
        for number in range(count):
            group.start_soon(wait, number)
        await anyio.sleep(0.01)
        taken = time.process_time() - began
        group.cancel_scope.cancel()
    return taken / count * 1e6


def table(*, count: int, loops: Sequence[Loop] = ("asyncio", "trio")) -> None:
    """Print a row for each way to wait, on each event loop."""
    ways = {
        "parked on an event": partial(measure, wait, count),
        f"ours, {count:,} tracks": partial(ours, count, count),
        "ours, 99 tracks": partial(ours, count, 99),
        "sleep loop, 3 s": partial(measure, sleeps, count),
        "the same under a timeout": partial(measure, sleeps_with_a_deadline, count),
    }
    print(f"{count:,} waiters, default timeout, nothing due for {WATCHED:g} s\n")
    print("| loop | way | bytes each | above parked | start, µs | of one core |")
    print("|" + "---|" * 6)
    for loop in loops:
        base = 0.0
        for name, way in ways.items():
            backend, options = jumping_backend(loop)
            cost = anyio.run(way, backend=backend, backend_options=dict(options))
            base = base or cost.bytes_each
            print(
                f"| {loop} | {name} | {cost.bytes_each:.0f}"
                f" | {cost.bytes_each - base:.0f} | {cost.start_us:.0f}"
                f" | {cost.share:.2%} |"
            )
