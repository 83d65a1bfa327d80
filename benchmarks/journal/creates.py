"""What a key adds to a create: alone, a hundred at once, and beside a slow service."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from benchmarks.journal._server import serving
from finetuning_async import AsyncClient
from finetuning_async.journal import SQLiteJournal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FSYNCS: Final = 4
"""Those of a create that is planned first, because it must wait."""

ALONE: Final = 40
"""Creates of one round, one after another."""

WARM: Final = 2
"""Of each, before those that count."""

AT_ONCE: Final = 100
DELAY: Final = 0.05
"""Seconds of the slow service for each response."""

BLOCK: Final = bytes(4096)
API_KEY: Final = "ft_live_" + "b" * 32

_numbers = count(1)


class Call(Protocol):
    """Creates with a key or without one; returns the seconds that one took."""

    async def __call__(self, client: AsyncClient, *, with_key: bool) -> float:
        """Call it."""


@attrs.frozen
class Cost:
    """Seconds of one create; medians of all, or of all rounds.

    Attributes:
        plain: Without a key, and without a journal.
        ratio: Of one with a key to the one without beside it.
        added: What the key added to the one beside it.
        fsyncs: Four writes of 4 KiB, each with an fsync, beside them.
        beyond: What was added beyond those.
    """

    plain: float
    ratio: float
    added: float
    fsyncs: float
    beyond: float

    @classmethod
    def of(cls, found: list[tuple[float, float, float]]) -> Cost:
        """The medians of: with a key, without one, and four bare fsyncs."""
        median = statistics.median
        return cls(
            plain=median(plain for _, plain, _ in found),
            ratio=median(keyed / plain for keyed, plain, _ in found),
            added=median(keyed - plain for keyed, plain, _ in found),
            fsyncs=median(synced for _, _, synced in found),
            beyond=median(k - p - synced for k, p, synced in found),
        )


def bare_fsyncs(folder: Path) -> float:
    """Seconds for four writes, each with an fsync, on this disk."""
    file = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    began = time.perf_counter()
    for _ in range(FSYNCS):
        os.write(file, BLOCK)
        os.fsync(file)
    seconds = time.perf_counter() - began
    os.close(file)
    return seconds


async def _generate(client: AsyncClient, *, with_key: bool) -> float:
    number = next(_numbers)
    key = f"order-{number}" if with_key else None
    began = time.perf_counter()
    await client.generate(f"song {number}", idempotency_key=key)
    return time.perf_counter() - began


async def _create(client: AsyncClient, *, with_key: bool) -> float:
    number = next(_numbers)
    key = f"order-{number}" if with_key else None
    began = time.perf_counter()
    await client.generations.create(f"song {number}", idempotency_key=key)
    return time.perf_counter() - began


async def _hundred(client: AsyncClient, *, with_key: bool) -> float:
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_generate(client, with_key=with_key))
    return (time.perf_counter() - began) / AT_ONCE


async def _measure(folder: Path, call: Call, times: int, delay: float) -> Cost:
    journal = SQLiteJournal(folder / f"{next(_numbers)}.db")
    with serving(delay) as url:
        async with (
            AsyncClient(API_KEY, base_url=url, rate_limits=None) as plain,
            AsyncClient(
                API_KEY, base_url=url, rate_limits=None, journal=journal
            ) as keyed,
        ):
            found = [
                (
                    await call(keyed, with_key=True),
                    await call(plain, with_key=False),
                    bare_fsyncs(folder),
                )
                for _ in range(times + WARM)
            ]
        await journal.aclose()
    return Cost.of(found[WARM:])


def measure(folder: Path, call: Call, times: int, delay: float = 0.0) -> Cost:
    """What a key costs.

    Args:
        folder: Where the journal is kept.
        call: What is called in turns with a key and without one.
        times: How often, after a few that do not count.
        delay: Seconds that the service takes for each response.
    """
    return asyncio.run(_measure(folder, call, times, delay))


def one(folder: Path, rounds: int) -> Cost:
    """The cost of one that is alone."""
    return measure(folder, _generate, rounds * ALONE)


def rows(folder: Path, rounds: int) -> Iterator[tuple[str, str, str]]:
    """The rows of the table."""
    alone = one(folder, rounds)
    yield (
        f"`generate`, alone: added (four bare fsyncs: {alone.fsyncs * 1000:.2f} ms)",
        f"{alone.added * 1000:.2f} ms, {alone.beyond * 1000:.2f} ms beyond the fsyncs",
        "1 ms beyond",
    )
    crowd = measure(folder, _hundred, rounds)
    added = f"{crowd.added * 1000:.2f} ms"
    yield f"`generate`, {AT_ONCE} at once: added to each", added, "2 ms"
    slow = measure(folder, _create, 2 * ALONE, DELAY)
    name = f"`create`, of one without a key ({slow.plain * 1000:.1f} ms)"
    yield name, f"{slow.ratio:.3f}", "1.05"
