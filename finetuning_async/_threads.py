"""The one door to a worker thread.

A clock that jumps need not wait for a thread, and trio's own does not: it would run
into every deadline while the thread works. So under one the work is done inline.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Final, ParamSpec, TypeAlias, TypeVar

import anyio.lowlevel
import anyio.to_thread
from anyio.lowlevel import RunVar
from sniffio import current_async_library

from finetuning_async._shield import carried_to_its_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Offer: TypeAlias = Callable[[Callable[[], object]], bool]
    """Offers a thread more work; whether it takes it."""

P = ParamSpec("P")
T = TypeVar("T")

LINGER: Final = 0.05
"""Seconds for which a thread waits for more work. To call one in takes 0.2 ms: much for
what arrives at 100 MB/s, nothing for what is slower."""

THREADS: Final = 40
"""Threads that may linger at a time, as many as anyio has for all else."""

_lingering: RunVar[anyio.CapacityLimiter] = RunVar("_lingering")


def clock_jumps() -> bool:
    """Whether the running event loop's clock is not the system's.

    On trio: the clock is not trio's own ``SystemClock``. On asyncio: the loop replaces
    `asyncio.BaseEventLoop.time`.
    """
    if current_async_library() == "trio":
        clock = sys.modules["trio"].lowlevel.current_clock()
        return type(clock).__name__ != "SystemClock"
    asyncio = sys.modules["asyncio"]
    loop = asyncio.get_running_loop()
    base = asyncio.BaseEventLoop
    return isinstance(loop, base) and type(loop).time is not base.time


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do blocking work in a worker thread, or inline under a clock that jumps.

    A cancellation that comes while the thread works is delivered when it has ended, so
    no thread goes on writing a file that nobody waits for.
    """
    call = partial(work, *args, **kwargs)
    if clock_jumps():
        await anyio.lowlevel.checkpoint()
        return call()
    return await carried_to_its_end(lambda: anyio.to_thread.run_sync(call))


async def in_thread_beside(
    meanwhile: Callable[[Offer], Awaitable[None]], work: Callable[[], object]
) -> None:
    """The same, while the caller does something else; both have ended when it returns.

    Args:
        meanwhile: What the caller does. It may offer the thread more to do.
        work: What the thread does first.

    Raises:
        BaseException: What the work raised, else what `meanwhile` did.
    """
    if clock_jumps():
        work()
        await meanwhile(_nobody_takes)
        return
    limiter = _limiter()
    thread, scope = _Lingering(work, limiter), anyio.CancelScope()

    async def working() -> None:
        try:
            await anyio.to_thread.run_sync(thread.work, limiter=limiter)
        except BaseException:
            scope.cancel()  # what goes on beside it is in vain
            raise

    async def offering() -> None:
        try:
            with scope:
                await meanwhile(thread.offer)
        finally:
            thread.dismiss()

    await carried_to_its_end(working, offering)


def _limiter() -> anyio.CapacityLimiter:
    """The places of threads that linger; those of the program's own stay free."""
    try:
        return _lingering.get()
    except LookupError:
        _lingering.set(anyio.CapacityLimiter(THREADS))
        return _lingering.get()


def _nobody_takes(_: Callable[[], object]) -> bool:
    return False


class _Lingering:
    """A thread that stays for a while to be offered more: to call one in takes long."""

    def __init__(
        self, first: Callable[[], object], limiter: anyio.CapacityLimiter
    ) -> None:
        self._limiter = limiter
        self._offered: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._offered.put(first)
        self._lock = Lock()
        self._is_free = False

    def offer(self, work: Callable[[], object]) -> bool:
        """Give it work, if it is there and has none."""
        with self._lock:
            if not self._is_free:
                return False
            self._is_free = False
        self._offered.put(work)
        return True

    def dismiss(self) -> None:
        """Let it go once it has done what it took."""
        self._offered.put(None)

    def work(self) -> None:
        """What it does, in the thread."""
        work = self._offered.get()
        while work is not None:
            work()
            work = None  # what it wrote does not stay in memory while it waits
            work = self._taken()

    def _taken(self) -> Callable[[], object] | None:
        with self._lock:
            self._is_free = True
        with suppress(Empty):
            return self._offered.get(timeout=self._patience())
        with self._lock:
            if self._is_free:
                self._is_free = False
                return None
        return self._offered.get()  # offered at the last moment

    def _patience(self) -> float:
        """Seconds to stay; others may wait for its place."""
        return LINGER if self._limiter.available_tokens else 0.0
