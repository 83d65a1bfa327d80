"""One task that waits until another wakes it."""

from __future__ import annotations

import sys
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
from sniffio import current_async_library

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable


class Wakeup:
    """A place for one task to wait.

    On asyncio it waits on a bare future. An event, with its queue of waiters and its
    coroutines, would be six objects and 1.3 KiB more, for each of thousands that wait.
    """

    __slots__ = ("_alarm", "_context", "_parked", "_rings_at")

    def __init__(self) -> None:
        self._parked: asyncio.Future[None] | anyio.Event | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._rings_at = inf
        self._context: Context | None = None

    def wait(self) -> Awaitable[None]:
        """What returns at the next `wake`; to be awaited at once, by one task."""
        if current_async_library() == "asyncio":
            self._parked = running_loop().create_future()
            return self._parked
        self._parked = anyio.Event()
        return self._parked.wait()

    def parked_until(self, moment: float) -> Awaitable[None]:
        """What returns at the next `wake`, or at a moment of the loop's clock.

        To be awaited at once. On asyncio the alarm stays set, to be found there by who
        waits often for the same moment, until `cancel_timer`.
        """
        if current_async_library() != "asyncio":
            return self._until(moment)
        if self._rings_at != moment:
            self.cancel_timer()
            if moment < inf:
                self._set_alarm(moment)
        return self.wait()

    async def _until(self, moment: float) -> None:
        with anyio.CancelScope(deadline=moment):
            await self.wait()

    def _set_alarm(self, moment: float) -> None:
        """A timer does: a scope of anyio's would be eight objects more, and slower."""
        if self._context is None:  # or each timer would take a copy of the caller's
            self._context = Context()
        self._rings_at = moment
        self._alarm = running_loop().call_at(moment, self._ring, context=self._context)

    def cancel_timer(self) -> None:
        """Take back the alarm of `parked_until`, if one is set."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm, self._rings_at = None, inf

    def _ring(self) -> None:
        self._alarm, self._rings_at = None, inf
        self.wake()

    def wake(self) -> None:
        """Let the task go on; harmless if none waits."""
        if isinstance(self._parked, anyio.Event):
            self._parked.set()
        elif self._parked is not None and not self._parked.done():
            self._parked.set_result(None)


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop, on asyncio, which is not imported for programs that use trio."""
    loop: asyncio.AbstractEventLoop = sys.modules["asyncio"].get_running_loop()
    return loop


def running_task() -> asyncio.Task[Any]:
    """The task that runs, on asyncio."""
    task: asyncio.Task[Any] = sys.modules["asyncio"].current_task()
    return task
