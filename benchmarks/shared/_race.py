"""Starts the server and the workers, and reads what the server counted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import IO, Any

import attrs

LIMIT = 10
PER = 2.0
"""The limit of the server: requests in seconds."""


@attrs.frozen
class Race:
    """What the server saw, and what it cost.

    Attributes:
        worst_window: The most requests in any `PER` seconds.
        refused: Requests above the limit.
        time_over_limit: The time from the first to the last request, divided by the
            shortest that the limit allows.
        least_over_most: The smallest share of a process divided by the largest, when
            the first of them had finished.
        cpu_seconds: CPU time of all processes.
    """

    worst_window: int
    refused: int
    time_over_limit: float
    least_over_most: float
    cpu_seconds: float


def _start(module: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", f"benchmarks.shared.{module}", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def race(store: str, *, processes: int, creates: int) -> Race:
    """Let the processes send, and return what the server saw."""
    server = _start("_server")
    url = f"http://127.0.0.1:{_line(server.stdout)}"
    workers = [
        _start("_worker", url, store, format(number, "x"), str(creates))
        for number in range(processes)
    ]
    for worker in workers:
        assert _line(worker.stdout) == "ready"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    cpu = sum(float(_line(worker.stdout)) for worker in workers)
    for worker in workers:
        worker.communicate()
    seen = json.loads(server.communicate()[0])
    return _judge(seen, creates, cpu)


def _judge(seen: list[Any], creates: int, cpu: float) -> Race:
    times = [at for at, _, _ in seen]
    served = [key for _, key, is_refused in seen if not is_refused]
    rounds = (len(served) - 1) // LIMIT
    return Race(
        worst_window=max(sum(t <= at < t + PER for at in times) for t in times),
        refused=len(seen) - len(served),
        time_over_limit=(times[-1] - times[0]) / max(rounds * PER, PER),
        least_over_most=_shares(served, creates),
        cpu_seconds=cpu,
    )


def _shares(served: list[str], creates: int) -> float:
    counts: Counter[str] = Counter()
    for key in served:
        counts[key] += 1
        if counts[key] == creates:
            break
    return min(counts.values()) / max(counts.values())
