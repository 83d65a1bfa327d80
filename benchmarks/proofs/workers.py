"""Workers on one PostgreSQL are killed every few seconds; the credits must add up.

Three processes work on one batch with procrastinate, against an emulator on a real port
with faults on the network. Every few seconds one gets SIGKILL, and a new one replaces
it; or SIGSTOP until the others take it for dead and have taken over its items, and then
SIGCONT. What is held at the end is released, as a person would after looking.

    every item ends once         each is downloaded or failed in the journal
    credits spent equal items    the emulator's ledger, its tracks and the journal agree
    no file is truncated         each is what the service sent
    no track is orphaned         each belongs to an item

``python -m benchmarks proofs workers [--kills N] [--items N] [--seed N]``
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from benchmarks.proofs._worker_process import STALLED, build
from finetuning_async import GenerationRequest
from finetuning_async.emulator import Emulator, Fault, serve
from tests._postgres_server import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import Process

    from finetuning_async.batch import BatchItem, Summary

WORKERS: Final = 3
SPEED: Final = 60.0
SONG: Final = b"ID3" + bytes(range(256)) * 400
CREATES: Final = "/v1/generations"
BATCH: Final = "proof"
FINISH_TIMEOUT: Final = 180.0
"""Seconds for the rest to end, once no worker is killed any more."""


@attrs.define
class Tally:
    """What happened.

    Attributes:
        kills: Workers that were killed.
        suspensions: Workers that were suspended, taken for dead, and resumed.
        busy: How many of those killed left at least one create in doubt.
        held: Items that were held, before they were released.
        refusals: Responses with status 429.
        failures: What did not add up; empty if the proof holds.
    """

    kills: int = 0
    suspensions: int = 0
    busy: int = 0
    held: int = 0
    refusals: int = 0
    failures: list[str] = attrs.field(factory=list)


class Harness:
    """One proof.

    Args:
        folder: Where files are saved.
        conninfo: How to connect to an empty database.
        items: Items of the batch.
        kills: How many workers are killed, unless the batch ends before.
        every: Seconds between kills, at least and at most.
        suspended: Fraction of the workers that are suspended instead, 0 to 1.
        seed: Seed of the faults and of the moments of the kills.
        faults: Faults of the network.
    """

    def __init__(
        self,
        folder: Path,
        conninfo: str,
        *,
        items: int,
        kills: int,
        every: tuple[float, float],
        suspended: float = 0.0,
        seed: int,
        faults: Iterator[Fault],
    ) -> None:
        self._album = folder / "album"
        self._conninfo = conninfo
        self._items, self._kills, self._every = items, kills, every
        self._rng = random.Random(seed)
        self._workers: list[Process] = []
        self.tally = Tally()
        self.emulator = Emulator(
            speed=SPEED,
            seed=seed,
            audio=SONG,
            queue_size=20,
            failure_rate=0.03,
            credits=10 * items + 100,
        )
        self._faults, self._suspended = faults, suspended

    async def run(self) -> Tally:
        """Kill workers, let the batch finish, and audit."""
        app, self._batches = build(self._conninfo, str(self._album), SPEED)
        async with app.open_async(), self.emulator, serve(self.emulator) as url:
            for fault in self._faults:
                self.emulator.add_fault(fault)
            await app.schema_manager.apply_schema_async()
            await self._batches.defer(
                BATCH, (GenerationRequest(f"song {n // 2}") for n in range(self._items))
            )
            try:
                self._workers = [await self._start(url) for _ in range(WORKERS)]
                await self._kill_some(url)
                await self._finish()
                await self._audit()
            finally:
                await self._stop()
                await self._batches.aclose()
        return self.tally

    async def _start(self, url: str) -> Process:
        program = "from benchmarks.proofs import _worker_process as w; w.run()"
        environment = {
            **os.environ,
            "ALBUM": str(self._album),
            "DATABASE_URL": self._conninfo,
            "FINETUNING_API_KEY": self.emulator.api_key,
            "FINETUNING_BASE_URL": url,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SPEED": str(SPEED),
        }
        return await anyio.open_process(
            [sys.executable, "-c", program], env=environment, stdout=-3, stderr=-3
        )

    async def _kill_some(self, url: str) -> None:
        while self.tally.kills < self._kills:
            await anyio.sleep(self._rng.uniform(*self._every))
            summary = await self._summary()
            if summary.is_done:
                return
            if not summary.accepts:
                continue  # the workers are still starting
            victim = self._rng.randrange(WORKERS)
            if self._rng.random() < self._suspended:
                await self._suspend(self._workers[victim])
                continue
            await _kill(self._workers[victim])
            after = await self._summary()
            self.tally.kills += 1
            self.tally.busy += after.states["sending"] > 0
            self._workers[victim] = await self._start(url)

    async def _suspend(self, worker: Process) -> None:
        self.tally.suspensions += 1
        worker.send_signal(signal.SIGSTOP)
        await anyio.sleep(2 * STALLED + 1)
        worker.send_signal(signal.SIGCONT)

    async def _summary(self) -> Summary:
        return await self._batches.summary(BATCH)

    async def _finish(self) -> None:
        """Wait until every item has ended; release what is held."""
        with anyio.move_on_after(FINISH_TIMEOUT) as scope:
            while not (summary := await self._summary()).is_done:
                moving = summary.total - summary.states["downloaded"]
                moving -= summary.states["failed"]
                if moving == summary.states["held"]:
                    await self._release()
                await anyio.sleep(0.1)
        if scope.cancelled_caught:
            states = (await self._summary()).as_dict()
            self.tally.failures.append(
                f"the batch did not end within {FINISH_TIMEOUT:.0f} s: {states}"
            )

    async def _release(self) -> None:
        held = await self._batches.items(BATCH, "held")
        self.tally.held += len(held)
        await self._batches.release(*(item.key for item in held))

    async def _stop(self) -> None:
        for worker in self._workers:
            await _kill(worker)

    async def _audit(self) -> None:
        """Find what does not add up."""
        summary, items = await self._summary(), await self._batches.items(BATCH)
        emulator = self.emulator
        self.tally.refusals = emulator.count(status=429)
        spent = -sum(entry.amount for entry in emulator.ledger)
        tracks = set(emulator.tracks)
        ids = {item.generation_id for item in items}
        facts = {
            f"{self._items} items, {summary.as_dict()}": summary.is_done
            and summary.total == self._items,
            f"{spent} credits, {len(tracks)} tracks, {summary.accepts} accepted": spent
            == len(tracks)
            == summary.accepts,
            f"one credit an item: {spent}": spent == self._items,
            f"orphans {tracks - ids}, inventions {ids - tracks}": tracks == ids,
            "files and items differ": _files(self._album) == _names(items),
        }
        self.tally.failures += [name for name, holds in facts.items() if not holds]


def _files(album: Path) -> Counter[str]:
    """The files that are complete."""
    return Counter(
        str(path.relative_to(album))
        for path in album.glob("*/*.mp3")
        if path.read_bytes() == SONG
    )


def _names(items: list[BatchItem]) -> Counter[str]:
    return Counter(item.file for item in items if item.state == "downloaded")


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()
    await process.aclose()


def quick_faults() -> Iterator[Fault]:
    """Faults that leave no create in doubt for long."""
    yield Fault(
        "lost_after_commit", CREATES, method="POST", probability=0.05, times=None
    )
    yield Fault("status", CREATES, method="GET", probability=0.03, times=None)
    yield Fault(
        "slow_answer", CREATES, method="POST", probability=0.5, times=None, seconds=0.3
    )


def all_faults() -> Iterator[Fault]:
    """The faults of the full proof."""
    yield from quick_faults()
    yield Fault(
        "lost_before_commit", CREATES, method="POST", probability=0.01, times=None
    )
    yield Fault(
        "late_commit", CREATES, method="POST", probability=0.01, times=None, seconds=1
    )
    yield Fault("truncated_json", CREATES, method="POST", probability=0.02, times=None)
    yield Fault(
        "broken_download", "/audio/*", probability=0.05, times=None, after_bytes=5000
    )


def main(arguments: list[str]) -> bool:
    """Run the full proof."""
    parser = argparse.ArgumentParser(prog="workers")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, cluster() as conninfo:
        harness = Harness(
            Path(folder),
            conninfo,
            items=options.items,
            kills=options.kills,
            every=(1.5, 3.0),
            suspended=0.2,
            seed=options.seed,
            faults=all_faults(),
        )
        tally = anyio.run(harness.run)
    print(
        f"{tally.kills} workers killed and {tally.suspensions} suspended over"
        f" {options.items} items, seed {options.seed}:"
        f" {tally.busy} kills left creates in doubt; {tally.held} held;"
        f" {tally.refusals} responses 429"
    )
    for failure in tally.failures:
        print(f"  {failure}")
    return not tally.failures
