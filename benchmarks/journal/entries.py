"""A large journal: reading its entries, and the start of `resume_all`.

Each figure is taken in a process of its own, because memory that a process has had does
not come back.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.journal._server import serving
from benchmarks.journal.creates import API_KEY
from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.journal import (
    Accepted,
    Ended,
    Entry,
    Event,
    Insert,
    NewItem,
    Sending,
    SQLiteJournal,
    body_of,
    step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning_async.journal import JournalStore

CHUNK: Final = 1000


class _NamedJournal(SQLiteJournal):
    """Tells the name of the part of an account that was opened."""

    opened: JournalStore

    def open(self, account: str) -> JournalStore:
        """As `SQLiteJournal.open`."""
        self.opened = super().open(account)
        return self.opened


def _item(number: int, *, has_ended: bool) -> Insert:
    request = GenerationRequest(f"song {number}, brass and rain", duration=120)
    track = {
        "id": f"track-{number}",
        "type": "music",
        "status": "completed" if has_ended else "processing",
        "prompt": request.prompt,
        "parameters": {"duration": 120, "seed": number},
    }
    raw = json.dumps(track)
    entry = Entry(holder="gone")
    events: list[Event] = [Sending(number, 1.0), Accepted(f"track-{number}", raw)]
    for event in [*events, *([Ended(False, raw)] if has_ended else [])]:
        entry, _ = step(entry, event)
    new = NewItem(
        key=f"order-{number}",
        custom_id=None,
        line=None,
        kind="music",
        body=body_of(request),
        file="",
    )
    return Insert(new, entry)


async def _fill(path: Path, url: str, count: int, unfinished: int) -> None:
    journal = _NamedJournal(path)
    async with AsyncClient(API_KEY, base_url=url, journal=journal) as client:
        await client.journal.get("any")
        for first in range(0, count, CHUNK):
            numbers = range(first, min(first + CHUNK, count))
            journal.opened.commit(
                [_item(n, has_ended=n >= unfinished) for n in numbers]
            )
        await journal.aclose()


async def _read(path: Path, url: str) -> tuple[float, float]:
    """Seconds to read all entries, and the memory that it takes at most, in MiB."""
    async with AsyncClient(API_KEY, base_url=url, journal=path) as client:
        await client.journal.get("any")
        began = time.perf_counter()
        async for _ in client.journal.entries():
            pass
        seconds = time.perf_counter() - began
        tracemalloc.start()
        async for _ in client.journal.entries():
            pass
        peak = tracemalloc.get_traced_memory()[1]
    return seconds, peak / 2**20


async def _resume(path: Path, url: str) -> tuple[float, ...]:
    """Seconds until `resume_all` gives its first outcome."""
    async with AsyncClient(
        API_KEY, base_url=url, rate_limits=None, journal=path
    ) as client:
        began = time.perf_counter()
        async with client.resume_all() as outcomes:
            async for outcome in outcomes:
                seconds = time.perf_counter() - began
                assert outcome.error is None, outcome
                return (seconds,)
    raise AssertionError("there was nothing to resume")


_PARTS = {"read": _read, "resume": _resume}


def _measured(part: str, path: Path, url: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.journal.entries", part, str(path), url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    found: list[float] = json.loads(done.stdout)
    return found


def rows(folder: Path, count: int) -> Iterator[tuple[str, str, str]]:
    """The rows of the table."""
    with serving(0.0) as url:
        few, many, open_ = (folder / f"{n}.db" for n in ("few", "many", "open"))
        asyncio.run(_fill(few, url, count // 10, 0))
        asyncio.run(_fill(many, url, count, count // 50))
        asyncio.run(_fill(open_, url, count, count))
        seconds, peak = _measured("read", many, url)
        _, least = _measured("read", few, url)
        yield (
            f"`entries()` of {count:,} ({count // 10:,}: {least:.1f} MiB)",
            f"{seconds:.1f} s, {peak:.1f} MiB at most",
            "the same memory",
        )
        for path, left in ((many, count // 50), (open_, count)):
            (seconds,) = _measured("resume", path, url)
            name = f"first outcome of `resume_all()`, {left:,} of {count:,} not ended"
            yield name, f"{seconds:.2f} s", "2 s"


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_PARTS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3]))))
