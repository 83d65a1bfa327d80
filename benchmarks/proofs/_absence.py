"""One schedule of creates whose responses are lost while the lists are unreliable.

It follows from one seed, and runs in virtual time against the emulator, through the
client or through a batch.
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

from benchmarks.proofs._audit import Create, Log
from benchmarks.proofs._schedule import START, seeded
from benchmarks.proofs._unreliable_lists import CREATE, Oddities, StrangeLists
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

Interface: TypeAlias = Literal["client", "batch"]
OnUnknown: TypeAlias = Literal["raise", "resubmit"]
CASES: Final[tuple[tuple[Interface, OnUnknown], ...]] = (
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
"""Faults after which the service still commits within the settle time. They are not
drawn where replicas lag each by its own time: then nothing can ever be proved."""

PATIENCE: Final = 2 * 3600.0

FOREIGN: Final = 7
"""The seed of the other client of the account, which no create of ours has."""


@attrs.define(eq=False)
class Tally:
    """The results of schedules.

    Attributes:
        counts: How often each outcome occurred, by interface and `on_unknown`.
        wrong: What does not balance, with the seed that reproduces it.
    """

    counts: dict[tuple[Interface, OnUnknown], Counter[str]] = attrs.field(
        factory=lambda: {case: Counter() for case in CASES}
    )
    wrong: list[str] = attrs.field(factory=list)

    def add(self, other: Tally) -> None:
        """Add the results of other schedules."""
        for case, counter in other.counts.items():
            self.counts[case].update(counter)
        self.wrong += other.wrong


def play(seed: int, tally: Tally) -> None:
    """Run the schedule of a seed and record its results."""
    interface, on_unknown = CASES[seed % len(CASES)]
    schedule = _Schedule(seed, interface, on_unknown, tally)
    loop: Literal["asyncio", "trio"] = "trio" if seed % 5 == 0 else "asyncio"
    name, options = jumping_backend(loop)
    with seeded(seed), tempfile.TemporaryDirectory(dir=_memory()) as folder:
        anyio.run(
            partial(schedule.run, Path(folder)),
            backend=name,
            backend_options=dict(options),
        )


def _memory() -> str | None:
    """A folder in memory, if there is one; the proof is not about disks."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - as above


class _Schedule:
    def __init__(
        self, seed: int, interface: Interface, on_unknown: OnUnknown, tally: Tally
    ) -> None:
        self._seed, self._interface, self._on_unknown = seed, interface, on_unknown
        self._rng = random.Random(f"absence/{seed}")
        self._tally = tally
        self._oddities = Oddities.of(self._rng)

    async def run(self, folder: Path) -> None:
        with Log() as log:
            async with self._world() as (emulator, http, client):
                if self._rng.random() < 0.7:
                    await client.generations.create("an earlier one")
                for fault in self._faults():
                    emulator.add_fault(fault)
                async with anyio.create_task_group() as group:
                    group.start_soon(self._other_client, emulator, http)
                    if self._interface == "client":
                        creates = await self._by_client(client)
                    else:
                        creates = await self._by_batch(client, folder)
                    group.cancel_scope.cancel()
                await anyio.sleep(120)  # let everything that is late arrive
                self._record(emulator, creates, log)

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
                transport=StrangeLists(emulator, self._oddities, self._seed)
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
        kinds = [*BEFORE, *AFTER, *AFTER, *(() if self._oddities.replicas else LATE)]
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

    async def _other_client(self, emulator: Emulator, http: httpx.AsyncClient) -> None:
        """Another client of the account, with our prompts and its own seeds."""
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
            Create(f"song {n}", self._on_unknown == "resubmit")
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
                    create.prompt, seed=seed, on_unknown=self._on_unknown
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
        options = Options(
            on_unknown="hold" if self._on_unknown == "raise" else "resubmit"
        )
        for _ in range(rng.choice([1, 1, 2])):  # the same command again
            with anyio.move_on_after(PATIENCE):
                await _run(client, folder, options, requests)
        return creates

    # The audit.

    def _record(self, emulator: Emulator, creates: list[Create], log: Log) -> None:
        made: Counter[str] = Counter(
            job.prompt
            for job in emulator.tracks.values()
            if job.parameters["seed"] != FOREIGN
        )
        twice = [c.prompt for c in creates if made[c.prompt] > 1]
        case = f"seed {self._seed} ({self._interface}, {self._on_unknown})"
        self._tally.wrong += [f"{case}: {prompt!r} was paid twice" for prompt in twice]
        paid = -sum(entry.amount for entry in emulator.ledger)
        if paid != len(emulator.tracks):
            self._tally.wrong.append(f"{case}: {paid} credits do not fit the tracks")
        counted = Counter(
            part for line in log.lines for part in COUNTED_LINES if part in line
        )
        self._tally.counts[self._interface, self._on_unknown].update(
            {
                "schedules": 1,
                "creates": len(creates),
                "tracks": sum(made[c.prompt] for c in creates),
                "lost": counted["it may have been charged, its seed is"],
                "found": counted["but its track was found"]
                + counted["though the response was lost"],
                "sent again": counted["sending it again with seed="]
                + counted["it is sent again"],
                "unknown": sum(c.outcome == "SubmissionUnknownError" for c in creates)
                + counted["is held: "],
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


COUNTED_LINES: Final = (
    "it may have been charged, its seed is",
    "but its track was found",
    "though the response was lost",
    "sending it again with seed=",
    "it is sent again",
    "is held: ",
)
"""The log lines of the package by which outcomes are counted."""
