"""Webhooks under load, and with several workers; real processes, real time.

``python -m benchmarks webhooks`` runs both parts:

    flood      1,000 hooks a second with wrong tokens, and how long right ones take
    workers    a hook that lands in another process than the one that waits
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from benchmarks._machine import describe
from benchmarks.webhooks import flood, workers

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks webhooks")
    parser.add_argument("--per-second", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tracks", type=int, default=60)
    parser.add_argument("--speed", type=float, default=4.0)
    options = parser.parse_args(arguments)
    print(describe("uvicorn", "starlette", "fastapi") + "\n")
    asyncio.run(flood.table(per_second=options.per_second, seconds=options.seconds))
    print()
    asyncio.run(workers.table(tracks=options.tracks, speed=options.speed))
