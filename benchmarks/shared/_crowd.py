"""Forty processes, four exchanges a second each: how long one takes."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from typing import Final

import attrs

PROCESSES: Final = 40


@attrs.frozen
class Latencies:
    """What was measured, in seconds, ascending.

    Attributes:
        exchanges: The time of each exchange.
        trips: The time of each bare round trip.
    """

    exchanges: list[float]
    trips: list[float]


def crowd(
    url: str, *, writing: bool, processes: int = PROCESSES, seconds: float = 10.0
) -> Latencies:
    """Run all processes; `writing` makes each exchange change the ledger."""
    workers = [_start(url, number, seconds, writing) for number in range(processes)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    results = [json.loads(worker.communicate()[0]) for worker in workers]
    exchanges, trips = (sorted(chain(*each)) for each in zip(*results, strict=True))
    return Latencies(exchanges, trips)


def _start(
    url: str, number: int, seconds: float, writing: bool
) -> subprocess.Popen[str]:
    arguments = [url, str(number), str(seconds), str(int(writing))]
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "benchmarks.shared._exchanger", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
