"""Stores of turns as the conformance suite uses them: each limiter is a process."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

from finetuning_async._limiter import Limiter
from finetuning_async._rate_limits import RateLimit, RateLimits
from finetuning_async._store_book import turn_page
from finetuning_async._store_limiter import StoreLimiter
from finetuning_async.postgres._turns import TurnsTable
from finetuning_async.redis._store import SCRIPT, arguments, keys_of, read_reply
from finetuning_async.shared._file import FileStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis

    from finetuning_async._rate_limiter import RateLimiter
    from finetuning_async._store_words import Reply, Request, Store

LIMITS = RateLimits(creates=RateLimit(4), reads=RateLimit(6))
ACCOUNTS = itertools.count(1)
TIMEOUT = 20.0
"""Seconds after which a request of a dead process is taken as over."""


class Shop(Protocol):
    """Where several processes get the turns of one account."""

    def process(self, limits: RateLimits | None = LIMITS) -> RateLimiter:
        """The limiter of one more process."""


class OneProcess:
    """The default: all ask the same limiter."""

    def __init__(self) -> None:
        self._limiter: Limiter | None = None

    def process(self, limits: RateLimits | None = LIMITS) -> Limiter:
        if self._limiter is None:
            self._limiter = Limiter(limits, rng=random.Random(7))
        return self._limiter


class Processes:
    """Each process has its own link to one store.

    Args:
        connect: Makes the store of a process.
    """

    def __init__(self, connect: Callable[[], Store]) -> None:
        self._connect = connect
        self._count = 0

    def process(
        self,
        limits: RateLimits | None = LIMITS,
        under_way: Callable[[], int] = lambda: 0,
    ) -> StoreLimiter:
        self._count += 1
        limiter = StoreLimiter(
            lambda _: self._connect(),
            account="a",
            timeout=TIMEOUT,
            rng=random.Random(self._count),
        )
        limiter.bind("a", limits, under_way)
        return limiter


class PageStore:
    """A store in this process: the book as a text, and faults to order.

    Attributes:
        text: The book; `None` to begin anew.
        exchanges: How many there were.
        fails: Called with a request; whether its answer is lost, the work being done.
        gone: Whether nobody answers.
        delay: Seconds that an exchange takes.
    """

    def __init__(self) -> None:
        self.text: str | None = None
        self.exchanges = 0
        self.fails: Callable[[Request], bool] = lambda _: False
        self.gone = False
        self.delay = 0.0
        self._rng = random.Random(3)

    async def exchange(self, request: Request) -> Reply:
        await anyio.sleep(self.delay)
        if self.gone:
            raise ConnectionError("nobody there")
        self.exchanges += 1
        self.text, reply = turn_page(
            self.text, request, now=anyio.current_time() + 5000, rng=self._rng
        )
        if self.fails(request):
            raise ConnectionError("the answer was lost")
        return reply


class ScriptStore:
    """The script of Redis, given the loop's time; a real server runs it.

    Args:
        server: A connection that waits, as nothing else may while the clock jumps.
        account: Whose keys.
    """

    def __init__(self, server: redis.Redis, account: str) -> None:
        self._server = server
        self._keys = keys_of(account)
        self._rng = random.Random(11)

    async def exchange(self, request: Request) -> Reply:
        await anyio.lowlevel.checkpoint()
        args = [*arguments(request, self._rng), repr(anyio.current_time() + 5000)]
        text: Any = self._server.eval(SCRIPT, len(self._keys), *self._keys, *args)
        return read_reply(text)


class LoopClock:
    """The loop's clock as that of the machine."""

    name = "one boot"

    def now(self) -> float:
        return anyio.current_time() + 5000


def file_shop(folder: Path) -> Processes:
    rng: Any = random.Random(5)
    return Processes(lambda: FileStore(folder / "book.db", LoopClock(), rng))


def script_shop(server: redis.Redis) -> Processes:
    account = f"test{next(ACCOUNTS)}"
    return Processes(lambda: ScriptStore(server, account))


ACCOUNTS = itertools.count(1)


def table_shop(conninfo: str) -> Processes:
    account, rng = f"account {next(ACCOUNTS)}", random.Random(5)
    clock = LoopClock().now
    return Processes(lambda: TurnsTable(conninfo, account, rng, clock))


def page_shop(store: PageStore | None = None) -> Processes:
    shared = PageStore() if store is None else store
    return Processes(lambda: shared)
