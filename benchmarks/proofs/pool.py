"""Cancelled requests leave our connections whole; a bare httpx's they do not.

5,000 reads go to a server in another process. Each step takes about 3 ms: connect,
send, headers, body. Each read is cancelled at an instant drawn uniformly over those
steps, by ``task.cancel()`` or by an anyio scope. Then 10 at once must be answered
within 1 s, and once the client is closed the process may hold no socket. The client is
tried over httpx of its own, and given a client of httpx2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import random
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unittest import mock

import anyio

from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Sequence,
    )

    Read: TypeAlias = Callable[[], Awaitable[object]]

CONNECTIONS: Final = 10
AT_ONCE: Final = 25
STEP: Final = 0.003
STEPS: Final = 4
KEY: Final = "ft_live_" + "0" * 32


def _slow_network(httpcore: Any) -> type[Any]:
    """A network for httpcore or httpcore2 where each step takes a while."""

    class Stream(httpcore.AsyncNetworkStream):  # type: ignore[misc]  # one of two
        def __init__(self, stream: Any) -> None:
            self._stream = stream
            self.read = stream.read
            self.aclose = stream.aclose
            self.get_extra_info = stream.get_extra_info

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            await anyio.sleep(STEP / 2)  # the headers come first, then the body's end
            await self._stream.write(buffer, timeout)

    class Network(httpcore.AnyIOBackend):  # type: ignore[misc]  # as above
        async def connect_tcp(self, *args: Any, **options: Any) -> Stream:
            await anyio.sleep(STEP)
            return Stream(await super().connect_tcp(*args, **options))

    return Network


@contextlib.contextmanager
def _slow() -> Iterator[None]:
    """Both libraries over such a network."""
    with contextlib.ExitStack() as stack:
        for name in ("httpcore", "httpcore2"):
            pools = importlib.import_module(f"{name}._async.connection_pool")
            network = _slow_network(importlib.import_module(name))
            stack.enter_context(mock.patch.object(pools, "AutoBackend", network))
        yield


def _http(library: str) -> Any:
    module = importlib.import_module(library)
    return module.AsyncClient(
        limits=module.Limits(max_connections=CONNECTIONS), timeout=5.0
    )


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


async def _trial(read: Read, how: str, count: int, seed: int) -> float:
    """Cancel so many reads; how long 10 at once then take."""
    rng = random.Random(seed)
    for _ in range(count // AT_ONCE):
        instants = [rng.uniform(0, STEPS * STEP) for _ in range(AT_ONCE)]
        await asyncio.gather(*(_cut_short(read, how, at) for at in instants))
    began = time.perf_counter()
    try:
        async with asyncio.timeout(10):
            await asyncio.gather(*(read() for _ in range(CONNECTIONS)))
    except Exception:  # a pool that is full says so in several ways
        return float("inf")
    return time.perf_counter() - began


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
    """How long the 10 took, and how many sockets are left."""
    async with _server() as url:
        before = _sockets()
        with _slow():
            taken = await _of(who, url, how, count, seed)
        await anyio.sleep(0.1)  # a closed socket is let go at the loop's next turns
        return taken, _sockets() - before


async def _of(who: str, url: str, how: str, count: int, seed: int) -> float:
    if who.startswith("bare "):
        async with _http(who.removeprefix("bare ")) as http:
            return await _trial(lambda: http.get(f"{url}/v1/me"), how, count, seed)
    async with contextlib.AsyncExitStack() as stack:
        given = None
        if who != "ours":
            given = await stack.enter_async_context(_http("httpx2"))
        client = AsyncClient(
            KEY, base_url=url, rate_limits=None, max_retries=0, http_client=given
        )
        ours = await stack.enter_async_context(client)
        await ours.me()
        return await _trial(ours.me, how, count, seed)


def main(arguments: Sequence[str]) -> bool:
    """Print a row for each; whether ours hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks proofs pool")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    print(f"{options.count} reads cancelled\n")
    print(
        "| | cancelled by | 10 at once then take, s | sockets left |\n|---|---|---|---|"
    )
    holds = True
    for who in ("ours", "ours, given httpx2", "bare httpx2", "bare httpx"):
        for how in ("task.cancel", "anyio"):
            taken, held = asyncio.run(_run(who, how, options.count, options.seed))
            if who.startswith("ours"):
                holds = holds and taken < 1.0 and held == 0
            shown = "never" if taken == float("inf") else f"{taken:.3f}"
            print(f"| {who} | {how} | {shown} | {held} |", flush=True)
    return holds
