"""One random schedule for a budget: processes, crashes, faults, cancellations.

It follows from one seed, and runs in virtual time against the emulator. In three of
four schedules the processes share a journal, in memory or in a file, and each has a
`Budget` of its own; in the fourth they are clients without a journal that share one.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import httpx

from finetuning_async import (
    AsyncClient,
    Budget,
    BudgetExceededError,
    FinetuningError,
    GenerationRequest,
)
from finetuning_async._session import session_of
from finetuning_async.emulator import Fault
from finetuning_async.journal import MemoryStore, SQLiteStore
from tests.journal._processes import CrashError, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async.journal import JournalStore

CREATES: Final[dict[str, Any]] = {"path": "/v1/generations", "method": "POST"}
FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"action": "lost_before_commit", **CREATES},
    {"action": "lost_after_commit", **CREATES},
    {"action": "late_commit", "seconds": 3, **CREATES},
    {"action": "slow_answer", "seconds": 12, **CREATES},
    {"action": "truncated_json", **CREATES},
    {"action": "fail", **CREATES},
    {"action": "connect_refused", **CREATES},
    {"action": "status", "status": 400, "code": "VALIDATION_ERROR", **CREATES},
    {"action": "status", "status": 503, "code": "DOWN", "commit": True, **CREATES},
    {"action": "status", "path": "/v1/generations", "method": "GET"},
)
SHARES: Final = (None, "a", "b")
KEYS: Final = "xyz"
TOLERANCE: Final = 1e-3
"""Seconds; the emulator's times are rounded."""


@attrs.define
class Tally:
    """What schedules have shown.

    Attributes:
        schedules: How many were run.
        charged: Credits that the service took.
        refused: Creates that a budget did not allow.
        crashes: Processes that died.
        over: Credits above a budget: should be 0.
        wrong: What is wrong, with the seed that reproduces it.
        outcomes: How often each result of a create came.
    """

    schedules: int = 0
    charged: int = 0
    refused: int = 0
    crashes: int = 0
    over: int = 0
    wrong: list[str] = attrs.field(factory=list)
    outcomes: Counter[str] = attrs.field(factory=Counter)


def play(seed: int, tally: Tally) -> None:
    """Run the schedule of a seed."""
    with tempfile.TemporaryDirectory() as folder:
        schedule = Schedule(seed, tally, Path(folder))
        try:
            schedule.run()
        finally:
            schedule.close()
    tally.schedules += 1


class Schedule:
    """One schedule; see the top of the file."""

    def __init__(self, seed: int, tally: Tally, folder: Path) -> None:
        self._seed, self._tally = seed, tally
        self._rng = random.Random(seed)
        self._has_journal = seed % 4 != 0
        self._kept: dict[str, JournalStore] = {}
        self._path = folder / "j.db" if seed % 16 == 1 else None
        self.credits = self._rng.randint(1, 3)
        self.per = self._rng.choice([None, None, 30.0, 400.0])
        # Of the account, or of share "a" only.
        self.share = self._rng.choice([None, None, "a"])
        self._shared = Budget(self.credits, per=self.per)
        self._world = World(self._open, seed=seed, failure_rate=0.1)
        self._clients = [self._client(number) for number in range(2)]
        self._tasks: list[asyncio.Task[None]] = []

    def _open(self, name: str, clock: Callable[[], float]) -> JournalStore:
        if self._path is not None:
            return SQLiteStore(self._path, journal=name, clock=clock)
        return self._kept.setdefault(name, MemoryStore(clock))

    def _client(self, number: int) -> AsyncClient:
        """The client of a process, with its budget."""
        budget = Budget(self.credits, per=self.per)
        client = self._world.processes[number].client
        if not self._has_journal:
            service, budget = self._world.service, self._shared
            client = AsyncClient(
                service.api_key,
                base_url=service.base_url,
                rate_limits=None,
                http_client=httpx.AsyncClient(transport=service.transport()),
            )
        return client.with_options(share=self.share, budget=budget)

    def run(self) -> None:
        """Do a few things at random, then check the ledger."""
        rng = self._rng
        steps = (self._ask, self._ask, self._ask, self._trouble, self._pass_time)
        crashing = (self._doom, self._kill, self._resume, self._forget)
        for _ in range(rng.randint(6, 16)):
            rng.choice(steps + crashing if self._has_journal else steps)()
        self._world.advance(60)
        self._check()

    def _ask(self) -> None:
        rng, number = self._rng, self._rng.randrange(2)
        process, client = self._world.processes[number], self._clients[number]
        if self._has_journal and process.is_dead:
            self._restart(number)
            process, client = self._world.processes[number], self._clients[number]
        way = rng.choice(["keyless", "keyed", "booked"])
        share = rng.choice(SHARES) if self.share is not None else None
        whose = share or self.share
        key = None
        if way == "keyed" and self._has_journal:
            key = f"{whose} {rng.choice(KEYS)}"
        tags = f"{whose} {key or rng.random()}"
        within = rng.choice([None, None, None, 0.02, 0.1, 0.3, 5.0])

        async def call() -> None:
            if way == "booked":
                session = session_of(client)
                request = GenerationRequest(tags)
                await session.submit(
                    session.new_submission(request, validate=True, share=share), None
                )
            else:
                await client.generations.create(tags, idempotency_key=key, share=share)

        async def start() -> None:
            work = self._noted(call, within)
            if self._has_journal:
                process.start(work)
            else:
                self._tasks.append(asyncio.ensure_future(work))

        self._world.run(start())
        self._world.advance(rng.choice([0.0, 0.0, 0.05, 0.2]))

    async def _noted(
        self, call: Callable[[], Awaitable[None]], within: float | None
    ) -> None:
        result = "accepted"
        try:
            async with asyncio.timeout(within):
                await call()
        except (FinetuningError, TimeoutError) as error:
            result = type(error).__name__
            self._tally.refused += isinstance(error, BudgetExceededError)
        except (CrashError, asyncio.CancelledError):
            result = "crashed"
        self._tally.outcomes[result] += 1

    def _trouble(self) -> None:
        self._world.service.add_fault(Fault(**self._rng.choice(FAULTS)))

    def _pass_time(self) -> None:
        self._world.advance(self._rng.choice([0.1, 1.0, 8.0, 31.0, 45.0, 330.0]))

    def _doom(self) -> None:
        process = self._world.processes[self._rng.randrange(2)]
        process.dies_in = self._rng.randint(1, 4)
        process.dies_after = self._rng.random() < 0.5

    def _kill(self) -> None:
        self._restart(self._rng.randrange(2))

    def _restart(self, number: int) -> None:
        self._tally.crashes += 1
        self._world.restart(number)
        self._clients[number] = self._client(number)

    def _resume(self) -> None:
        number = self._rng.randrange(2)
        if self._world.processes[number].is_dead:
            self._restart(number)
        process, client = self._world.processes[number], self._clients[number]

        async def resume() -> None:
            with suppress(FinetuningError, CrashError, asyncio.CancelledError):
                async with client.resume_all() as outcomes:
                    async for _ in outcomes:
                        pass

        async def start() -> None:
            process.start(resume())

        self._world.run(start())

    def _forget(self) -> None:
        number = self._rng.randrange(2)
        client, key = self._clients[number], f"{self.share} {self._rng.choice(KEYS)}"

        async def forget() -> None:
            with suppress(FinetuningError, CrashError):
                await client.journal.forget(key)

        self._world.run(forget())

    def _check(self) -> None:
        async def charges() -> list[tuple[float, str]]:
            service = self._world.service
            return [
                (entry.at, service.tracks[entry.track].prompt)
                for entry in service.ledger
                if entry.amount < 0
            ]

        found: list[tuple[float, str]] = self._world.run(charges())
        self._tally.charged += len(found)
        mine = "" if self.share is None else f"{self.share} "
        times = sorted(at for at, prompt in found if prompt.startswith(mine))
        self._tally.over += self._excess(times)

    def _excess(self, times: list[float]) -> int:
        """Credits above the budget, in all or in the worst period."""
        over = 0
        for index, at in enumerate(times):
            end = float("inf") if self.per is None else at + self.per - TOLERANCE
            over = max(over, sum(one < end for one in times[index:]) - self.credits)
        if over > 0:
            self._tally.wrong.append(
                f"seed {self._seed}: {over} above {self._shared!r}: {times}"
            )
        return max(over, 0)

    def close(self) -> None:
        """End everything."""
        self._world.close()
