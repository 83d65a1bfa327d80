"""One task waits until another wakes it."""

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
    """Lets one task wait for `wake`, with a timer if need be.

    On asyncio the task waits on a bare future. An event, with its queue of waiters and
    its coroutines, would cost six objects and 1.3 KiB more, and thousands of tasks may
    wait.
    """

    __slots__ = ("_context", "_timer", "_timer_at", "_waiting")

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | anyio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._context: Context | None = None

    def wait(self) -> Awaitable[None]:
        """Return an awaitable that ends at the next `wake`; await it at once.

        Only one task may wait at a time.
        """
        if current_async_library() == "asyncio":
            self._waiting = running_loop().create_future()
            return self._waiting
        self._waiting = anyio.Event()
        return self._waiting.wait()

    def wait_until(self, deadline: float) -> Awaitable[None]:
        """As `wait`, and end at `deadline`, on the loop's clock, at the latest.

        On asyncio the timer stays set when `wake` comes first: a task that waits again
        for the same deadline reuses it. After the last wait, call `cancel_timer`.
        """
        if current_async_library() != "asyncio":
            return self._wait_until(deadline)
        if self._timer_at != deadline:
            self.cancel_timer()
            if deadline < inf:
                self._set_timer(deadline)
        return self.wait()

    async def _wait_until(self, deadline: float) -> None:
        with anyio.CancelScope(deadline=deadline):
            await self.wait()

    def _set_timer(self, deadline: float) -> None:
        """Set a plain timer: anyio's scope would be eight objects more, and slower."""
        if self._context is None:  # else each timer copies the caller's context
            self._context = Context()
        self._timer_at = deadline
        self._timer = running_loop().call_at(
            deadline, self._on_timer, context=self._context
        )

    def cancel_timer(self) -> None:
        """Cancel the timer that `wait_until` left set, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, inf

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, inf
        self.wake()

    def wake(self) -> None:
        """Let the task go on; does nothing if none waits."""
        if isinstance(self._waiting, anyio.Event):
            self._waiting.set()
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop of asyncio, which programs on trio never import."""
    loop: asyncio.AbstractEventLoop = sys.modules["asyncio"].get_running_loop()
    return loop


def running_task() -> asyncio.Task[Any]:
    """The running task of asyncio."""
    task: asyncio.Task[Any] = sys.modules["asyncio"].current_task()
    return task
