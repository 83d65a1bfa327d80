"""No schedule of crashes, faults, processes and cancellations spends above a budget.

Each schedule follows from its seed; see `_budget_schedule`. The emulator's ledger is
the witness: no more credits than the budget has, in all or in any period.

``python -m benchmarks proofs budget [--schedules N] [--seed N]``
"""

from __future__ import annotations

import argparse
import logging

from benchmarks.proofs._budget_schedule import Tally, play


def main(arguments: list[str]) -> bool:
    """Run the schedules; returns whether no credit was overspent."""
    parser = argparse.ArgumentParser(prog="budget")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what is lost and refused is logged
    tally = Tally()
    for seed in range(options.seed, options.seed + options.schedules):
        play(seed, tally)
    outcomes = ", ".join(f"{n} {name}" for name, n in tally.outcomes.most_common())
    print(
        f"{tally.schedules} schedules from seed {options.seed}: {tally.charged} credits"
        f" charged, {tally.refused} creates refused by a budget, {tally.crashes}"
        f" processes ended; overspent: {tally.over} credits\n  creates: {outcomes}"
    )
    for line in tally.wrong[:20]:
        print(f"  {line}")
    return not tally.over
