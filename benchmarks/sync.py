"""``python -m benchmarks sync``: what the blocking client adds to a call.

The async client and the blocking one ask the same server for the same track in one
process, in rounds of 250 calls that follow one another; the figures are medians over
the rounds of the differences per call. Beside it stands what anyio's `BlockingPortal`
adds, called with the async client's method. The server is a process of its own that
responds with bytes rendered beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Final

from anyio.from_thread import start_blocking_portal

from benchmarks._machine import describe
from benchmarks.calls.peers import TRACK
from benchmarks.calls.running import running
from finetuning_async import AsyncClient
from finetuning_async.sync import Client

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS: Final = 250
KEY: Final = "ft_live_" + 32 * "0"


async def _awaited(client: AsyncClient) -> list[float]:
    """Microseconds of each call."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await client.generations.get(TRACK)
        took.append((time.perf_counter() - began) * 1e6)
    return took


def _blocking(call: Callable[[str], object]) -> list[float]:
    """Microseconds of each call."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call(TRACK)
        took.append((time.perf_counter() - began) * 1e6)
    return took


def _rounds(url: str, rounds: int) -> list[tuple[float, float, float]]:
    """Medians of one call in each round: awaited, blocking, through a portal."""
    found: list[tuple[float, float, float]] = []
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        portal = stack.enter_context(start_blocking_portal())
        client = stack.enter_context(Client(KEY, base_url=url, rate_limits=None))
        awaiting, through = (
            AsyncClient(KEY, base_url=url, rate_limits=None) for _ in range(2)
        )
        for _ in range(rounds + 1):
            awaited = runner.run(_awaited(awaiting))
            blocking = _blocking(client.generations.get)
            ported = _blocking(
                lambda track: portal.call(through.generations.get, track)
            )
            found.append((median(awaited), median(blocking), median(ported)))
        runner.run(awaiting.aclose())
        portal.call(through.aclose)
    return found[1:]  # the first one opens the connections


def main(arguments: list[str]) -> None:
    """Start the server, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sync")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    print(describe("httpx", "anyio"), "\n")
    with running() as url:
        found = _rounds(url, options.rounds)
    print("| one `generations.get` | us | above the async client |\n|---|---|---|")
    base = median(awaited for awaited, _, _ in found)
    print(f"| `AsyncClient` | {base:.0f} | |")
    for name, place in {"`sync.Client`": 1, "anyio's `BlockingPortal`": 2}.items():
        us = median(each[place] for each in found)
        more = median(each[place] - each[0] for each in found)
        print(f"| {name} | {us:.0f} | {more:.0f} us |")
