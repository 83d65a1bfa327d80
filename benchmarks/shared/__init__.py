"""Several processes, one account: what an independent server counts.

    python -m benchmarks shared [--processes 4] [--creates 200] [--stores NAMES]

For each store, the processes start together and each tries to send all its creates at
once, in real time, with 10 allowed in any 2 s. Then forty processes exchange four times
a second each with Redis, for 10 s: first without reports, then with one each time, so
that all of them write.

    _race        starts the server and the workers, and reads what was counted
    _server      the server, in its own process
    _worker      one of the processes
    _crowd       starts forty processes
    _exchanger   one of them, four exchanges a second
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import _machine
from benchmarks.shared._crowd import crowd
from benchmarks.shared._race import Race, race
from tests import _postgres_server as _postgres, _redis_server as _redis


def main(argv: list[str]) -> None:
    """Run all parts and print tables."""
    parser = argparse.ArgumentParser(prog="benchmarks shared")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--creates", type=int, default=200)
    parser.add_argument("--stores", default="file,redis,postgres")
    options = parser.parse_args(argv)
    print(_machine.describe("redis", "psycopg", "filelock", "anyio"), "\n")
    stores = options.stores.split(",")
    print(f"{options.processes} processes, {options.creates} creates each, 10 per 2 s")
    print("store    most in 2 s   refused   time / limit   least / most share   CPU s")
    for store in stores:
        with tempfile.TemporaryDirectory() as folder:
            found = _run(store, Path(folder), options.processes, options.creates)
        print(_row(store, found))
    if "redis" in stores:
        print("\nforty processes, four exchanges a second each, through Redis")
        for writing in (False, True):
            print(_crowd_row(writing), flush=True)


def _run(store: str, folder: Path, processes: int, creates: int) -> Race:
    if store == "file":
        return race(f"file:{folder}", processes=processes, creates=creates)
    if store == "postgres":
        with _postgres.cluster() as conninfo:
            return race(f"postgres:{conninfo}", processes=processes, creates=creates)
    with _redis.running() as server:
        return race(server.url, processes=processes, creates=creates)


def _row(store: str, found: Race) -> str:
    return (
        f"{store:<8} {found.worst_window:>11} {found.refused:>9}"
        f" {found.time_over_limit:>14.3f} {found.least_over_most:>20.2f}"
        f" {found.cpu_seconds:>7.1f}"
    )


def _crowd_row(writing: bool) -> str:
    with _redis.running() as server:
        found = crowd(server.url, writing=writing)
    label = "with reports" if writing else "without reports"
    return (
        f"{label}: {_percentiles(found.exchanges)}"
        f"; a bare round trip beside it: {_percentiles(found.trips)}"
    )


def _percentiles(ascending: list[float]) -> str:
    count = len(ascending)
    p50, p99 = ascending[count // 2], ascending[count * 99 // 100]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
