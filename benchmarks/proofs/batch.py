"""The real program is killed at random many times; then its credits must add up.

``finetuning batch run`` works against an emulator on a real port, with faults on the
network, and gets SIGKILL at a random moment after its first request, many times. Then
it may finish. What is held at the end is released, as a person would after looking.

    every item ends once         one line in results.jsonl or errors.jsonl
    credits spent equal items    ledger, tracks and journal agree
    no file is truncated         each is what the service sent
    no track is orphaned         each belongs to an item

The emulator's time runs 60 times as fast, and the client's with it, but for the 30 s
that a request may take: a create that hangs does so for half an hour of the service's
time. So more is in doubt at once here than it would be there.

``python -m benchmarks proofs batch [--kills N] [--items N] [--seed N]``
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from finetuning_async.batch import read_summary, release
from finetuning_async.batch._folder import Folder
from finetuning_async.emulator import Emulator, Fault, serve
from finetuning_async.journal._sqlite_store import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import Process

SPEED: Final = 60.0
SONG: Final = b"ID3" + bytes(range(256)) * 400
CREATES: Final = "/v1/generations"
HELD: Final = 3
"""The exit code of a run that holds an item."""

LONGEST_LIFE: Final = 0.6
"""Seconds after its first request within which a run is killed."""


@attrs.define
class Tally:
    """What happened.

    Attributes:
        kills: Runs that were killed.
        in_doubt: Items in doubt just after a kill, in all.
        busy: Kills that left at least one item in doubt.
        held: Items that were held, before they were released.
        reasons: How often each reason for holding an item was given.
        codes: Exit codes of the runs that ended by themselves.
        failures: What did not add up; empty if the proof holds.
    """

    kills: int = 0
    in_doubt: int = 0
    busy: int = 0
    held: int = 0
    reasons: dict[str, int] = attrs.field(factory=dict)
    codes: list[int] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)


class Harness:
    """One proof.

    Args:
        folder: Holds the input and the album.
        items: Rows of the input.
        kills: How often the program is killed, unless it ends before.
        seed: Seed of the faults and of the moments of the kills.
    """

    def __init__(self, folder: Path, *, items: int, kills: int, seed: int) -> None:
        self._input = folder / "songs.jsonl"
        self._album = folder / "album"
        self._items = items
        self._kills = kills
        self._rng = random.Random(seed)
        self.tally = Tally()
        rows = ({"tags": f"song {n // 2}", "duration": 30} for n in range(items))
        self._input.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.emulator = Emulator(
            speed=SPEED,
            seed=seed,
            audio=SONG,
            queue_size=2,
            failure_rate=0.03,
            credits=10 * items + 100,
        )

    async def run(self) -> Tally:
        """Kill the program, let it finish, and audit."""
        async with self.emulator, serve(self.emulator) as url:
            for fault in faults():
                self.emulator.add_fault(fault)
            while self.tally.kills < self._kills and not self._is_done():
                await self._killed_run(url)
            await self._finish(url)
            self.tally.failures += await self._audit()
        return self.tally

    def _is_done(self) -> bool:
        if not Folder(self._album).is_batch or not self.tally.kills:
            return False
        return read_summary(self._album).is_done

    def _command(self, url: str) -> list[str]:
        program = [sys.executable, "-m", "finetuning_async", "batch", "run"]
        where = [str(self._input), "--out", str(self._album), "--base-url", url]
        return [*program, *where, "--speed", str(SPEED), "--quiet"]

    def _environment(self) -> dict[str, str]:
        return {
            "FINETUNING_API_KEY": self.emulator.api_key,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": "",
            "HOME": str(self._album.parent),
        }

    async def _killed_run(self, url: str) -> None:
        before = len(self.emulator.requests)
        async with await anyio.open_process(
            self._command(url), env=self._environment(), stdout=-3, stderr=-3
        ) as process:
            await self._first_request(process, before)
            await anyio.sleep(self._rng.uniform(0, LONGEST_LIFE))
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            code = await process.wait()
        if code != -signal.SIGKILL:
            self.tally.codes.append(code)
            if code == HELD:
                self._release()
            return
        states = read_summary(self._album).states
        doubts = states["sending"] + states["unknown"]
        self.tally.kills += 1
        self.tally.in_doubt += doubts
        self.tally.busy += doubts > 0

    def _release(self) -> bool:
        """Release the held items; returns whether there were any."""
        held = [line for line in self._lines("errors") if line["state"] == "held"]
        self.tally.held += len(held)
        for line in held:
            reason = line["error"]
            self.tally.reasons[reason] = self.tally.reasons.get(reason, 0) + 1
        if held:
            release(self._album, [line["key"] for line in held])
        return bool(held)

    async def _first_request(self, process: Process, before: int) -> None:
        """Wait for the first request of a run by polling: there is no event for it."""
        while process.returncode is None:
            if len(self.emulator.requests) > before:
                return
            await anyio.sleep(0.002)

    async def _finish(self, url: str) -> None:
        """Run to the end; release held items until there are none."""
        for _ in range(6):
            process = await anyio.run_process(
                self._command(url), env=self._environment(), check=False
            )
            self.tally.codes.append(process.returncode)
            if process.returncode not in (0, 1, 3):
                self.tally.failures.append(process.stderr.decode()[-2000:])
                return
            if process.returncode != HELD or not self._release():
                return

    def _lines(self, name: str) -> list[dict[str, Any]]:
        text = (self._album / f"{name}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    async def _audit(self) -> list[str]:
        """What does not add up."""
        store = SQLiteStore(Folder(self._album).journal, read_only=True)
        try:
            ids, summary = set(store.tracks()), store.summary()
        finally:
            store.close()
        spent = -sum(entry.amount for entry in self.emulator.ledger)
        tracks = set(self.emulator.tracks)
        results, errors = self._lines("results"), self._lines("errors")
        ends = Counter(line["key"] for line in (*results, *errors))
        files = {path.name: path.read_bytes() for path in self._album.glob("*.mp3")}
        facts = {
            f"{self._items} items, ends {Counter(ends.values())}": len(ends)
            == self._items
            == ends.total(),
            f"{spent} credits, {len(tracks)} tracks, {summary.accepts} accepted": spent
            == len(tracks)
            == summary.accepts,
            f"orphans {tracks - ids}, inventions {ids - tracks}": tracks == ids,
            f"one credit an item: {spent}": spent == self._items,
            "a file is truncated": all(content == SONG for content in files.values()),
            "files and results differ": {line["file"] for line in results}
            == set(files),
            "something is left over": not list(
                self._album.glob("batch-journal/unfinished/*")
            ),
        }
        return [name for name, holds in facts.items() if not holds]


def faults() -> Iterator[Fault]:
    """The faults of the network."""
    yield Fault(
        "lost_after_commit", CREATES, method="POST", probability=0.05, times=None
    )
    yield Fault(
        "lost_before_commit", CREATES, method="POST", probability=0.02, times=None
    )
    yield Fault(
        "late_commit", CREATES, method="POST", probability=0.02, times=None, seconds=1
    )
    yield Fault("truncated_json", CREATES, method="POST", probability=0.02, times=None)
    yield Fault("status", CREATES, method="GET", probability=0.03, times=None)
    yield Fault(
        "broken_download", "/audio/*", probability=0.05, times=None, after_bytes=5000
    )
    yield Fault(
        "slow_answer", CREATES, method="POST", probability=0.4, times=None, seconds=0.3
    )
    yield Fault("slow_answer", probability=0.1, times=None, seconds=0.2)


async def prove(folder: Path, *, items: int, kills: int, seed: int) -> Tally:
    """Run the proof in a folder."""
    return await Harness(folder, items=items, kills=kills, seed=seed).run()


def main(arguments: list[str]) -> bool:
    """Run the full proof."""
    parser = argparse.ArgumentParser(prog="batch")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tally = anyio.run(
            lambda: prove(
                Path(folder),
                items=options.items,
                kills=options.kills,
                seed=options.seed,
            )
        )
    print(
        f"{tally.kills} kills over {options.items} items, seed {options.seed}:"
        f" {tally.busy} left {tally.in_doubt} items in doubt;"
        f" {tally.held} held; exit codes {tally.codes}"
    )
    for reason, count in tally.reasons.items():
        print(f"  held {count} times: {reason}")
    for failure in tally.failures:
        print(f"  {failure}")
    return not tally.failures
