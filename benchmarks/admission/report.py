"""The table: what is measured, and what it must reach."""

from __future__ import annotations

import argparse
import platform
from contextlib import ExitStack
from statistics import mean, median
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.admission import estimates, line, queue
from benchmarks.limiter import stores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.admission.line import Processes


BOUNDS: Final = (5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 600.0)
"""Values of `max_wait`, in seconds."""


@attrs.frozen
class Row:
    """One line of the table."""

    what: str
    value: str
    target: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.value} | {self.target} |"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def rows_of_a_line(make: Callable[[], Processes], seeds: int) -> list[Row]:
    """What one way to keep the line reaches."""
    each = range(seeds)
    waits = [wait for seed in each for wait in line.waits_of_persons(make, seed)]
    stretched = [
        line.batch_alone(make, seed, 1000, "low")
        / line.batch_alone(make, seed, 1000, "normal")
        for seed in range(max(seeds // 10, 1))
    ]
    alone = [
        line.batch_alone(make, seed, 10, "low")
        / line.batch_alone(make, seed, 10, "normal")
        for seed in each
    ]
    tenth = min(line.permits_of_low(make, seed) for seed in each)
    of_shares = [line.shares(make, seed) for seed in each]
    return [
        Row(
            "a `high` create behind 1,000 `low` ones: mean, 95 % (s)",
            f"{mean(waits):.1f}, {percentile(waits, 0.95):.1f}",
            "4, 7",
        ),
        Row("1,000 `low` ones alone, of bursts", f"{mean(stretched):.3f}", "1.01"),
        Row("ten `low` ones alone, of bursts", f"{mean(alone):.2f}", "1.00"),
        Row("least share of ten permits for `low`", f"{tenth:.1f}", "0.1"),
        Row(
            "nine shares beside one of 500: last, of equal shares; Jain's index",
            f"{max(last for last, _ in of_shares):.3f},"
            f" {min(index for _, index in of_shares):.3f}",
            "1.05, 0.98",
        ),
    ]


def row_of_the_queue(seeds: int) -> Row:
    """What a whole client reaches where the service's queue takes five tracks."""
    measured = [each for seed in range(seeds) for each in queue.waits_of_persons(seed)]
    waits, free = [wait for wait, _ in measured], [free for _, free in measured]
    last = percentile(waits, 0.95) / percentile(free, 0.95)
    return Row(
        "with a queue of 5: of the time to the next free place, mean, 95 %",
        f"{mean(waits) / mean(free):.2f}, {last:.2f}",
        "1.1, 1.5",
    )


def rows_of_estimates(seeds: int) -> list[Row]:
    """How far estimates are off: the median, and what 95 of 100 do not exceed."""
    runs = [
        (creates, places, estimates.errors(seed, creates, places, "normal"))
        for creates in (1, 10, 200)
        for places in (5, 100)
        for seed in range(seeds)
    ]
    first = [error.first_sent for _, _, error in runs]
    last = [error.last_completed for creates, _, error in runs if creates > 1]
    rows = [
        Row(f"`estimate`: error of `{name}`", _errors(values), "10 %, 25 %")
        for name, values in (("first_sent", first), ("last_completed", last))
    ]
    for places, name, tolerance, target in (
        (100, "permits only, beyond 20 % of it", 0.2, "0 %"),
        (5, "a queue of 5", 0.0, "10 %"),
    ):
        wrong = [
            error.is_wrong(bound, tolerance)
            for _, of_places, error in runs
            if of_places == places
            for bound in BOUNDS
        ]
        value = f"{mean(wrong):.1%}".replace("%", " %")
        rows.append(Row(f"`max_wait` judged wrongly: {name}", value, target))
    return rows


def _errors(values: Sequence[float]) -> str:
    return f"{median(values):.0%}, {percentile(values, 0.95):.0%}".replace("%", " %")


def main(arguments: Sequence[str]) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(prog="benchmarks admission", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="runs per row; 20")
    parser.add_argument(
        "--store",
        action="append",
        choices=stores.NAMES,
        help="only two processes that share it; may be repeated",
    )
    options = parser.parse_args(arguments)
    print(f"{options.seeds} seeds, CPython {platform.python_version()},", end=" ")
    print(f"{platform.system()} {platform.machine()}")
    with ExitStack() as stack:
        for name in options.store or ():
            make = stores.pair_maker(name, stack)
            _print(f"two processes, {name}", rows_of_a_line(make, options.seeds))
    if not options.store:
        rows = rows_of_a_line(line.one_process, options.seeds)
        rows.append(row_of_the_queue(options.seeds))
        rows += rows_of_estimates(options.seeds)
        cost = f"{line.cost_of_a_turn():.1f}"
        rows.append(Row("a turn with 10,000 waiting in 1,000 shares (us)", cost, "20"))
        _print("one process", rows)


def _print(heading: str, rows: Sequence[Row]) -> None:
    lines = [f"| {heading} | | must reach |", "|---|---|---|", *map(str, rows)]
    print("", *lines, sep="\n", flush=True)
