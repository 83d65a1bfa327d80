"""One random schedule: a few creates, faults at random, cancellations at random.

It follows from one seed, and runs in virtual time against the emulator.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import anyio
import attrs
from trio._core import _run

from benchmarks.proofs._audit import Create, Log, balance, leftovers
from benchmarks.proofs._libraries import Library, in_process
from finetuning_async import AsyncClient, Generation
from finetuning_async._session import _account_state, _session
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CREATE = "/v1/generations"
START = datetime(2026, 3, 2, 18, 4, 9, 250_000, tzinfo=UTC)

PATIENCE = 1800.0
"""Seconds; a create that waits for a queue whose tracks never end would never end."""

POST_FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "connect_refused"},
    {"action": "connect_hangs"},
    {"action": "lost_before_commit"},
    {"action": "lost_before_commit", "close": True},
    {"action": "lost_after_commit"},
    {"action": "lost_after_commit", "close": True},
    {"action": "late_commit", "seconds": 10},
    {"action": "late_commit", "seconds": 45},
    {"action": "late_commit", "seconds": 75},
    {"action": "delay", "seconds": 3},
    {"action": "delay", "seconds": 40},
    {"action": "slow_answer", "seconds": 4},
    {"action": "slow_answer", "seconds": 50},
    {"action": "html"},
    {"action": "truncated_json"},
    {"action": "empty"},
    {"action": "status", "status": 500, "code": "GENERATION_FAILED"},
    {"action": "status", "status": 500, "code": "GENERATION_FAILED", "commit": True},
    {"action": "status", "status": 502, "code": None},
    {"action": "status", "status": 502, "code": None, "commit": True},
    {"action": "status", "status": 503, "code": "DOWN", "commit": True},
    {"action": "status", "status": 408, "code": None, "commit": True},
    {"action": "status", "status": 429, "code": None, "commit": True},
    {"action": "status", "status": 429, "code": "GENERATION_RATE_LIMITED"},
    {"action": "status", "status": 429, "code": "QUEUE_FULL"},
    {"action": "status", "status": 400, "code": "VALIDATION_ERROR"},
    {"action": "status", "status": 302, "code": None, "commit": True},
    {"action": "hide", "seconds": 20},
    {"action": "stick"},
)
"""The faults that may hit a create."""

GET_FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "connect_refused"},
    {"action": "lost_before_commit"},
    {"action": "slow_answer", "seconds": 40},
    {"action": "html"},
    {"action": "truncated_json"},
    {"action": "status", "status": 503, "code": None},
    {"action": "status", "status": 429, "code": "RATE_LIMITED", "retry_after": 5},
)
"""The faults that may hit a list that is read meanwhile."""

Ending = Literal[
    "none", "timeout", "anyio", "asyncio.timeout", "cancel", "cancel twice"
]
ENDINGS: tuple[Ending, ...] = (
    "none",
    "none",
    "none",
    "timeout",
    "anyio",
    "asyncio.timeout",
    "cancel",
    "cancel twice",
)


@attrs.define(eq=False)
class Tally:
    """The results of schedules.

    Attributes:
        creates: Their outcomes.
        faults: How often each occurred.
        wrong: What does not balance, with the seed that reproduces it.
        schedules: How many were run.
        tracks: How many tracks were made.
        posts: How many creates reached the service.
    """

    creates: Counter[str] = attrs.field(factory=Counter)
    faults: Counter[str] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)
    schedules: int = 0
    tracks: int = 0
    posts: int = 0


def play(seed: int, tally: Tally, library: Library = "httpx") -> None:
    """Run the schedule of a seed and record its results."""
    rng = random.Random(seed)
    loop: Literal["asyncio", "trio"] = "trio" if seed % 4 == 0 else "asyncio"
    name, options = jumping_backend(loop)
    with seeded(seed):
        anyio.run(
            _Schedule(seed, rng, tally, loop, library).run,
            backend=name,
            backend_options=dict(options),
        )
    tally.schedules += 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the client's randomness and trio's order of tasks follow from a seed."""
    places = [(_session, "rng"), (_account_state, "rng"), (_run, "_r")]
    before = [vars(module)[name] for module, name in places]
    for module, name in places:
        vars(module)[name] = random.Random(seed)
    vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    try:
        yield
    finally:
        vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = False
        for (module, name), value in zip(places, before, strict=True):
            vars(module)[name] = value


class _Schedule:
    def __init__(
        self, seed: int, rng: random.Random, tally: Tally, loop: str, library: Library
    ) -> None:
        self._seed, self._rng, self._tally, self._loop = seed, rng, tally, loop
        self._library = library

    async def run(self) -> None:
        rng = self._rng
        emulator = Emulator(
            seed=self._seed,
            start_time=START,
            latency=rng.choice([(0.0, 0.0), (0.05, 0.3), (0.3, 1.5)]),
            queue_size=rng.choice([1, 2, 5, 50]),
            creates_per_minute=rng.choice([2, 10, 10]),
            rewrite_prompts=rng.random() < 0.2,
            generation_time=(20, 60),
            audio=b"mp3",
        )
        with Log() as log:
            async with (
                emulator,
                in_process(emulator, self._library) as http,
                AsyncClient(
                    emulator.api_key,
                    base_url=emulator.base_url,
                    http_client=http,
                    rate_limits=emulator.rate_limits,
                    max_retries=rng.choice([0, 2, 5]),
                ) as client,
            ):
                await self._play(emulator, client, log)

    async def _play(self, emulator: Emulator, client: AsyncClient, log: Log) -> None:
        rng = self._rng
        if rng.random() < 0.7:
            await client.me()
        faults = self._add_faults(emulator)
        creates = [self._create(number) for number in range(rng.randint(1, 5))]
        async with anyio.create_task_group() as group:
            for create, options, ending, after in creates:
                work = self._work(client, create, options)
                group.start_soon(self._end, work, create, ending, after)
            if rng.random() < 0.08:
                await anyio.sleep(rng.uniform(0, 90))
                await client.aclose()
        await anyio.sleep(100)  # let everything that is late arrive
        self._record(emulator, [c for c, *_ in creates], client, log, faults)

    def _add_faults(self, emulator: Emulator) -> list[Fault]:
        rng, faults = self._rng, []
        for _ in range(rng.choice([0, 1, 1, 2, 3, 4])):
            chosen = {"times": rng.choice([1, 1, 2]), **rng.choice(POST_FAULTS)}
            faults.append(Fault(path=CREATE, method="POST", **chosen))
        for _ in range(rng.choice([0, 0, 1, 2])):
            chosen = {"times": rng.choice([1, 3, 8]), **rng.choice(GET_FAULTS)}
            faults.append(Fault(path=CREATE, method="GET", **chosen))
        for fault in faults:
            fault.skip = rng.choice([0, 0, 0, 1, 2])
        return [emulator.add_fault(fault) for fault in faults]

    def _create(self, number: int) -> tuple[Create, dict[str, Any], Ending, float]:
        rng = self._rng
        resubmits = rng.random() < 0.25
        options: dict[str, Any] = {
            "seed": rng.choice([None, None, 42, 43]),
            "on_unknown": "resubmit" if resubmits else "raise",
        }
        endings = ENDINGS if self._loop == "asyncio" else ENDINGS[:5]
        ending, after = rng.choice(endings), rng.choice([0.0, 0.1, 0.5, 1, 7, 33, 70])
        if ending == "timeout":
            options["timeout"] = after
        return Create(f"song {number}", resubmits), options, ending, after

    def _work(
        self, client: AsyncClient, create: Create, options: dict[str, Any]
    ) -> Callable[[], Awaitable[None]]:
        slow = self._rng.random() < 0.3

        async def on_submitted(track: Generation) -> None:
            create.reported.append(track)
            if slow:
                await anyio.sleep(1)

        async def work() -> None:
            try:
                create.returned = await client.generations.create(
                    create.prompt, on_submitted=on_submitted, **options
                )
            except BaseException as error:
                create.error = error
                raise

        return work

    async def _end(
        self,
        work: Callable[[], Awaitable[None]],
        create: Create,
        ending: Ending,
        after: float,
    ) -> None:
        try:
            if ending in ("none", "timeout"):
                with anyio.move_on_after(PATIENCE):
                    await work()
            elif ending == "anyio" or self._loop == "trio":
                with anyio.move_on_after(after):
                    await work()
            elif ending == "asyncio.timeout":
                async with asyncio.timeout(after):
                    await work()
            else:
                await _cancel(work, after, twice=ending == "cancel twice")
        except Exception as error:
            if create.error is None:
                create.error = error

    def _record(
        self,
        emulator: Emulator,
        creates: list[Create],
        client: AsyncClient,
        log: Log,
        faults: list[Fault],
    ) -> None:
        tally = self._tally
        wrong = [*balance(emulator, creates, log), *leftovers(client)]
        tally.wrong += [f"seed {self._seed} ({self._loop}): {each}" for each in wrong]
        tally.creates.update(create.outcome for create in creates)
        for fault in faults:
            tally.faults[f"{fault.method} {fault.action}"] += fault.hits
        tally.tracks += len(emulator.tracks)
        tally.posts += emulator.count(method="POST", path=CREATE)


async def _cancel(
    work: Callable[[], Awaitable[None]], after: float, *, twice: bool
) -> None:
    async def call() -> None:
        await work()

    task = asyncio.ensure_future(call())
    await asyncio.wait([task], timeout=after)
    task.cancel()
    if twice:
        await asyncio.sleep(0.2)
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
