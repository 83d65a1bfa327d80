"""Other ways to pace requests: peers as their documentation says, the vendor's text.

A peer knows nothing of answers: one that is refused waits out ``Retry-After`` and asks
for another turn.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol
from unittest import mock

import aiolimiter
import limits
import pyrate_limiter
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pyrate_limiter.clocks import AbstractClock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from benchmarks.limiter.simulation import Client, Send, Setting


class Vendor:
    """The specification's section 4.4: send, and on 429 wait and repeat.

    Three attempts; ``Retry-After``, else 1 s doubled per attempt and up to 1 s of
    jitter, at most 30 s. The caller, who wants the track, calls again.
    """

    def __init__(self, setting: Setting) -> None:
        del setting  # it does not know the limits
        self.rng = random.Random(1)

    async def request(self, send: Send) -> None:
        """Have one request served."""
        while not await self.three_attempts(send):
            pass

    async def three_attempts(self, send: Send) -> bool:
        """Whether one of them was served."""
        for attempt in range(3):
            response = await send()
            if response.status != 429:
                return True
            backoff = min(2.0**attempt + self.rng.random(), 30.0)
            await asyncio.sleep(response.retry_after or backoff)
        return False


class Turns(Protocol):
    """What a peer offers: wait for a turn."""

    async def turn(self) -> object:
        """Wait for a turn."""


class Peer:
    """A limiter that knows nothing of answers."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    async def request(self, send: Send) -> None:
        """Have one request served."""
        while True:
            await self.turns.turn()
            response = await send()
            if response.status != 429:
                return
            await asyncio.sleep(response.retry_after or 1.0)


class Aiolimiter:
    """`aiolimiter.AsyncLimiter`; without bursts, as its documentation advises."""

    def __init__(self, limit: int, per: float, *, burst: bool) -> None:
        rate = (limit, per) if burst else (1, per / limit)
        self.limiter = aiolimiter.AsyncLimiter(*rate)

    async def turn(self) -> object:
        """Wait for a turn."""
        await self.limiter.acquire()
        return None


class LimitsMoving:
    """`limits`, moving window: it does not wait, so we sleep until its reset time."""

    def __init__(self, limit: int, per: float) -> None:
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.rate = limits.RateLimitItemPerSecond(limit, int(per))

    async def turn(self) -> object:
        """Wait for a turn."""
        while not self.limiter.hit(self.rate, "creates"):
            reset = self.limiter.get_window_stats(self.rate, "creates").reset_time
            await asyncio.sleep(max(reset - time.time(), 0.01))
        return None


class Pyrate:
    """`pyrate_limiter.Limiter`, its default: a sliding log in memory."""

    def __init__(self, limit: int, per: float) -> None:
        rate = pyrate_limiter.Rate(limit, int(per * 1000))
        self.limiter = pyrate_limiter.Limiter(rate)

    async def turn(self) -> object:
        """Wait for a turn."""
        return await self.limiter.try_acquire_async("creates")


PEERS: Final[dict[str, Callable[[Setting], Client]]] = {
    "aiolimiter": lambda s: Peer(Aiolimiter(s.limit, s.per, burst=True)),
    "aiolimiter, no bursts": lambda s: Peer(Aiolimiter(s.limit, s.per, burst=False)),
    "limits, moving window": lambda s: Peer(LimitsMoving(s.limit, s.per)),
    "pyrate-limiter": lambda s: Peer(Pyrate(s.limit, s.per)),
    "vendor's text": Vendor,
}


@contextmanager
def processes_clock_is_the_loops() -> Generator[None]:
    """Let peers that read the process's clock see the one that jumps."""
    epoch = 1e9

    def seconds() -> float:
        return epoch + asyncio.get_running_loop().time()

    clock = staticmethod(lambda: int(seconds() * 1000))
    with (
        mock.patch("time.time", seconds),
        mock.patch.object(AbstractClock, "_get_monotonic_ms", clock),
        # Threads that free memory; they would read the loop's clock from outside.
        mock.patch("limits.storage.memory.threading.Timer", mock.Mock()),
        mock.patch.object(pyrate_limiter.BucketFactory, "schedule_leak", mock.Mock()),
    ):
        yield
