"""Processes that share a store: how late each notices ends, and what a sync costs.

Stores, processes and time are real; the service is the emulator on a port. First every
process waits for every track. Then single syncs are measured while 40 processes share
1,000 tracks, each of which one process waits for, or all.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import httpx

from benchmarks.polling._waiting_processes import waiting_processes
from benchmarks.polling.noticing import quantile
from benchmarks.shared._worker import limiter_of
from finetuning_async import AsyncClient
from finetuning_async._coordination._poll_messages import (
    ObservedState,
    PollReport,
    WatchedTrack,
)
from finetuning_async.emulator import Emulator
from tests import _postgres_server as _postgres, _redis_server as _redis

if TYPE_CHECKING:
    from collections.abc import Generator

    from finetuning_async._coordination._poll_messages import PollCoordinator
    from finetuning_async._coordination._shared_limiter import StoreLimiter

STORES: Final = ("file", "redis", "postgres")
PROCESSES: Final = 3
TRACKS: Final = 10
"""As many as may be created in a minute."""

TIMES: Final = (20.0, 50.0)
MANY_PROCESSES: Final = 40
MANY_TRACKS: Final = 1000
PAUSE: Final = 0.5
SECONDS: Final = 10.0


@contextmanager
def running(store: str) -> Generator[str]:
    """Run a store; yields its name as `limiter_of` takes it."""
    if store == "file":
        with tempfile.TemporaryDirectory() as folder:
            yield f"file:{Path(folder)}"
    elif store == "postgres":
        with _postgres.cluster() as conninfo:
            yield f"postgres:{conninfo}"
    else:
        with _redis.running() as server:
            yield server.url


@attrs.define
class Noticed:
    """How late ends were noticed, and how many reads each process sent."""

    late: list[float] = attrs.field(factory=list)
    reads: list[int] = attrs.field(factory=list)


async def notice(store: str, seed: int) -> Noticed:
    """Measure processes that wait for the same tracks."""
    seen = Noticed()
    async with (
        Emulator(seed=seed, generation_time=TIMES, queue_size=TRACKS) as emulator,
        waiting_processes(emulator, store, PROCESSES) as processes,
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key, base_url=emulator.base_url, http_client=http
        ) as client,
    ):
        ids = [(await client.generations.create("x")).id for _ in range(TRACKS)]
        for process in processes:
            for track_id in ids:
                await process.send("wait", track_id)
        for process in processes:
            await process.until_ended(*ids)
            seen.reads.append(len(process.reads))
            seen.late += [
                process.ended[track_id][1] - emulator.tracks[track_id].ends_at
                for track_id in ids
            ]
    return seen


@attrs.define
class Synced:
    """What syncs cost: seconds and CPU seconds each, and bytes stored."""

    took: list[float] = attrs.field(factory=list)
    cpu: float = 0.0
    size: int = 0


async def sync(store: str, *, by_all: bool, seed: int) -> Synced:
    """Measure 40 coordinators that sync twice a second, like 40 processes.

    The leader reports one state a second.
    """
    seen, rng = Synced(), random.Random(seed)
    async with AsyncExitStack() as stack:
        limiters = [await _bound(store, stack) for _ in range(MANY_PROCESSES)]
        coordinators = [limiter.new_coordinator() for limiter in limiters]
        ids = [f"{rng.getrandbits(128):032x}" for _ in range(MANY_TRACKS)]
        for number, coordinator in enumerate(coordinators):
            own = ids if by_all else ids[number::MANY_PROCESSES]
            await coordinator.sync(_all_of(own))
        before = time.process_time()
        with anyio.move_on_after(SECONDS):
            async with anyio.create_task_group() as group:
                for coordinator in coordinators:
                    group.start_soon(_sync_again, coordinator, ids, seen, rng.random())
        seen.cpu = (time.process_time() - before) / len(seen.took)
        seen.size = await limiters[0]._store_of_loop().update("polling", _size)  # noqa: SLF001 - to see its size
    return seen


async def _bound(store: str, stack: AsyncExitStack) -> StoreLimiter:
    from finetuning_async._coordination._shared_limiter import StoreLimiter

    limiter = await limiter_of(store, stack)
    assert isinstance(limiter, StoreLimiter)
    limiter.bind("one", None, lambda: 0)
    return limiter


def _all_of(ids: list[str]) -> PollReport:
    added = [WatchedTrack(id=i, kind="music", age=30.0, length=60.0) for i in ids]
    return PollReport(added=added, is_complete=True)


async def _sync_again(
    coordinator: PollCoordinator, ids: list[str], seen: Synced, offset: float
) -> None:
    await anyio.sleep(offset * PAUSE)
    leads, round_ = False, 0
    while True:
        round_ += 1
        states = [_state(ids[round_ % len(ids)])] if leads and round_ % 2 else []
        began = time.perf_counter()
        update = await coordinator.sync(PollReport(seen=states))
        seen.took.append(time.perf_counter() - began)
        leads = update.leads_for > 0
        await anyio.sleep(PAUSE)


def _state(track_id: str) -> ObservedState:
    """Return a state as long as those of the service."""
    row = {"id": track_id, "status": "processing", "prompt": 900 * "x"}
    return ObservedState(kind="music", row=row)


def _size(text: str | None, _: float) -> tuple[str, int]:
    return text or "", len(text or "")


def table(*, seed: int) -> None:
    """Print both tables."""
    print(f"{PROCESSES} processes wait for {TRACKS} tracks of 20 to 50 s each\n")
    print("| store | ends | mean late | 95 % | worst | reads of each process |")
    print("|" + "---|" * 6)
    for store in STORES:
        with running(store) as name:
            noticed = anyio.run(notice, name, seed)
        late, reads = noticed.late, ", ".join(map(str, noticed.reads))
        print(
            f"| {store} | {len(late)} | {statistics.mean(late):.2f}"
            f" | {quantile(late, 0.95):.2f} | {max(late):.2f} | {reads} |"
        )
    print(
        f"\n{MANY_PROCESSES} processes, {MANY_TRACKS} tracks, two syncs a second each"
    )
    print("\n| store | waited for by | p50 ms | p99 ms | CPU ms | KB kept |")
    print("|" + "---|" * 6)
    for store in STORES:
        for by_all in (False, True):
            with running(store) as name:
                seen = anyio.run(_sync_row, name, by_all, seed)
            print(
                f"| {store} | {'all' if by_all else 'one'}"
                f" | {quantile(seen.took, 0.5) * 1000:.1f}"
                f" | {quantile(seen.took, 0.99) * 1000:.1f}"
                f" | {seen.cpu * 1000:.2f} | {seen.size / 1000:.0f} |"
            )


async def _sync_row(name: str, by_all: bool, seed: int) -> Synced:
    return await sync(name, by_all=by_all, seed=seed)
