"""Several processes, one account: what a server that counts for itself sees.

    python -m benchmarks shared [--processes 4] [--creates 200] [--stores NAMES]

Each store in turn: the processes are started together, each wants to send its creates
at once, in real time, with 10 allowed in any 2 s. Then 1,000 turns a second through
Redis, for 10 s.

    _server      counts, in a process of its own
    _worker      one of the processes
    _race        starts them and reads what was counted
    _turns       1,000 turns a second
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks import _machine, _postgres, _redis
from benchmarks.shared._race import Race, race
from benchmarks.shared._turns import Latencies, turns


def main(argv: list[str]) -> None:
    """Run all, and print a table."""
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
        with _redis.running() as server:
            print("\n" + _told(asyncio.run(turns(server.url))))


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


def _told(found: Latencies) -> str:
    return (
        f"through Redis: {found.rate:,.0f} turns a second,"
        f" p50 {found.p50 * 1000:.2f} ms, p99 {found.p99 * 1000:.2f} ms"
    )
