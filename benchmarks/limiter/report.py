"""The tables: refusals and time of each client against each kind of service."""

from __future__ import annotations

import argparse
import platform
from contextlib import ExitStack
from math import inf
from statistics import mean
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.limiter import bound, cost, stores
from benchmarks.limiter.clients import PEERS, process_clock_follows_loop
from benchmarks.limiter.ours import ONE_RULE_REMOVED, Ours
from benchmarks.limiter.servers import KINDS
from benchmarks.limiter.simulation import Setting, Wire, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.limiter.simulation import Client

BLOCKS: Final = (
    ("60 creates", Setting(kind="", count=60), True),
    ("60 creates, no headers", Setting(kind="", count=60, headers=False), False),
    ("60 creates, up to 3 s each way", Setting(kind="", delays=(0.02, 3.0)), False),
    (
        "60 creates, up to 3 s each way, no headers",
        Setting(kind="", delays=(0.02, 3.0), headers=False),
        False,
    ),
    ("60 creates, 7 counted before", Setting(kind="", foreign=7), True),
    (
        "60 creates, 7 counted before, no headers",
        Setting(kind="", foreign=7, headers=False),
        False,
    ),
    ("300 creates", Setting(kind="", count=300), True),
    ("300 creates, no headers", Setting(kind="", count=300, headers=False), False),
    (
        "300 creates, up to 3 s each way",
        Setting(kind="", count=300, delays=(0.02, 3.0)),
        False,
    ),
)
"""Heading, setting, and whether the peers are run too; they read no headers."""

RULES: Final = (
    ("60 creates, up to 3 s each way", Setting(kind="", delays=(0.02, 3.0))),
    ("60 creates, no headers", Setting(kind="", headers=False)),
    ("60 creates, 7 counted before", Setting(kind="", foreign=7)),
    (
        "60 creates, 7 counted before, no headers",
        Setting(kind="", foreign=7, headers=False),
    ),
)
"""Settings in which each rule makes a difference."""


@attrs.frozen
class Cell:
    """One client against one kind of service, over all seeds."""

    refusals: float
    most: int
    in_a_window: int
    seconds: float
    optimum: float

    @property
    def ratio(self) -> float:
        """Time as a multiple of the clairvoyant client's."""
        return self.seconds / self.optimum

    def __str__(self) -> str:
        refusals = f"{self.refusals:.1f} ({self.most}, {self.in_a_window})"
        if self.seconds == inf:
            return f"{refusals} / never"
        return f"{refusals} / {self.seconds:.0f} / {self.ratio:.3f}"


def measure(setting: Setting, seeds: int, make: Callable[[Setting], Client]) -> Cell:
    """Run one client with every seed; the phases are spread evenly over the seeds."""
    with process_clock_follows_loop():
        results = [run(setting, seed, seeds, make) for seed in range(seeds)]
    return Cell(
        mean(result.refusals for result in results),
        max(result.refusals for result in results),
        max(result.worst_window for result in results),
        mean(result.seconds for result in results),
        mean(Wire(setting, seed, seeds).optimum() for seed in range(seeds)),
    )


def row(setting: Setting, seeds: int, make: Callable[[Setting], Client]) -> list[Cell]:
    """One client against all kinds of service."""
    return [measure(attrs.evolve(setting, kind=kind), seeds, make) for kind in KINDS]


def block(
    setting: Setting, seeds: int, clients: dict[str, Callable[[Setting], Client]]
) -> str:
    """One table, in Markdown."""
    lines = [f"| | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for name, make in clients.items():
        cells = row(setting, seeds, make)
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    optima = [f"{cell.optimum:.0f}" for cell in cells]
    lines.append(f"| *clairvoyant* | {' | '.join(optima)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(prog="benchmarks limiter", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="runs per cell; 20")
    parser.add_argument("--no-peers", action="store_true", help="only our own rows")
    parser.add_argument(
        "--store",
        action="append",
        choices=stores.NAMES,
        help="only our rows, and one for two processes that share it; may be repeated",
    )
    options = parser.parse_args(arguments)
    print(f"{options.seeds} seeds, CPython {platform.python_version()},", end=" ")
    print(f"{platform.system()} {platform.machine()}")
    print("Cell: mean refusals (most in a run, most within any one period)", end=" ")
    print("/ mean seconds / times the clairvoyant")
    with ExitStack() as stack:
        shared = {
            f"two processes, {name}": stores.maker(name, stack)
            for name in options.store or ()
        }
        for heading, setting, peers in BLOCKS:
            clients: dict[str, Callable[[Setting], Client]] = {"finetuning_async": Ours}
            clients |= shared
            clients |= PEERS if peers and not (options.no_peers or shared) else {}
            _print(heading, setting, options.seeds, clients)
    if not shared:
        _print_rules_and_costs(options.seeds)


def _print(
    heading: str,
    setting: Setting,
    seeds: int,
    clients: dict[str, Callable[[Setting], Client]],
) -> None:
    print(f"\n{heading}\n\n{block(setting, seeds, clients)}", flush=True)


def _print_rules_and_costs(seeds: int) -> None:
    for heading, setting in RULES:
        _print(f"One rule removed: {heading}", setting, seeds, ONE_RULE_REMOVED)
    print(
        f"\nThe least time that sending single probes first can cost\n\n{bound.table()}"
    )
    print(f"\n{cost.table()}")
