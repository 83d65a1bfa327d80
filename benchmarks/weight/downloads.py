"""10 MB from a media host to a file: how fast beside a plain loop, in what memory.

The plain loop is what everybody writes: `httpx.AsyncClient.stream`, and `file.write` in
the event loop. It syncs nothing; a second one does so at the end, as ours does. In
turns, medians of the ratios of neighbours. The longest time for which the event loop
stood still is measured by a task that only sleeps.
"""

from __future__ import annotations

import asyncio
import os
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

from benchmarks.weight._service import KEY
from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Fetch: TypeAlias = Callable[[], Awaitable[object]]

SIZE: Final = 10_000_000
TICK: Final = 0.001
"""Seconds that the task sleeps which measures how long the loop stands still."""


@attrs.frozen
class Speed:
    """Ours beside the plain loops.

    Attributes:
        mb_per_second: Ours.
        ratio: Of our speed to that of the plain loop.
        ratio_synced: Of our speed to that of the plain loop that syncs the file.
        peak: Bytes of memory at most, beside what was there.
        stall: Seconds for which the event loop stood still at most, in the median.
        stall_plain: The same of the plain loop that syncs.
    """

    mb_per_second: float
    ratio: float
    ratio_synced: float
    peak: int
    stall: float
    stall_plain: float


def measure(rounds: int = 15) -> Speed:
    """Measure against a server in another process."""
    with _server() as url, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(url, Path(folder) / "track.mp3", rounds))


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.weight._media_server", str(SIZE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own module
        try:
            line = server.stdout.readline() if server.stdout else ""
            yield f"http://127.0.0.1:{line.strip()}/track.mp3"
        finally:
            server.terminate()


async def _measure(url: str, path: Path, rounds: int) -> Speed:
    async with httpx.AsyncClient() as http, AsyncClient(KEY) as client:

        async def plain(*, synced: bool = False) -> None:
            async with http.stream("GET", url) as response:
                with path.open("wb") as file:
                    async for chunk in response.aiter_bytes():
                        file.write(chunk)
                    if synced:
                        file.flush()
                        os.fsync(file.fileno())

        ways: list[Fetch] = [
            lambda: client.download(url, path),
            plain,
            lambda: plain(synced=True),
        ]
        for fetch in ways:
            await _timed(fetch)
        rows = [[await _timed(fetch) for fetch in ways] for _ in range(rounds)]
        peak = await _peak(ways[0])
    median = statistics.median
    return Speed(
        mb_per_second=SIZE / 1e6 / median(row[0][0] for row in rows),
        ratio=median(row[1][0] / row[0][0] for row in rows),
        ratio_synced=median(row[2][0] / row[0][0] for row in rows),
        peak=peak,
        stall=median(row[0][1] for row in rows),
        stall_plain=median(row[2][1] for row in rows),
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
