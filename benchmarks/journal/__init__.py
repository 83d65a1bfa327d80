"""``python -m benchmarks journal``: what an idempotency key costs, on this disk.

    creates    a create with a key beside one without, and beside bare fsyncs
    entries    reading and resuming a journal of 50,000 entries

The figures are medians; those with a key and those without take turns. The service is a
process of its own that accepts every create at once, as completed, so that `generate`
makes all its commits. Those are three, where it need not wait: sending, accepted,
completed; the bar is four fsyncs and 1 ms. ``--folder`` is where the journals are kept:
on the disk that is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks._machine import describe


def main(arguments: list[str]) -> None:
    """Print the table."""
    # Here, because each has a process of its own in which it is the main module.
    from benchmarks.journal import creates, entries

    parser = argparse.ArgumentParser(prog="python -m benchmarks journal")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="by default the system's temporary")
    options = parser.parse_args(arguments)
    print(describe("httpx", "anyio", "attrs"), "\n")
    print("| a create with an idempotency key | measured | at most |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for row in creates.rows(Path(folder), options.rounds):
            print(f"| {' | '.join(row)} |", flush=True)
        for row in entries.rows(Path(folder), options.entries):
            print(f"| {' | '.join(row)} |", flush=True)
