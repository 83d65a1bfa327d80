"""The stores, as the conformance suite uses them: each limiter stands for a process."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.lowlevel

from finetuning_async._coordination._shared_limiter import StoreLimiter
from finetuning_async._pacing._limiter import Limiter
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async.postgres._store import PostgresStore
from finetuning_async.redis._store import RedisStore
from finetuning_async.shared._store import FileStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis

    from finetuning_async._coordination._store_protocol import StateStore, Step
    from finetuning_async._pacing._protocols import RateLimiter

T = TypeVar("T")

LIMITS = RateLimits(creates=RateLimit(4), reads=RateLimit(6))
ACCOUNTS = itertools.count(1)
TIMEOUT = 20.0
"""Seconds after which a request of a dead process counts as ended."""


class Shop(Protocol):
    """What makes the limiters of several processes of one account."""

    def process(self, limits: RateLimits | None = LIMITS) -> RateLimiter:
        """Return the limiter of one more process."""


class OneProcess:
    """The default: all use the same limiter."""

    def __init__(self) -> None:
        self._limiter: Limiter | None = None

    def process(self, limits: RateLimits | None = LIMITS) -> Limiter:
        if self._limiter is None:
            self._limiter = Limiter(limits, rng=random.Random(7))
        return self._limiter


class Processes:
    """Each process has its own connection to one store.

    Attributes:
        connect: Makes the store of a process.
    """

    def __init__(self, connect: Callable[[], StateStore]) -> None:
        self.connect = connect
        self._count = 0

    def process(
        self,
        limits: RateLimits | None = LIMITS,
        under_way: Callable[[], int] = lambda: 0,
    ) -> StoreLimiter:
        self._count += 1
        limiter = StoreLimiter(
            lambda _: self.connect(),
            account="a",
            timeout=TIMEOUT,
            rng=random.Random(self._count),
        )
        limiter.bind("a", limits, under_way)
        return limiter


class MemoryStore:
    """A store in this process that can fail on demand.

    Attributes:
        states: By name; clear it to empty the store.
        fails: Called after each update; whether its result is lost.
        is_down: Whether updates fail.
        delay: Seconds that an update takes.
        paused_until: Until when updates hang, on the loop's clock.
    """

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.fails: Callable[[], bool] = lambda: False
        self.is_down = False
        self.delay = 0.0
        self.paused_until = 0.0

    async def update(self, name: str, step: Step[T]) -> T:
        await anyio.sleep(self.delay)
        if self.is_down:
            raise ConnectionError("connection refused")
        await anyio.sleep_until(self.paused_until)
        now = anyio.current_time() + 5000
        self.states[name], result = step(self.states.get(name), now)
        if self.fails():
            raise ConnectionError("the reply was lost")
        return result


class WaitingRedis:
    """A blocking connection: the clock must not jump while Redis works."""

    def __init__(self, server: redis.Redis) -> None:
        self._server = server

    def register_script(self, script: str) -> Callable[..., Any]:
        async def run(keys: list[str], args: list[Any]) -> Any:
            await anyio.lowlevel.checkpoint()
            return self._server.eval(script, len(keys), *keys, *args)

        return run

    async def blpop(self, keys: list[str], timeout: float) -> Any:
        with anyio.move_on_after(timeout):
            while (found := self._server.lpop(keys[0])) is None:  # noqa: ASYNC110 - the server sets no event
                await anyio.sleep(0.001)
            return keys[0], found
        return None


class LoopClock:
    """The loop's clock in place of the machine's."""

    name = "one boot"

    def now(self) -> float:
        return anyio.current_time() + 5000


def file_shop(folder: Path) -> Processes:
    return Processes(lambda: FileStore(folder / "states.db", LoopClock()))


def redis_shop(server: redis.Redis) -> Processes:
    account, rng = f"test{next(ACCOUNTS)}", random.Random(11)
    client, clock = WaitingRedis(server), LoopClock().now
    return Processes(lambda: RedisStore(client, account, rng, clock))


def postgres_shop(conninfo: str) -> Processes:
    account, clock = f"account {next(ACCOUNTS)}", LoopClock().now
    return Processes(lambda: PostgresStore(conninfo, account, clock))


def memory_shop(store: MemoryStore | None = None) -> Processes:
    shared = MemoryStore() if store is None else store
    return Processes(lambda: shared)
