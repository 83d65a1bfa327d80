"""Our limiter in two processes that share a store, in virtual time.

The processes send in turn. The requests are reads, since creates through a store also
obey the capacity of the service's queue. The stores are the real ones: the file and the
database work inline while the clock stands still, and a connection to Redis blocks.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.lowlevel

from benchmarks.limiter.ours import LimitedClient
from finetuning_async._coordination._shared_limiter import TIMEOUT, StoreLimiter
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async.postgres._store import PostgresStore
from finetuning_async.redis._store import RedisStore
from finetuning_async.shared._store import FileStore
from tests import _postgres_server as _postgres, _redis_server as _redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from benchmarks.limiter.simulation import Client, Send, Setting
    from finetuning_async._coordination._store_protocol import StateStore, Step

T = TypeVar("T")

PROCESSES: Final = 2

NAMES: Final = ("memory", "file", "redis", "postgres")

NUMBERS: Final = itertools.count(1)
"""Numbers of accounts; each run has its own account."""


def _now() -> float:
    return 5000.0 + asyncio.get_running_loop().time()


class _Clock:
    """The machine's clock, for the file."""

    name = "a boot"

    def now(self) -> float:
        return _now()


class _Memory:
    """The simplest store that implements the protocol."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    async def update(self, name: str, step: Step[T]) -> T:
        await anyio.lowlevel.checkpoint()
        self._states[name], result = step(self._states.get(name), _now())
        return result


class BlockingRedis:
    """A blocking connection, since nothing may wait while the clock jumps."""

    def __init__(self, url: str) -> None:
        import redis

        self._server = redis.Redis.from_url(url)

    def register_script(self, script: str) -> Callable[..., Any]:
        """Like `redis.asyncio.Redis.register_script`."""
        registered = self._server.register_script(script)

        async def run(keys: list[str], args: list[Any]) -> Any:
            await anyio.lowlevel.checkpoint()
            return registered(keys=keys, args=args)

        return run

    async def blpop(self, keys: list[str], timeout: float) -> Any:
        """Like `redis.asyncio.Redis.blpop`, for one key."""
        with anyio.move_on_after(timeout):
            while (found := self._server.lpop(keys[0])) is None:  # noqa: ASYNC110 - the server sets no event
                await anyio.sleep(0.001)
            return keys[0], found
        return None


class TwoProcesses:
    """Two limiters that send in turn."""

    def __init__(self, setting: Setting, connect: Callable[[], StateStore]) -> None:
        limits = RateLimits(reads=RateLimit(setting.limit, per=setting.per))
        self._each = itertools.cycle(
            [_process(number, limits, connect) for number in range(PROCESSES)]
        )

    async def request(self, send: Send) -> None:
        """Send until one request is served."""
        await next(self._each).request(send)


def _process(
    number: int, limits: RateLimits, connect: Callable[[], StateStore]
) -> LimitedClient:
    return LimitedClient(_limiter(number, limits, connect), "reads")


def _limiter(
    number: int, limits: RateLimits, connect: Callable[[], StateStore]
) -> StoreLimiter:
    rng = random.Random(number)
    limiter = StoreLimiter(lambda _: connect(), account="one", timeout=TIMEOUT, rng=rng)
    limiter.bind("one", limits, lambda: 0)
    return limiter


def pair_maker(
    name: str, stack: ExitStack
) -> Callable[[], tuple[StoreLimiter, StoreLimiter]]:
    """Make the maker of the limiters of two processes that share a store.

    Args:
        name: One of `NAMES`.
        stack: Closes what the store needs.
    """
    connect = _connecting(name, stack)

    def make() -> tuple[StoreLimiter, StoreLimiter]:
        account, memory = f"run{next(NUMBERS)}", _Memory()
        store = (lambda: memory) if name == "memory" else lambda: connect(account)
        first, second = (_limiter(number, RateLimits(), store) for number in range(2))
        return first, second

    return make


def maker(name: str, stack: ExitStack) -> Callable[[Setting], Client]:
    """Make the maker of two processes that share a store.

    Args:
        name: One of `NAMES`.
        stack: Closes what the store needs.
    """
    connect = _connecting(name, stack)

    def make(setting: Setting) -> Client:
        account = f"run{next(NUMBERS)}"
        if name == "memory":
            shared = _Memory()
            return TwoProcesses(setting, lambda: shared)
        return TwoProcesses(setting, lambda: connect(account))

    return make


def _connecting(name: str, stack: ExitStack) -> Callable[[str], StateStore]:
    if name == "file":
        folder = Path(stack.enter_context(TemporaryDirectory()))
        return lambda account: FileStore(folder / f"{account}.db", _Clock())
    if name == "postgres":
        conninfo = stack.enter_context(_postgres.cluster())
        return lambda account: PostgresStore(conninfo, account, _now)
    if name == "redis":
        client = BlockingRedis(stack.enter_context(_redis.running()).url)
        rng = random.Random(3)
        return lambda account: RedisStore(client, account, rng, _now)
    return lambda _: _Memory()
