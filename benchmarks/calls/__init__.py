"""``python -m benchmarks calls``: what one call costs, as a ratio to bare httpx.

The bare library and a client ask the same server for the same path in one process, in
rounds of 250 calls; the figures are medians of the ratios of neighbouring rounds. The
limiter is on, and off its limit. The server is a process of its own that responds with
bytes rendered beforehand, and each client has a fresh process, in which trio is hidden:
it would bring httpx the package `sniffio`, which many do not have otherwise.

``--instructions`` counts the processor's instructions per call instead (valgrind must
be installed), which distinguish 1.02 from 1.05 where times cannot: 200 calls less 100
calls.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks._machine import describe
from benchmarks.calls.peers import PEERS, Peer, instrument
from benchmarks.calls.running import running

if TYPE_CHECKING:
    from benchmarks.calls.peers import MakeCall

CALLS: Final = 250
COUNTED: Final = 100


async def _measure(call: MakeCall) -> tuple[float, float]:
    """Wall and CPU microseconds per call of one round."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        await call()
    return (
        (time.perf_counter() - wall) * 1e6 / CALLS,
        (time.process_time() - cpu) * 1e6 / CALLS,
    )


async def _compare(peer: Peer, url: str, rounds: int) -> str:
    """A row: medians of both in us, and of the ratios of wall and CPU times."""
    base, theirs = peer.bare(url), peer.call(url)
    for warm in (base, theirs):
        await _measure(warm)
    pairs = [(await _measure(base), await _measure(theirs)) for _ in range(rounds)]
    cells = (
        peer.name,
        f"{statistics.median(b[0] for b, _ in pairs):.0f}",
        f"{statistics.median(t[0] for _, t in pairs):.0f}",
        f"{statistics.median(t[0] / b[0] for b, t in pairs):.2f}",
        f"{statistics.median(t[1] / b[1] for b, t in pairs):.2f}",
    )
    return f"| {' | '.join(cells)} |"


async def _repeat(call: MakeCall, calls: int) -> None:
    for _ in range(calls):
        await call()


def _times(url: str, rounds: int) -> None:
    print("| call | bare us | this us | ratio | CPU ratio |")
    print("|---|---|---|---|---|", flush=True)
    for number, peer in enumerate(PEERS):
        if importlib.util.find_spec(peer.package) is None:
            print(f"| {peer.name} | not installed | | | |", flush=True)
            continue
        _child(["--peer", str(number), f"--rounds={rounds}", url], [])


def _instructions(url: str) -> None:
    print("| call | bare | this | ratio |\n|---|---|---|---|", flush=True)
    for number, peer in enumerate(PEERS[1:3], 1):
        who = str(number)
        base = _counted(["--peer", who, "--bare", url])
        ours = _counted(["--peer", who, url])
        print(f"| {peer.name} | {base:.0f} | {ours:.0f} | {ours / base:.3f} |")


def _counted(arguments: list[str]) -> float:
    """Instructions per call: what twice as many calls take more."""
    once = _total([f"--count={COUNTED}", *arguments])
    return (_total([f"--count={2 * COUNTED}", *arguments]) - once) / COUNTED


def _total(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
        _child(
            arguments, [*tool, f"--cachegrind-out-file={out}", "--log-file=/dev/null"]
        )
        found = re.search(r"^summary: (\d+)", out.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _child(arguments: list[str], under: list[str]) -> None:
    command = [*under, sys.executable, "-m", "benchmarks", "calls", *arguments]
    hashed = {**os.environ, "PYTHONHASHSEED": "0"}  # the same dicts in both counts
    subprocess.run(command, check=True, env=hashed)  # noqa: S603 - our own module


def _be_a_child(options: argparse.Namespace) -> None:
    assert "httpcore" not in sys.modules
    sys.modules["trio"] = None  # type: ignore[assignment] # hides it from httpcore
    peer = PEERS[options.peer]
    if peer.instrumented:
        instrument()
    if not options.count:
        print(asyncio.run(_compare(peer, options.url, options.rounds)), flush=True)
        return
    call = peer.call(options.url)
    if options.bare:
        call = peer.bare(options.url)
    asyncio.run(_repeat(call, options.count))


def main(arguments: list[str]) -> None:
    """Start the server, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks calls")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--peer", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("url", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peer is not None:
        _be_a_child(options)
        return
    print(describe("httpx", "httpcore", "anyio", "sniffio"), "\n")
    with running() as url:
        if options.instructions:
            _instructions(url)
        else:
            _times(url, options.rounds)
