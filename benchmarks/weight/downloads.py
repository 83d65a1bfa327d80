"""10 MB from a media host to a file: how fast beside a plain loop, in what memory.

The plain loop is the usual one: `AsyncClient.stream` of the HTTP library, and
`file.write` in the event loop. Neither syncs the file, and each writes one that is not
there yet. The two alternate; figures are medians of neighbours' ratios, with our own
client and with one of either library that the caller gave. A task that only sleeps
measures the longest time for which the event loop stood still.

Client, server and the thread that writes share what processors there are: on two, the
thread has to wait for one of the others.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import httpx
import httpx2

from benchmarks.weight._service import KEY
from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Fetch: TypeAlias = Callable[[], Awaitable[object]]
    HTTP: TypeAlias = httpx.AsyncClient | httpx2.AsyncClient

SIZE: Final = 10_000_000
TICK: Final = 0.001
"""Seconds that the task sleeps which measures how long the loop stands still."""


@attrs.frozen
class Speed:
    """Ours beside the plain loop.

    Attributes:
        mb_per_second: Ours.
        ratio: Of our speed to that of the plain loop.
        peak: Bytes of memory at most, beside what was there.
        stall: Seconds for which the event loop stood still at most, in the median.
        stall_plain: The same of the plain loop.
    """

    mb_per_second: float
    ratio: float
    peak: int
    stall: float
    stall_plain: float


WAYS: Final = ("our client of httpx", "a caller's of httpx", "a caller's of httpx2")


def measure(way: str, rounds: int = 15) -> Speed:
    """Measure one of the `WAYS` against a server in another process."""
    http: HTTP = httpx2.AsyncClient() if "httpx2" in way else httpx.AsyncClient()
    given = None if way == WAYS[0] else http
    with _server() as url, tempfile.TemporaryDirectory() as folder:
        client = AsyncClient(KEY, base_url=url, http_client=given)
        path = Path(folder) / "track.mp3"
        return asyncio.run(_measure(client, http, f"{url}/track.mp3", path, rounds))


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.weight._media_server", str(SIZE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own module
        try:
            line = server.stdout.readline() if server.stdout else ""
            yield f"http://127.0.0.1:{line.strip()}"
        finally:
            server.terminate()


async def _measure(
    client: AsyncClient, http: HTTP, url: str, path: Path, rounds: int
) -> Speed:
    async with http, client:

        async def plain() -> None:
            async with http.stream("GET", url) as response:
                with path.open("wb") as file:
                    async for chunk in response.aiter_bytes():
                        file.write(chunk)

        async def ours() -> None:
            await client.download(url, path)

        async def timed(fetch: Fetch) -> tuple[float, float]:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - nothing is timed yet
            return await _timed(fetch)

        for fetch in (ours, plain):
            await timed(fetch)
        rows = [(await timed(ours), await timed(plain)) for _ in range(rounds)]
        peak = await _peak(ours)
    median = statistics.median
    return Speed(
        mb_per_second=SIZE / 1e6 / median(row[0][0] for row in rows),
        ratio=median(row[1][0] / row[0][0] for row in rows),
        peak=peak,
        stall=median(row[0][1] for row in rows),
        stall_plain=median(row[1][1] for row in rows),
    )


async def _timed(fetch: Fetch) -> tuple[float, float]:
    """Seconds it takes, and the longest for which the loop stood still meanwhile."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK)
            longest = max(longest, time.perf_counter() - began - TICK)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    began = time.perf_counter()
    await fetch()
    taken = time.perf_counter() - began
    ticking.cancel()
    return taken, longest


async def _peak(fetch: Fetch) -> int:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    await fetch()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before
