"""No create is paid twice, and no track is lost: random schedules and a fault matrix.

    python -m benchmarks proofs submit [--schedules N] [--runs N] [--first SEED]
                                        [--library httpx2]

Prints what was run, with the seeds to run it again, and what did not balance.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, TypeAlias

import anyio

from benchmarks.proofs._libraries import LIBRARIES
from benchmarks.proofs._matrix import (
    Cell,
    cells_in_process,
    cells_on_a_port,
    play_in_process,
    play_on_a_port,
    scaled_lookup,
)
from benchmarks.proofs._schedule import Tally, play

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.proofs._libraries import Library

    _Proof: TypeAlias = Callable[[Tally, range, Library], None]

AT_ONCE = 12
"""Runs on ports at a time; each waits most of the time."""


def main(arguments: list[str]) -> bool:
    """Run the proof; returns whether it holds."""
    parser = argparse.ArgumentParser(prog="proofs submit")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=20, help="of each cell")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--library", choices=LIBRARIES, default="httpx")
    chosen = parser.parse_args(arguments)
    seeds = range(chosen.first, chosen.first + chosen.schedules)
    runs = range(chosen.first, chosen.first + chosen.runs)
    tallies = [
        _report(f"schedules, seeds {_span(seeds)}", _schedules, seeds, chosen.library),
        _report(
            f"matrix in-process, runs {_span(runs)}", _in_process, runs, chosen.library
        ),
        _report(
            f"matrix on a port, runs {_span(runs)}", _on_a_port, runs, chosen.library
        ),
    ]
    return not any(tally.wrong for tally in tallies)


def _span(numbers: range) -> str:
    return f"{numbers.start} to {numbers.stop - 1}"


def _report(title: str, proof: _Proof, numbers: range, library: Library) -> Tally:
    started = time.perf_counter()
    tally = Tally()
    proof(tally, numbers, library)
    print(f"{library}, {title}: {time.perf_counter() - started:.0f} s")
    print(
        f"  runs {tally.schedules}, creates sent {tally.posts}, tracks {tally.tracks}"
    )
    for counts in (tally.creates, tally.faults):
        if counts:
            line = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
            print(f"  {line}")
    print(f"  violations: {len(tally.wrong)}")
    for line in tally.wrong[:20]:
        print(f"    {line}")
    return tally


def _schedules(tally: Tally, seeds: range, library: Library) -> None:
    for seed in seeds:
        play(seed, tally, library)


def _in_process(tally: Tally, runs: range, library: Library) -> None:
    cells = cells_in_process()
    print(f"  {len(cells)} cells")
    for cell in cells:
        for run in runs:
            play_in_process(cell, run, tally, library)


def _on_a_port(tally: Tally, runs: range, library: Library) -> None:
    cells = cells_on_a_port()
    print(f"  {len(cells)} cells")
    with scaled_lookup():
        anyio.run(_all_on_a_port, tally, cells, runs, library)


async def _all_on_a_port(
    tally: Tally, cells: list[Cell], runs: range, library: Library
) -> None:
    limit = anyio.Semaphore(AT_ONCE)

    async def one(cell: Cell, run: int) -> None:
        async with limit:
            await play_on_a_port(cell, run, tally, library)

    async with anyio.create_task_group() as group:
        for cell in cells:
            for run in runs:
                group.start_soon(one, cell, run)
