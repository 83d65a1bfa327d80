"""Polling: how soon ends are noticed, for how many reads; and what waiting costs.

``python -m benchmarks polling`` runs both parts, under virtual time:

    noticing   tracks in flight, ours beside the vendor's way
    waiting    10,000 waiters, ours beside sleep loops

``--minutes`` sets how long the service is watched for each row, ``--seed`` its chances.
"""

from __future__ import annotations

import argparse
import platform
from typing import TYPE_CHECKING

from benchmarks.polling import noticing, waiting

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks polling")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--waiters", type=int, default=10_000)
    options = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    noticing.table(minutes=options.minutes, seed=options.seed)
    print()
    waiting.table(count=options.waiters)
