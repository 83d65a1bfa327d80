"""``python -m benchmarks connections``: as many reads at once as 100 connections carry.

The server, a process of its own, responds after 50 ms, so that 100 connections carry
2,000 reads a second, more than one core makes: the client is the bound. Counted are
the connections that the server saw opened during the calls (over TLS each costs a
handshake), and the CPU time per call, beside that of the same client's calls one after
another on a server that responds at once. Each client has a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import httpx

from benchmarks._machine import describe
from benchmarks.calls.running import running
from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Read = Callable[[], Awaitable[object]]

KEY: Final = "ft_live_" + "0" * 32
DELAY: Final = 0.05
SEQUENTIAL: Final = 500
ROUNDS: Final = 3
CLIENTS: Final = ("ours", "httpx, as it comes", "httpx, 100 kept")


async def _sequential(read: Read) -> float:
    """CPU microseconds per call."""
    begun = time.process_time()
    for _ in range(SEQUENTIAL):
        await read()
    return (time.process_time() - begun) * 1e6 / SEQUENTIAL


async def _at_once(read: Read, tasks: int, calls: int) -> tuple[float, float, int]:
    """CPU microseconds per call, calls per second, calls that failed."""
    left, failed = calls, 0

    async def work() -> None:
        nonlocal left, failed
        while left > 0:
            left -= 1
            try:
                await read()
            except Exception:  # a pool timeout; counted, whatever it is
                failed += 1

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(tasks)))
    return (
        (time.process_time() - cpu) * 1e6 / calls,
        calls / (time.perf_counter() - wall),
        failed,
    )


async def _connections(url: str) -> int:
    async with httpx.AsyncClient() as http:
        return int((await http.get(f"{url}/connections")).json())


def _bare(url: str, http: httpx.AsyncClient) -> Read:
    async def read() -> object:
        return (await http.get(f"{url}/v1/generations/gen_1")).json()

    return read


async def _measure(quick: str, slow: str, who: str, tasks: int, calls: int) -> str:
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
    if who == CLIENTS[2]:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with (
        httpx.AsyncClient(headers={"X-API-Key": KEY}) as one_http,
        httpx.AsyncClient(limits=limits, headers={"X-API-Key": KEY}) as many_http,
        AsyncClient(KEY, base_url=quick, rate_limits=None, max_retries=0) as near,
        AsyncClient(KEY, base_url=slow, rate_limits=None, max_retries=0) as far,
    ):
        one, many = _bare(quick, one_http), _bare(slow, many_http)
        if who == "ours":
            one = lambda: near.generations.get("gen_1")  # noqa: E731 - a name for each of two clients
            many = lambda: far.generations.get("gen_1")  # noqa: E731 - a name for each of two clients
        await _sequential(one)
        await _at_once(many, tasks, calls)  # the connections are made
        before = await _connections(slow)
        rows = [
            (await _sequential(one), *await _at_once(many, tasks, calls))
            for _ in range(ROUNDS)
        ]
        opened = await _connections(slow) - before - 1
    alone, at_once, rate, failed = zip(*rows, strict=True)
    cells = (
        who,
        str(tasks),
        f"{statistics.median(alone):.0f}",
        f"{statistics.median(at_once):.0f}",
        f"{statistics.median(row[1] / row[0] for row in rows):.2f}",
        f"{statistics.median(rate):.0f}",
        f"{opened * 100 / (ROUNDS * calls):.1f}",
        str(sum(failed)),
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks connections")
    parser.add_argument("--tasks", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        quick, slow, who = options.only
        tasks, calls = options.tasks[0], options.calls
        print(asyncio.run(_measure(quick, slow, who, tasks, calls)))
        return
    print(describe("httpx", "httpcore", "anyio"))
    print(f"medians of {ROUNDS} rounds of {options.calls} calls\n")
    print(
        "| client | tasks | CPU us alone | CPU us at once | ratio | calls/s"
        " | opened per 100 calls | failed |\n|---|---|---|---|---|---|---|---|"
    )
    with running() as quick, running(delay=DELAY) as slow:
        for who in CLIENTS:
            for tasks in options.tasks:
                own = ["--only", quick, slow, who, f"--tasks={tasks}"]
                own.append(f"--calls={options.calls}")
                command = [sys.executable, "-m", "benchmarks", "connections", *own]
                subprocess.run(command, check=True)  # noqa: S603 - our own module
