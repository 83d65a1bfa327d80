"""Other ways to pace requests: peers as they document it, and the vendor's advice.

A peer knows nothing of responses. A client that is refused waits for ``Retry-After``
and acquires another permit.
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
    jitter, at most 30 s. The caller needs the track and so calls again.
    """

    def __init__(self, setting: Setting) -> None:
        del setting  # it does not know the limits
        self.rng = random.Random(1)

    async def request(self, send: Send) -> None:
        """Send until one request is served."""
        while not await self.three_attempts(send):
            pass

    async def three_attempts(self, send: Send) -> bool:
        """Send up to three times; return whether a request was served."""
        for attempt in range(3):
            response = await send()
            if response.status != 429:
                return True
            backoff = min(2.0**attempt + self.rng.random(), 30.0)
            await asyncio.sleep(response.retry_after or backoff)
        return False


class PeerLimiter(Protocol):
    """What a peer offers."""

    async def acquire(self) -> object:
        """Wait for a permit."""


class Peer:
    """A client of a limiter that knows nothing of responses."""

    def __init__(self, limiter: PeerLimiter) -> None:
        self.limiter = limiter

    async def request(self, send: Send) -> None:
        """Send until one request is served."""
        while True:
            await self.limiter.acquire()
            response = await send()
            if response.status != 429:
                return
            await asyncio.sleep(response.retry_after or 1.0)


class Aiolimiter:
    """`aiolimiter.AsyncLimiter`; without bursts, as its documentation advises."""

    def __init__(self, limit: int, per: float, *, burst: bool) -> None:
        rate = (limit, per) if burst else (1, per / limit)
        self.limiter = aiolimiter.AsyncLimiter(*rate)

    async def acquire(self) -> object:
        """Wait for a permit."""
        await self.limiter.acquire()
        return None


class LimitsMoving:
    """`limits`, moving window: it does not wait, so we sleep until its reset time."""

    def __init__(self, limit: int, per: float) -> None:
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.rate = limits.RateLimitItemPerSecond(limit, int(per))

    async def acquire(self) -> object:
        """Wait for a permit."""
        while not self.limiter.hit(self.rate, "creates"):
            reset = self.limiter.get_window_stats(self.rate, "creates").reset_time
            await asyncio.sleep(max(reset - time.time(), 0.01))
        return None


class Pyrate:
    """`pyrate_limiter.Limiter`, its default: a sliding log in memory."""

    def __init__(self, limit: int, per: float) -> None:
        rate = pyrate_limiter.Rate(limit, int(per * 1000))
        self.limiter = pyrate_limiter.Limiter(rate)

    async def acquire(self) -> object:
        """Wait for a permit."""
        return await self.limiter.try_acquire_async("creates")


PEERS: Final[dict[str, Callable[[Setting], Client]]] = {
    "aiolimiter": lambda s: Peer(Aiolimiter(s.limit, s.per, burst=True)),
    "aiolimiter, no bursts": lambda s: Peer(Aiolimiter(s.limit, s.per, burst=False)),
    "limits, moving window": lambda s: Peer(LimitsMoving(s.limit, s.per)),
    "pyrate-limiter": lambda s: Peer(Pyrate(s.limit, s.per)),
    "vendor's advice": Vendor,
}


@contextmanager
def process_clock_follows_loop() -> Generator[None]:
    """Let peers that read the process's clock see the virtual time of the loop."""
    epoch = 1e9

    def seconds() -> float:
        return epoch + asyncio.get_running_loop().time()

    clock = staticmethod(lambda: int(seconds() * 1000))
    with (
        mock.patch("time.time", seconds),
        mock.patch.object(AbstractClock, "_get_monotonic_ms", clock),
        # Threads that free memory; they would read the loop's clock without a loop.
        mock.patch("limits.storage.memory.threading.Timer", mock.Mock()),
        mock.patch.object(pyrate_limiter.BucketFactory, "schedule_leak", mock.Mock()),
    ):
        yield
