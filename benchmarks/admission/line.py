"""Creates in virtual time, through one process or two that share a store.

The service counts a log of a minute. A request takes 20 to 200 ms each way. With two
processes the batch is in one, and those who do not wait with it in the other.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import attrs

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._pacing._dealer import RANKS
from finetuning_async._pacing._limiter import Limiter, with_terms
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async._pacing._queue_protocols import Terms
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from finetuning_async._pacing._protocols import RateLimiter
    from finetuning_async._types import Priority

    Processes: TypeAlias = tuple[RateLimiter, RateLimiter]
    """The process of the batch, and the one of everybody else; they may be one."""

LIMIT: Final = 10
PER: Final = 60.0
SHARES: Final = 10


def one_process() -> Processes:
    """A limiter as every client has it, for all creates."""
    limiter = Limiter(RateLimits(), rng=random.Random(1))
    return limiter, limiter


@attrs.define(eq=False)
class Service:
    """The service, and when each create was sent to it.

    Attributes:
        rng: Source of delays.
        sent: Share or name of each create, and when its first byte left.
        refused: How many it refused.
    """

    rng: random.Random
    sent: list[tuple[str, float]] = attrs.Factory(list)
    refused: int = 0
    _counted: list[float] = attrs.Factory(list)

    async def create(
        self, limiter: RateLimiter, name: str, priority: Priority, share: str | None
    ) -> float:
        """Make one create; return the seconds until its first byte left."""
        loop = asyncio.get_running_loop()
        began, again = loop.time(), False
        terms = Terms(RANKS[priority], share)
        while True:
            permit = await with_terms(limiter, terms).acquire("creates", first=again)
            sent_at = loop.time()
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))
            facts = self._count(loop.time())
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))
            permit.answered(facts)
            await limiter.flush()
            again = facts.status == 429
            if not again:
                self.sent.append((name, sent_at))
                return sent_at - began

    def _count(self, now: float) -> ResponseFacts:
        self._counted = [at for at in self._counted if at > now - PER]
        used = len(self._counted)
        if used >= LIMIT:
            self.refused += 1
            code = "GENERATION_RATE_LIMITED"
            return ResponseFacts(status=429, code=code, retry_after=1.0)
        self._counted.append(now)
        return ResponseFacts(status=202, limit=LIMIT, remaining=LIMIT - used - 1)

    def times(self, name: str) -> list[float]:
        """When the creates of a name were sent."""
        return [at for each, at in self.sent if each == name]


def in_virtual_time(
    make: Callable[[], Processes],
    seed: int,
    scene: Callable[[Service, Processes], Coroutine[None, None, None]],
) -> Service:
    """Run a scene; return the service that it used."""
    service = Service(random.Random(seed))

    async def run() -> None:
        await scene(service, make())

    with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
        runner.run(run())
    return service


def waits_of_persons(make: Callable[[], Processes], seed: int) -> list[float]:
    """Seconds to the first byte of `high` creates at random behind 1,000 `low` ones."""
    waits: list[float] = []

    async def scene(service: Service, processes: Processes) -> None:
        batch, web = processes
        async with _tasks() as tasks:
            for _ in range(1000):
                tasks.start(service.create(batch, "low", "low", None))
            for _ in range(20):
                await asyncio.sleep(service.rng.expovariate(1 / 200))
                waits.append(await service.create(web, "high", "high", None))
            tasks.cancel()

    in_virtual_time(make, seed, scene)
    return waits


def batch_alone(
    make: Callable[[], Processes], seed: int, count: int, priority: Priority
) -> float:
    """Seconds until the last of a batch is sent."""

    async def scene(service: Service, processes: Processes) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(service.create(processes[0], "x", priority, None))

    return max(in_virtual_time(make, seed, scene).times("x"))


def permits_of_low(make: Callable[[], Processes], seed: int) -> float:
    """The least part of ten permits in a row for `low`, beside endless `high` ones."""

    async def scene(service: Service, processes: Processes) -> None:
        batch, web = processes
        async with _tasks() as tasks:
            for _ in range(200):
                tasks.start(service.create(web, "high", "high", None))
                tasks.start(service.create(batch, "low", "low", None))
            await asyncio.sleep(900)
            tasks.cancel()

    service = in_virtual_time(make, seed, scene)
    names = [name for name, _ in sorted(service.sent, key=lambda each: each[1])][10:]
    tens = [names[start : start + 10] for start in range(len(names) - 9)]
    return min(ten.count("low") for ten in tens) / 10


def shares(make: Callable[[], Processes], seed: int) -> tuple[float, float]:
    """Nine shares with 5 creates beside one with 500.

    Returns:
        When the last of the nine's is sent, as a multiple of what equal shares allow;
        and Jain's index of the permits of each while all of them wait.
    """

    async def scene(service: Service, processes: Processes) -> None:
        batch, web = processes
        async with _tasks() as tasks:
            for _ in range(500):
                tasks.start(service.create(batch, "big", "normal", "big"))
            await asyncio.sleep(1)
            for _ in range(5):
                for name in map(str, range(SHARES - 1)):
                    tasks.start(service.create(web, name, "normal", name))
            await asyncio.sleep(400)
            tasks.cancel()

    service = in_virtual_time(make, seed, scene)
    last = max(at for name, at in service.sent if name != "big")
    # Ten went out at once, before the nine came: theirs are the next five bursts.
    allowed = 5 * (PER + 0.05)
    counted = [at for _, at in sorted(service.sent, key=lambda each: each[1])][10:]
    until = counted[39]  # four of the five turns: all still wait
    had = [
        sum(counted[0] <= at <= until for at in service.times(name))
        for name in ("big", *map(str, range(SHARES - 1)))
    ]
    return last / allowed, sum(had) ** 2 / (len(had) * sum(n * n for n in had))


def cost_of_a_turn() -> float:
    """Microseconds of an acquire with 10,000 waiting in 1,000 shares; best of 3."""
    return min(asyncio.run(_turns()) for _ in range(3))


async def _turns(turns: int = 2000, waiting: int = 10_000, many: int = 1000) -> float:
    """Time `turns` permits, each given back so that the next in line gets it."""
    limiter = Limiter(RateLimits(creates=RateLimit(1)), rng=random.Random(1))
    first = await limiter.acquire("creates")
    done = asyncio.Event()
    had = 0

    async def wait_and_pass_on(number: int) -> None:
        nonlocal had
        terms = Terms(share=str(number % many))
        permit = await with_terms(limiter, terms).acquire("creates")
        had += 1
        if had >= turns:
            done.set()
        permit.unsent()

    tasks = [asyncio.create_task(wait_and_pass_on(n)) for n in range(waiting)]
    await asyncio.sleep(0.1)
    began = time.process_time()
    first.unsent()
    await done.wait()
    took = time.process_time() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return took / turns * 1e6


class _Tasks:
    """Tasks that are cancelled together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[float]] = set()

    def start(self, coroutine: Coroutine[None, None, float]) -> None:
        self._tasks.add(asyncio.create_task(coroutine))

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _tasks() -> _Tasks:
    return _Tasks()
