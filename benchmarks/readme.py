"""``python -m benchmarks readme``: every figure of README.md's section on performance.

Each part runs in a process of its own, one after another; all of it takes about eight
minutes on two cores. What runs beside it makes ratios no better: use an idle machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._machine import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _waiting() -> None:
    from benchmarks.polling import waiting

    waiting.table(count=10_000, loops=["asyncio"])


def _permits() -> None:
    from benchmarks.limiter import cost

    print("\n".join(f"- {line}" for line in cost.table().splitlines()))


def _journal() -> None:
    from benchmarks import batch
    from benchmarks.journal import creates

    seconds, memory = batch.import_rows()
    print("| batch | measured |\n|---|---|")
    print(f"| {batch.ROWS:,} rows checked and taken in | {seconds:.1f} s |")
    print(f"| memory of the process at most | {memory:.0f} MiB |")
    each = batch.journal_work(1000) * 1000
    print(f"| journal work per item, four commits synced | {each:.2f} ms |")
    with tempfile.TemporaryDirectory() as folder:
        cost = creates.one(Path(folder), 5)
    print(
        "| what an idempotency key adds to a create and its wait; four bare fsyncs |"
        f" {cost.added * 1000:.2f} ms; {cost.fsyncs * 1000:.2f} ms |"
    )


PARTS: dict[str, Callable[[], None]] = {
    "waiting": _waiting,
    "permits": _permits,
    "journal": _journal,
}
"""Parts of other benchmarks."""

SECTIONS = {
    "One call": ["calls"],
    "Many at once": ["connections"],
    "Cancelled reads": ["proofs", "pool"],
    "Weight": ["weight"],
    "Waiting": ["readme", "waiting"],
    "A permit of the limiter": ["readme", "permits"],
    "Batches": ["readme", "journal"],
}


def main(arguments: Sequence[str]) -> None:
    """Print Markdown; with the name of a part, that alone."""
    if arguments:
        PARTS[arguments[0]]()
        return
    began = time.perf_counter()
    print(describe("httpx", "httpcore", "anyio", "attrs"))
    for title, command in SECTIONS.items():
        print(f"\n### {title}\n", flush=True)
        subprocess.run([sys.executable, "-m", "benchmarks", *command], check=True)  # noqa: S603 - our own modules
    print(f"\n(all of it: {time.perf_counter() - began:.0f} s)")
