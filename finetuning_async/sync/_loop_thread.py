"""An event loop, and a thread that runs it whenever no caller does.

A caller that is alone runs the loop itself until its call has ended: see `_turn`. So
the thread runs it while several callers wait, while a task is left that no caller waits
for, and to end it. Else it sleeps, as there is nothing in the loop to do.

anyio's `BlockingPortal` does much the same. It is not used, because what waits for its
futures has to choose when it is interrupted: either the call goes on, or no one learns
when it has ended, and a create in flight must be heard to its end.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

from finetuning_async._logging import log_exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


STOPS_WITHIN: Final = 1.0
"""Seconds that blocks, and then calls, have to end once their client is closed, which
has waited for creates in flight already."""


class OpenCall(Protocol):
    """What a thread waits for."""

    def abandon(self) -> None:
        """The loop is gone and will never answer."""

    def stop(self) -> asyncio.Future[Any] | None:
        """Cancel it; return a future that is done once it has ended.

        `None` if it has not begun.
        """


class OpenBlock(Protocol):
    """An ``async with`` block that a thread is in."""

    def abort(self) -> asyncio.Future[None]:
        """Leave it; its thread has not."""


class LoopThread:
    """An event loop of asyncio, and its daemon thread.

    Attributes:
        loop: The event loop.
        calls: What other threads wait for.
        blocks: Those that other threads are in.
        process: The process that it belongs to; a fork takes no thread along.
        turn: Held by the thread that runs the loop.
        claim: Held by the caller that runs it, or is about to.
        has_tasks: Whether tasks were left when the last call ended.
        has_ended: Whether it has stopped, so that only its thread may still run it.
        is_stopping: Whether the loop cancels all of its tasks, or has.
        is_exiting: Whether the interpreter exits. Only daemon threads can be waiting
            then. They are not woken: each would print the traceback of its error.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.calls: set[OpenCall] = set()
        self.blocks: set[OpenBlock] = set()
        self.process: int = os.getpid()
        self.turn: Lock = Lock()
        self.claim: Lock = Lock()
        self.has_tasks: bool = False
        self.has_ended: bool = False
        self._main: asyncio.Task[None] | None = None
        self._runs_in: int | None = None
        # Unlike an event, the garbage collector may use it in the midst of another use.
        self._nudges: SimpleQueue[None] = SimpleQueue()
        self._was_posted = False
        self.is_stopping: bool = False
        self.is_exiting: bool = False
        self._stopped = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        # A daemon, since the interpreter would wait for another one before it closes
        # any client.
        self._thread = Thread(
            target=self._run, name="finetuning_async.sync", daemon=True
        )

    @property
    def is_current(self) -> bool:
        """Whether the loop runs in the running thread."""
        return get_ident() == self._runs_in

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The system starts no more threads.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise
        except BaseException:  # interrupted, while the thread may be running
            self.stop()
            raise

    def _run(self) -> None:
        try:
            with self.turn:  # a caller may be faster
                self._main = self.loop.create_task(self._until_stopped())
            while not self.has_ended:
                self._wait_for_nudge()
                with self.turn:
                    # What stops it may have been meant for a turn that is over.
                    while not (self.has_ended or self.claim.locked()):
                        self.run_once()
            with self.turn:
                self._runs_in = get_ident()
                with asyncio.Runner(loop_factory=lambda: self.loop):
                    pass  # its end cancels all tasks, and closes the loop
        finally:
            # What was posted too late for the loop is answered here: each call is in
            # the set before it is posted.
            for call in list(self.calls):
                call.abandon()

    async def _until_stopped(self) -> None:
        await self._stopped.wait()
        # Each to its end: the end of the loop cancels all of its tasks at once, which
        # leaves them nothing to clean up with.
        left = [block.abort() for block in list(self.blocks)]
        await _wait_for(left)
        for future in left:
            with log_exceptions("leaving a block of a client that was closed"):
                if future.done() and not future.cancelled():
                    future.result()
        await _wait_for([f for call in list(self.calls) if (f := call.stop())])
        self.is_stopping = self.has_ended = True
        # Not when this task is done: if something else stops the loop first, that would
        # come while the last tasks end.
        self.loop.stop()

    def run_once(self) -> None:
        """Run the loop in this thread, which has the turn, until something stops it."""
        self._runs_in, self._was_posted = get_ident(), False
        try:
            self.loop.run_forever()
        finally:
            self._runs_in = None

    def interrupt(self) -> None:
        """End `run_once`, in whichever thread it is; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._end_run)

    def _end_run(self) -> None:
        if not self.has_ended:  # its last tasks are not cut short
            self.loop.stop()

    def leave_turn(self) -> None:
        """Let the thread run the loop, if there is something to do; after a turn."""
        is_stopping = self._stopped.is_set()
        is_idle = not (self.calls or self.blocks or self.has_tasks or is_stopping)
        if self._was_posted or self.has_ended or not is_idle:
            self.wake()

    def wake(self) -> None:
        """Let the thread run the loop, once it may."""
        if self.process == os.getpid():
            self._nudges.put(None)

    def _wait_for_nudge(self) -> None:
        self._nudges.get()
        with suppress(Empty):
            while True:  # one turn is enough for all that have come
                self._nudges.get_nowait()

    def look_for_tasks(self) -> None:
        """Set `has_tasks`; where the loop runs, or by the one that has the turn."""
        self.has_tasks = bool(asyncio.all_tasks(self.loop) - {self._main})

    def post(self, function: Callable[[], object]) -> bool:
        """Call a function in the loop, soon; from any thread.

        Returns:
            Whether the loop is still there, and in this process.
        """
        if self.process != os.getpid():
            return False
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            return False
        # Whoever has the turn calls it, or finds when it leaves that it was posted. Set
        # only now: what was posted when a turn begins is called in it.
        self._was_posted = True
        if not self.turn.locked():
            self.wake()
        return True

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let the loop do a last thing and stop; no one waits for it.

        The garbage collector calls it, in any thread.
        """
        self.post(lambda: self._begin_to_end(last))

    def _begin_to_end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._ending = self.loop.create_task(self._end(last))

    async def _end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with log_exceptions("closing a client that was not closed"):
            await last()
        self._stopped.set()

    def stop(self) -> None:
        """Let the loop cancel all of its tasks and end."""
        self.post(self._stopped.set)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended.

        Args:
            timeout: Seconds; `None` for no limit.
        """
        self._thread.join(timeout)


async def _wait_for(futures: list[asyncio.Future[Any]]) -> None:
    if futures:
        await asyncio.wait(futures, timeout=STOPS_WITHIN)
