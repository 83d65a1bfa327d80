"""A batch in numbers: how close to the limits, the cost of the journal, the import.

``python -m benchmarks batch [ITEMS]``. The first two run in virtual time against the
emulator in this process; delays are 20 to 400 ms, half of it each way.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import httpx

from finetuning_async import AsyncClient, GenerationRequest
from finetuning_async.batch import Batch, read_rows
from finetuning_async.emulator import Emulator
from finetuning_async.journal._records import ItemFactory, Row
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import (
    Accepted,
    Ended,
    Saved,
    Sending,
    step,
)
from finetuning_async.testing import jumping_backend

SONG: Final = b"ID3" + bytes(1000)
DELAY: Final = (0.01, 0.2)
"""Seconds each way."""

ROWS: Final = 50_000


@attrs.frozen
class Pace:
    """How close a batch came to the rate limit.

    Attributes:
        items: Tracks made.
        seconds: From the first create to the last, in virtual time.
        ideal: The same at the limit: full bursts, a minute apart.
        refused: Responses with status 429.
        real: Seconds of real time.
    """

    items: int
    seconds: float
    ideal: float
    refused: int
    real: float

    @property
    def excess(self) -> float:
        """How much longer it took than at the limit, as a fraction."""
        return self.seconds / self.ideal - 1


def pace(items: int, *, seed: int = 1, **settings: Any) -> Pace:
    """Run a batch in virtual time."""
    name, options = jumping_backend("asyncio")
    with tempfile.TemporaryDirectory() as folder:
        emulator = Emulator(
            **{
                "seed": seed,
                "latency": DELAY,
                "queue_size": 1000,
                "audio": SONG,
                "credits": items,
                **settings,
            }
        )
        began = time.perf_counter()
        seconds = anyio.run(
            lambda: _run(emulator, Path(folder), items),
            backend=name,
            backend_options=dict(options),
        )
        real = time.perf_counter() - began
    return Pace(
        items=items,
        seconds=seconds,
        ideal=((items - 1) // 10) * 60.0,
        refused=emulator.count(status=429),
        real=real,
    )


async def _run(emulator: Emulator, folder: Path, items: int) -> float:
    async with (
        emulator,
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            http_client=http,
            rate_limits=emulator.rate_limits,
        ) as client,
        Batch(client, folder) as batch,
    ):
        await batch.add(
            GenerationRequest(f"song {n}", duration=30) for n in range(items)
        )
        async for item in batch.run():
            assert item.state == "downloaded", item
        posts = [r.at for r in emulator.requests if r.method == "POST"]
        return max(posts) - min(posts)


def journal_work(items: int) -> float:
    """Seconds of journal work for each item: four commits, synced to the disk."""
    factory = ItemFactory()
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "journal.db")
        store.add(
            factory.item(Row(request=GenerationRequest(f"song {n}")))
            for n in range(items)
        )
        claimed = store.claim(0, items)
        began = time.perf_counter()
        for item in claimed:
            result = json.dumps({"prompt": item.request.prompt})
            for event in (
                Sending(item.seq, 1.0),
                Accepted(f"track-{item.seq}"),
                Ended(False, result),
                Saved(),
            ):
                item = store.record(item, step(item.entry, event)[0])
        seconds = time.perf_counter() - began
        store.close()
    return seconds / items


def import_rows(rows: int = ROWS) -> tuple[float, float]:
    """Seconds to check and add rows, and the peak memory of this process, in MiB."""
    from resource import RUSAGE_SELF, getrusage  # Windows lacks it

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "songs.jsonl"
        with path.open("w") as file:
            for n in range(rows):
                row = {
                    "tags": f"song {n}, brass and rain",
                    "bpm": 90,
                    "custom_id": f"{n}",
                }
                file.write(json.dumps(row) + "\n")
        store, factory = SQLiteStore(Path(folder) / "journal.db"), ItemFactory()
        began = time.perf_counter()
        added = store.add(factory.item(row) for row in read_rows(path))
        seconds = time.perf_counter() - began
        store.close()
    assert added.new == rows
    usage = getrusage(RUSAGE_SELF)
    return seconds, usage.ru_maxrss / 1024


def main(arguments: list[str]) -> None:
    """Print the table."""
    seconds, memory = import_rows()
    print(f"import of {ROWS} rows: {seconds:.2f} s, {memory:.0f} MiB at most")
    print(f"journal work per item: {journal_work(1000) * 1000:.2f} ms")
    found = pace(int(arguments[0]) if arguments else 1000)
    print(
        f"{found.items} items at 20-400 ms: {found.seconds:.0f} s of virtual time,"
        f" {found.ideal:.0f} s at the limits ({found.excess:+.2%});"
        f" {found.refused} responses 429; {found.real:.0f} s of real time"
    )
