"""What the package weighs: its start, its accounts, its models, its downloads.

    starting   imports, the first client and a second one, ``--help``
    rows       from bytes to models
    accounts   memory of an account; whether many make each dearer
    downloads  10 MB to a file

``python -m benchmarks weight`` prints one table. Nothing in it needs a peer but httpx.
``--accounts`` is how many the last part has; ``--seed`` when they begin.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from benchmarks._machine import describe
from benchmarks.weight import accounts, downloads, rows, starting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS_OF_FEW = 600.0
SECONDS_OF_MANY = 10.0


def _start() -> Iterator[tuple[str, str, str]]:
    start = starting.measure()
    package, name, first = start.modules
    loaded = ", ".join(start.optional) or "nothing"
    yield (
        "`import finetuning_async`, over its dependencies",
        f"{start.package:.1f} ms, {package} module, optional: {loaded}",
        "10 ms, 25 modules",
    )
    yield (
        "and `from finetuning_async import AsyncClient`",
        f"{start.package + start.name:.1f} ms, {name} modules",
        "10 ms, 25 modules",
    )
    yield (
        "the first client, with what clients are made of",
        f"{start.first:.0f} ms with httpcore, {first} modules of ours in all",
        "",
    )
    yield "its first call, before it connects (TLS)", f"{start.bound:.0f} ms", ""
    yield "a second client, likewise", f"{start.second:.2f} ms", "1 ms"
    yield (
        f"`finetuning --help` (Python alone: {start.bare:.0f} ms)",
        f"{start.help:.0f} ms",
        "200 ms",
    )


def _models() -> Iterator[tuple[str, str, str]]:
    one, page = rows.microseconds()
    yield "JSON to one generation", f"{one:.1f} us", "12 us"
    yield f"JSON to a page of {rows.ROWS}", f"{page / 1000:.2f} ms", "1.20 ms"


def _downloads() -> Iterator[tuple[str, str, str]]:
    for way in downloads.WAYS:
        speed = downloads.measure(way)
        yield (
            f"10 MB to a file by {way}: speed, of a plain loop's that blocks",
            f"{speed.ratio:.2f} ({speed.mb_per_second:.0f} MB/s)",
            "0.85",
        )
        yield (
            "the event loop stands still for at most",
            f"{speed.stall * 1000:.1f} ms (plain: {speed.stall_plain * 1000:.1f} ms)",
            "20 ms",
        )
        yield "memory at most", f"{speed.peak / 2**20:.1f} MiB", "4 MiB"


def _accounts(many: int, seed: int) -> Iterator[tuple[str, str, str]]:
    weight = accounts.weight()
    yield "one of 1,000 accounts on one pool", f"{weight / 1024:.1f} KiB", "20 KiB"
    ours, bare = (
        (
            accounts.run(way, accounts.FEW, SECONDS_OF_FEW, seed),
            accounts.run(way, many, SECONDS_OF_MANY, seed),
        )
        for way in (accounts.ours, accounts.bare_httpx)
    )
    for name, field in (
        ("function calls", "calls"),
        ("CPU", "cpu"),
        ("CPU with gc.set_threshold(10_000)", "tuned"),
    ):
        low, high = getattr(ours[0], field), getattr(ours[1], field)
        peer = getattr(bare[1], field) / getattr(bare[0], field)
        unit = "" if field == "calls" else " us"
        yield (
            f"{name} per request, {many:,} accounts to {accounts.FEW}",
            f"{high / low:.2f} ({low:.0f} to {high:.0f}{unit}; bare httpx {peer:.2f})",
            "1.10",
        )


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks weight")
    parser.add_argument("--accounts", type=int, default=accounts.MANY)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    print(describe("httpx", "httpcore", "anyio", "attrs"), f"seed {options.seed}\n")
    print("| what | measured | bound |\n|---|---|---|", flush=True)
    for part in (
        _start(),
        _models(),
        _downloads(),
        _accounts(options.accounts, options.seed),
    ):
        for row in part:
            print(f"| {' | '.join(row)} |", flush=True)
