"""One schedule of creates whose answers are lost while the lists are strange.

All of it follows from one seed, and runs in virtual time against the emulator, through
the client or through a batch.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
import attrs
import httpx

from benchmarks.proofs._books import Create, Log
from benchmarks.proofs._schedule import START, seeded
from benchmarks.proofs._strange import CREATE, Oddities, StrangeLists
from finetuning_async import (
    AsyncClient,
    FinetuningError,
    GenerationRequest,
    RateLimit,
    RateLimits,
)
from finetuning_async.batch import Batch, Options
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Door: TypeAlias = Literal["client", "batch"]
Word: TypeAlias = Literal["raise", "resubmit"]
CASES: Final[tuple[tuple[Door, Word], ...]] = (
    ("client", "raise"),
    ("client", "resubmit"),
    ("batch", "raise"),
    ("batch", "resubmit"),
)

BEFORE: Final[tuple[dict[str, Any], ...]] = (
    {"action": "lost_before_commit"},
    {"action": "lost_before_commit", "close": True},
    {"action": "status", "status": 502, "code": None},
    {"action": "status", "status": 500, "code": "GENERATION_FAILED"},
    {"action": "status", "status": 504, "code": None},
)
AFTER: Final[tuple[dict[str, Any], ...]] = (
    {"action": "lost_after_commit"},
    {"action": "lost_after_commit", "close": True},
    {"action": "slow_answer", "seconds": 50},
    {"action": "html"},
    {"action": "truncated_json"},
    {"action": "status", "status": 502, "code": None, "commit": True},
    {"action": "status", "status": 500, "code": "INTERNAL_ERROR", "commit": True},
    {"action": "status", "status": 408, "code": None, "commit": True},
)
LATE: Final[tuple[dict[str, Any], ...]] = (
    {"action": "late_commit", "seconds": 10},
    {"action": "late_commit", "seconds": 25},
)
"""They commit within the time that a service may take; not drawn where the machines
that answer lag each in its own way: then nothing can be proved within any time."""

PATIENCE: Final = 2 * 3600.0

FOREIGN: Final = 7
"""The seed of the neighbour, which no create of ours has."""


@attrs.define(eq=False)
class Tally:
    """What came of schedules.

    Attributes:
        counts: How often what happened, by door and word.
        wrong: What does not balance, with the seed that shows it.
    """

    counts: dict[tuple[Door, Word], Counter[str]] = attrs.field(
        factory=lambda: {case: Counter() for case in CASES}
    )
    wrong: list[str] = attrs.field(factory=list)

    def add(self, other: Tally) -> None:
        """Take in what came of others."""
        for case, counter in other.counts.items():
            self.counts[case].update(counter)
        self.wrong += other.wrong


def play(seed: int, tally: Tally) -> None:
    """Run the schedule of a seed and book what came of it."""
    door, word = CASES[seed % len(CASES)]
    schedule = _Schedule(seed, door, word, tally)
    loop: Literal["asyncio", "trio"] = "trio" if seed % 5 == 0 else "asyncio"
    name, options = jumping_backend(loop)
    with seeded(seed), tempfile.TemporaryDirectory(dir=_memory()) as folder:
        anyio.run(
            partial(schedule.run, Path(folder)),
            backend=name,
            backend_options=dict(options),
        )


def _memory() -> str | None:
    """Where files cost nothing; the proof is not about disks."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - as above


class _Schedule:
    def __init__(self, seed: int, door: Door, word: Word, tally: Tally) -> None:
        self._seed, self._door, self._word = seed, door, word
        self._rng = random.Random(f"absence/{seed}")
        self._tally = tally
        self._odd = Oddities.of(self._rng)

    async def run(self, folder: Path) -> None:
        with Log() as log:
            async with self._world() as (emulator, http, client):
                if self._rng.random() < 0.7:
                    await client.generations.create("an earlier one")
                for fault in self._faults():
                    emulator.add_fault(fault)
                async with anyio.create_task_group() as group:
                    group.start_soon(self._neighbour, emulator, http)
                    if self._door == "client":
                        creates = await self._by_client(client)
                    else:
                        creates = await self._by_batch(client, folder)
                    group.cancel_scope.cancel()
                await anyio.sleep(120)  # whatever is late arrives
                self._book(emulator, creates, log)

    @asynccontextmanager
    async def _world(
        self,
    ) -> AsyncGenerator[tuple[Emulator, httpx.AsyncClient, AsyncClient]]:
        pace = self._rng.choice([2, 4, 10])
        emulator = Emulator(
            seed=self._seed,
            start_time=START,
            latency=self._rng.choice([(0.0, 0.0), (0.05, 0.3)]),
            queue_size=1000,
            creates_per_minute=1000,
            reads_per_minute=1000,
            generation_time=(20, 60),
            audio=b"mp3",
        )
        limits = RateLimits(creates=RateLimit(pace), reads=RateLimit(60))
        async with (
            emulator,
            httpx.AsyncClient(
                transport=StrangeLists(emulator, self._odd, self._seed)
            ) as http,
            AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=limits,
                max_retries=self._rng.choice([0, 2]),
            ) as client,
        ):
            yield emulator, http, client

    def _faults(self) -> list[Fault]:
        rng = self._rng
        kinds = [*BEFORE, *AFTER, *AFTER, *(() if self._odd.replicas else LATE)]
        return [
            Fault(
                path=CREATE,
                method="POST",
                skip=rng.choice([0, 0, 1, 2]),
                times=rng.choice([1, 1, 2]),
                **rng.choice(kinds),
            )
            for _ in range(rng.choice([1, 1, 2, 3]))
        ]

    async def _neighbour(self, emulator: Emulator, http: httpx.AsyncClient) -> None:
        """Another program of this account, with our prompts and its own seeds."""
        for _ in range(self._rng.choice([0, 0, 1, 3])):
            await anyio.sleep(self._rng.uniform(0, 40))
            body = {"tags": f"song {self._rng.randrange(3)}", "seed": FOREIGN}
            request = http.build_request(
                "POST",
                f"{emulator.base_url}{CREATE}",
                json=body,
                headers={"X-API-Key": emulator.api_key},
            )
            with suppress(httpx.TransportError):
                await emulator.transport().handle_async_request(request)

    # The client.

    async def _by_client(self, client: AsyncClient) -> list[Create]:
        rng = self._rng
        creates = [
            Create(f"song {n}", self._word == "resubmit")
            for n in range(rng.randint(1, 6))
        ]
        async with anyio.create_task_group() as group:
            for create in creates:
                seed = rng.choice([None, None, None, 42, 43])
                group.start_soon(self._create, client, create, seed)
                await anyio.sleep(rng.choice([0.0, 0.0, 1.0, 10.0, 40.0]))
        return creates

    async def _create(
        self, client: AsyncClient, create: Create, seed: int | None
    ) -> None:
        with anyio.move_on_after(PATIENCE):
            try:
                create.returned = await client.generations.create(
                    create.prompt, seed=seed, on_unknown=self._word
                )
            except FinetuningError as error:
                create.error = error

    # The batch.

    async def _by_batch(self, client: AsyncClient, folder: Path) -> list[Create]:
        rng, rows = self._rng, self._rng.randint(1, 10)
        seeds = [rng.choice([None, None, None, None, 42]) for _ in range(rows)]
        requests = [
            GenerationRequest(f"song {n}", seed=seed) for n, seed in enumerate(seeds)
        ]
        creates = [Create(request.prompt) for request in requests]
        options = Options(on_unknown="hold" if self._word == "raise" else "resubmit")
        for _ in range(rng.choice([1, 1, 2])):  # the same command again
            with anyio.move_on_after(PATIENCE):
                await _run(client, folder, options, requests)
        return creates

    # The books.

    def _book(self, emulator: Emulator, creates: list[Create], log: Log) -> None:
        made: Counter[str] = Counter(
            job.prompt
            for job in emulator.tracks.values()
            if job.parameters["seed"] != FOREIGN
        )
        twice = [c.prompt for c in creates if made[c.prompt] > 1]
        case = f"seed {self._seed} ({self._door}, {self._word})"
        self._tally.wrong += [f"{case}: {prompt!r} was paid twice" for prompt in twice]
        paid = -sum(entry.amount for entry in emulator.ledger)
        if paid != len(emulator.tracks):
            self._tally.wrong.append(f"{case}: {paid} credits do not fit the tracks")
        said = Counter(word for line in log.lines for word in WORDS if word in line)
        self._tally.counts[self._door, self._word].update(
            {
                "schedules": 1,
                "creates": len(creates),
                "tracks": sum(made[c.prompt] for c in creates),
                "lost": said["it may be paid, its seed is"],
                "found": said["whose answer was lost"]
                + said["though the response was lost"],
                "sent again": said["its create was not found"]
                + said["it is sent again"],
                "unknown": sum(c.outcome == "SubmissionUnknownError" for c in creates)
                + said["is held: "],
                "double credits": len(twice),
            }
        )


async def _run(
    client: AsyncClient,
    folder: Path,
    options: Options,
    requests: list[GenerationRequest],
) -> None:
    async with Batch(client, folder / "album", options=options) as batch:
        await batch.add(requests)
        async for _ in batch.run():
            pass


WORDS: Final = (
    "it may be paid, its seed is",
    "whose answer was lost",
    "though the response was lost",
    "its create was not found",
    "it is sent again",
    "is held: ",
)
"""What the package says, by which it is counted."""
