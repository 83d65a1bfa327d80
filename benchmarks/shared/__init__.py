"""Several processes, one account: what a server that counts for itself sees.

    python -m benchmarks shared [--processes 4] [--creates 200] [--stores NAMES]

Each store in turn: the processes are started together, each wants to send its creates
at once, in real time, with 10 allowed in any 2 s. Then forty processes exchange four
times a second each with Redis, for 10 s: most with no news, and all with news.

    _server      counts, in a process of its own
    _worker      one of the processes
    _race        starts them and reads what was counted
    _exchanger   one of forty processes, four exchanges a second each
    _crowd       starts them
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
        print("\nforty processes, four exchanges a second each, through Redis")
        for news in (False, True):
            print(_crowd_row(news), flush=True)


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


def _crowd_row(news: bool) -> str:
    with _redis.running() as server:
        found = crowd(server.url, news=news)
    return (
        f"{'news' if news else 'no news'}: {_percentiles(found.exchanges)}"
        f"; a bare round trip beside it: {_percentiles(found.trips)}"
    )


def _percentiles(ascending: list[float]) -> str:
    count = len(ascending)
    p50, p99 = ascending[count // 2], ascending[count * 99 // 100]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
