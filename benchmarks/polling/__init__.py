"""Polling: how late ends are noticed, for how many reads, and what waiting costs.

``python -m benchmarks polling`` runs all parts, the first two under virtual time:

    noticing   tracks in progress: this package compared with the vendor's way
    waiting    10,000 waiters: this package compared with sleep loops
    sharing    processes that share a store, of which one reads; takes five minutes

``--minutes`` sets how long the service is watched for each row, ``--seed`` its
randomness, ``--parts`` what is run.
"""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING

from benchmarks.polling import noticing, sharing, waiting

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks polling")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--waiters", type=int, default=10_000)
    parser.add_argument("--parts", default="noticing,waiting,sharing")
    options = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    parts = options.parts.split(",")
    if "noticing" in parts:
        noticing.table(minutes=options.minutes, seed=options.seed)
        print()
    if "waiting" in parts:
        waiting.table(count=options.waiters)
        print()
    if "sharing" in parts:
        sharing.table(seed=options.seed)
