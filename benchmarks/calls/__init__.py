"""``python -m benchmarks calls``: what one call costs, as a ratio to bare httpx.

Bare httpx and the client ask the same server in the same process, in turns of 250
calls; the figures are medians of the ratios of neighbouring turns. The server is a
process of its own that answers with bytes rendered beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx

from benchmarks._machine import describe
from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Turn = Callable[[], Awaitable[object]]

CALLS = 250
PROMPT = "slow choir over tape hiss"
KEY = "ft_live_" + "0" * 32
HEADERS = {"X-API-Key": KEY}


async def measure(turn: Turn) -> tuple[float, float]:
    """Wall and CPU microseconds per call of one turn."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        await turn()
    return (
        (time.perf_counter() - wall) * 1e6 / CALLS,
        (time.process_time() - cpu) * 1e6 / CALLS,
    )


async def compare(base: Turn, ours: Turn, turns: int) -> tuple[float, ...]:
    """Medians: base in us, ours in us, ratio of wall times, ratio of CPU times."""
    for warm in (base, ours):
        await measure(warm)
    pairs = [(await measure(base), await measure(ours)) for _ in range(turns)]
    return (
        statistics.median(b[0] for b, _ in pairs),
        statistics.median(o[0] for _, o in pairs),
        statistics.median(o[0] / b[0] for b, o in pairs),
        statistics.median(o[1] / b[1] for b, o in pairs),
    )


async def run(url: str, turns: int) -> None:
    """Print the table."""
    body = {"tags": PROMPT, "seed": 7}
    async with (
        httpx.AsyncClient(base_url=url, headers=HEADERS) as bare,
        AsyncClient(KEY, base_url=url, rate_limits=None) as client,
    ):

        async def bare_get() -> object:
            return (await bare.get("/v1/generations/gen_1")).json()

        async def bare_post() -> object:
            return (await bare.post("/v1/generations", json=body)).json()

        rows = {
            "httpx against itself": (bare_get, bare_get),
            "generations.get": (bare_get, lambda: client.generations.get("gen_1")),
            "generations.create": (
                bare_post,
                lambda: client.generations.create(PROMPT, seed=7),
            ),
        }
        print("| call | bare httpx us | ours us | ratio | CPU ratio |")
        print("|---|---|---|---|---|")
        for name, (base, ours) in rows.items():
            figures = await compare(base, ours, turns)
            print("| {} | {:.0f} | {:.0f} | {:.3f} | {:.3f} |".format(name, *figures))


def main(arguments: list[str]) -> None:
    """Start the server, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks calls")
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args(arguments)
    print(describe("httpx", "httpcore", "anyio"))
    command = [sys.executable, "-m", "benchmarks.calls.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own module
        try:
            line = server.stdout.readline() if server.stdout else ""
            url = f"http://127.0.0.1:{line.strip()}"
            asyncio.run(run(url, options.turns))
        finally:
            server.terminate()
