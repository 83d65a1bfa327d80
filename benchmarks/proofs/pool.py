"""Cancelled requests leave the connection pool whole; a bare httpx does not.

5,000 reads go through a pool of 10 connections to a server in another process. Each
step takes about 3 ms: connect, send, headers, body. Each read is cancelled at an
instant drawn uniformly over those steps, by ``task.cancel()`` or by an anyio scope.
Then 10 at once must be answered within 1 s, and the process may hold no more than 10
sockets. The client is tried with connections of its own and with a client of httpx that
it was given.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unittest import mock

import anyio
import httpcore
import httpx

from finetuning_async import AsyncClient
from finetuning_async._transport import _connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Read: TypeAlias = Callable[[], Awaitable[object]]

CONNECTIONS: Final = 10
AT_ONCE: Final = 25
STEP: Final = 0.003
STEPS: Final = 4
KEY: Final = "ft_live_" + "0" * 32


class _SlowStream(httpcore.AsyncNetworkStream):
    """A connection whose writes take a while."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await anyio.sleep(STEP / 2)  # httpcore writes the headers, then the body's end
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _SlowNetwork(httpcore.AnyIOBackend):
    """A network where it takes a while to connect."""

    async def connect_tcp(self, *args: Any, **options: Any) -> _SlowStream:
        await anyio.sleep(STEP)
        return _SlowStream(await super().connect_tcp(*args, **options))


def _http(base_url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    transport = httpx.AsyncHTTPTransport(limits=limits)
    transport._pool._network_backend = _SlowNetwork()  # noqa: SLF001 - httpx has no option for it
    return httpx.AsyncClient(transport=transport, base_url=base_url, timeout=5.0)


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
    """Cancel so many reads; how long 10 at once then take, and the sockets held."""
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


async def _run(who: str, how: str, count: int, seed: int) -> tuple[float, int]:
    async with _server() as url, _http(url) as http:
        if who == "bare httpx":

            async def read() -> object:
                return await http.get("/v1/me")

            return await _trial(read, how, count, seed)
        options: dict[str, Any] = {"rate_limits": None, "max_retries": 0}
        if who == "ours, given a client":
            options["http_client"] = http
        with (
            mock.patch.object(_connections, "AT_MOST", CONNECTIONS),
            mock.patch.object(httpcore, "AnyIOBackend", _SlowNetwork),
        ):
            async with AsyncClient(KEY, base_url=url, **options) as ours:
                await ours.me()
                return await _trial(ours.me, how, count, seed)


def main(arguments: Sequence[str]) -> bool:
    """Print a row for each; whether ours hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks proofs pool")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    print(f"{options.count} reads cancelled, {CONNECTIONS} connections\n")
    print(
        "| | cancelled by | 10 at once then take, s | sockets held |\n|---|---|---|---|"
    )
    holds = True
    for who in ("ours", "ours, given a client", "bare httpx"):
        for how in ("task.cancel", "anyio"):
            taken, held = asyncio.run(_run(who, how, options.count, options.seed))
            if who != "bare httpx":
                holds = holds and taken < 1.0 and held <= CONNECTIONS
            shown = "never" if taken == float("inf") else f"{taken:.3f}"
            print(f"| {who} | {how} | {shown} | {held} |", flush=True)
    return holds
