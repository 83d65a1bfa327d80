"""``python -m benchmarks sync``: what the blocking client adds to a call.

The async client and the blocking one ask the same server for the same track in one
process, in short rounds that follow one another. The figures are medians over the
rounds: of the median call of a round, and of its difference to that of the async
client; and of the processor's time per call, which says more on a busy machine. Beside
it stands anyio's `BlockingPortal`, which calls the same method. The server is a process
of its own that responds with bytes rendered beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import ExitStack
from functools import partial
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

    Round = tuple[float, float]
    """Wall time of the median call, and processor time per call; microseconds."""

CALLS: Final = 50
KEY: Final = "ft_live_" + 32 * "0"


async def _awaited(client: AsyncClient) -> Round:
    took, cpu = [], time.process_time()
    for _ in range(CALLS):
        began = time.perf_counter()
        await client.generations.get(TRACK)
        took.append(time.perf_counter() - began)
    return median(took) * 1e6, (time.process_time() - cpu) * 1e6 / CALLS


def _blocking(call: Callable[[str], object]) -> Round:
    took, cpu = [], time.process_time()
    for _ in range(CALLS):
        began = time.perf_counter()
        call(TRACK)
        took.append(time.perf_counter() - began)
    return median(took) * 1e6, (time.process_time() - cpu) * 1e6 / CALLS


def _rounds(url: str, rounds: int) -> list[tuple[Round, Round, Round]]:
    """Awaited, blocking, through a portal."""
    found: list[tuple[Round, Round, Round]] = []
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
            ported = _blocking(partial(portal.call, through.generations.get))
            found.append((awaited, blocking, ported))
        runner.run(awaiting.aclose())
        portal.call(through.aclose)
    return found[1:]  # the first one opens the connections


def main(arguments: list[str]) -> None:
    """Start the server, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sync")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(arguments)
    print(describe("httpx", "anyio"), "\n")
    with running() as url:
        found = _rounds(url, options.rounds)
    print(
        "| one `generations.get` | us | more | CPU us | more |\n|---|---|---|---|---|"
    )
    names = ("`AsyncClient`", "`sync.Client`", "anyio's `BlockingPortal`")
    for place, name in enumerate(names):
        cells = [
            f"{median(cell):.0f}"
            for kind in (0, 1)
            for cell in (
                [each[place][kind] for each in found],
                [each[place][kind] - each[0][kind] for each in found],
            )
        ]
        print(f"| {name} | {' | '.join(cells)} |")
