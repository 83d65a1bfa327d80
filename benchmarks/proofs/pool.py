"""Cancelled requests of our client lose no connection; those of bare httpx do.

5,000 reads go to a server in another process. Each step takes about 3 ms: connect,
send, headers, body. Each read is cancelled at an instant drawn uniformly over those
steps, by ``task.cancel()`` or by an anyio scope. Then 10 at once must get responses
within 1 s, and the process may hold no more sockets than it has reads at once; after
the close, none. Our client is tested with a client of its own and with one of httpx2
that it is given. One of httpx that it is given is used as it is, so its row is shown
but not required.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import stat
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unittest import mock

import anyio
import httpcore
import httpcore2
import httpx
import httpx2

from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    Read: TypeAlias = Callable[[], Awaitable[object]]
    Outcome: TypeAlias = tuple[float, int, int]
    """Seconds, sockets held, sockets left after the close."""

CONNECTIONS: Final = 10
AT_ONCE: Final = 25
STEP: Final = 0.003
STEPS: Final = 4
KEY: Final = "ft_live_" + "0" * 32
OURS: Final = "ours"
BOUND: Final = (OURS, "ours on httpx2")
"""The rows that must hold."""


class _SlowStream:
    """A connection whose writes take a while."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        read: bytes = await self._stream.read(max_bytes, timeout)
        return read

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await anyio.sleep(STEP / 2)  # httpcore writes the headers, then the body's end
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _SlowNetwork:
    """A network where it takes a while to connect."""

    def __init__(self, core: Any) -> None:
        self._fast = core.AnyIOBackend()

    async def connect_tcp(self, *args: Any, **options: Any) -> _SlowStream:
        await anyio.sleep(STEP)
        return _SlowStream(await self._fast.connect_tcp(*args, **options))


@contextlib.contextmanager
def _slow_networks() -> Iterator[None]:
    """Both libraries connect over it."""
    with contextlib.ExitStack() as stack:
        for core in (httpcore, httpcore2):
            place = f"{core.__name__}._async.connection_pool.AutoBackend"
            stack.enter_context(mock.patch(place, partial(_SlowNetwork, core)))
        yield


async def _cut_short(read: Read, how: str, after: float) -> None:
    if how == "anyio":
        with anyio.move_on_after(after), contextlib.suppress(Exception):
            await read()
        return
    task = asyncio.ensure_future(read())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def _trial(read: Read, how: str, count: int, seed: int) -> tuple[float, int]:
    """Cancel a number of reads; return the time of 10 at once then, and the sockets."""
    rng = random.Random(seed)
    before = _sockets()
    for _ in range(count // AT_ONCE):
        instants = [rng.uniform(0, STEPS * STEP) for _ in range(AT_ONCE)]
        await asyncio.gather(*(_cut_short(read, how, at) for at in instants))
    began = time.perf_counter()
    try:
        async with asyncio.timeout(10):
            await asyncio.gather(*(read() for _ in range(CONNECTIONS)))
        seconds = time.perf_counter() - began
    except Exception:  # a pool that is full says so in several ways
        seconds = float("inf")
    return seconds, _sockets() - before


def _sockets() -> int:
    """How many sockets this process holds."""
    held = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            held += stat.S_ISSOCK(entry.stat().st_mode)
    return held


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.proofs._slow_server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


async def _run(who: str, how: str, count: int, seed: int) -> Outcome:
    async with _server() as url:
        before = _sockets()
        with _slow_networks():
            taken, held = await _tried(who, url, how, count, seed)
        return taken, held, _sockets() - before


async def _tried(
    who: str, url: str, how: str, count: int, seed: int
) -> tuple[float, int]:
    library: Any = httpx2 if "httpx2" in who else httpx
    limits = library.Limits(max_connections=CONNECTIONS)
    async with library.AsyncClient(limits=limits, base_url=url, timeout=5.0) as http:
        if who.startswith("bare"):
            return await _trial(lambda: http.get("/v1/me"), how, count, seed)
        given = None if who == OURS else http
        async with AsyncClient(
            KEY, base_url=url, rate_limits=None, max_retries=0, http_client=given
        ) as ours:
            await ours.me()
            return await _trial(ours.me, how, count, seed)


def main(arguments: Sequence[str]) -> bool:
    """Print a row for each; return whether ours hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks proofs pool")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    print(
        f"{options.count} reads cancelled; clients given have {CONNECTIONS} sockets\n"
    )
    print("| | cancelled by | 10 at once then take, s | sockets held | left |")
    print("|---|---|---|---|---|")
    holds = True
    for who in (*BOUND, "ours on httpx", "bare httpx2", "bare httpx"):
        for how in ("task.cancel", "anyio"):
            taken, held, left = asyncio.run(_run(who, how, options.count, options.seed))
            if who in BOUND:
                holds = holds and taken < 1.0 and held <= AT_ONCE and left <= 0
            shown = "never" if taken == float("inf") else f"{taken:.3f}"
            print(f"| {who} | {how} | {shown} | {held} | {left} |", flush=True)
    return holds
