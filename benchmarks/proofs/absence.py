"""Lists that lag, page wrongly, drop and respell fields: nothing is paid twice.

Random schedules in virtual time: creates whose responses are lost, before the service
did its work or after, through the client and through a batch, with ``raise`` (a batch:
``hold``) and ``resubmit``, while the list that should show them is unreliable.

    python -m benchmarks proofs absence [--schedules N] [--first SEED] [--jobs N]

Prints a table with the seeds to run it again, and what was paid twice. A seed gives the
same schedule every time.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from benchmarks._machine import describe
from benchmarks.proofs._absence import CASES, Tally, play

CHUNK: Final = 50
"""Schedules that a process gets at a time."""

COLUMNS: Final = (
    "schedules",
    "creates",
    "tracks",
    "lost",
    "found",
    "sent again",
    "unknown",
    "double credits",
)


def main(arguments: list[str]) -> bool:
    """Run the proof; returns whether it holds."""
    parser = argparse.ArgumentParser(prog="proofs absence")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4))
    chosen = parser.parse_args(arguments)
    seeds = range(chosen.first, chosen.first + chosen.schedules)
    print(f"seeds {seeds.start} to {seeds.stop - 1}, {describe('httpx', 'anyio')}")
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    tally = Tally()
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for part in pool.map(run, chunks):
            tally.add(part)
    _show(tally)
    return not tally.wrong


def run(seeds: range) -> Tally:
    """Run the schedules of some seeds."""
    tally = Tally()
    for seed in seeds:
        play(seed, tally)
    return tally


def _show(tally: Tally) -> None:
    print("  ".join(["".ljust(17), *COLUMNS]))
    for case in CASES:
        counts = tally.counts[case]
        cells = [f"{counts[name]:{len(name)},}" for name in COLUMNS]
        print("  ".join([", ".join(case).ljust(17), *cells]))
    print(f"violations: {len(tally.wrong)}")
    for line in tally.wrong[:20]:
        print(f"  {line}")
