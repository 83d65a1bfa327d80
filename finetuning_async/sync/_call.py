"""One call of a thread: the loop works on it, and the thread waits and runs callbacks.

    calling thread                          loop thread
    --------------                          -----------
    run() -> posts `begin`                  `begin` starts the work
      | runs what comes into its inbox <----  a callback: the work waits for its result
      |   posts the result ---------------->  the work goes on
      | `_end` comes into the inbox <-------  the work has ended
      returns its result

A caller that is alone does all that in its own thread: see `_turn`.

Whatever interrupts the thread, such as Ctrl-C, cancels the work by the rules of the
async client. The thread waits for its end, since a create in flight has 5 s to report
its id. A second interrupt leaves at once, and the loop goes on alone.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

import anyio
import sniffio

from finetuning_async._errors import ClientClosedError
from finetuning_async.sync._turn import may_take_turn, take_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from finetuning_async.sync._loop_thread import LoopThread

    Inbox: TypeAlias = SimpleQueue[Callable[[], object]]
    """What a thread is to run while it waits."""

T = TypeVar("T")

LOOK_UP: Final = 0.1 if sys.platform == "win32" else None
"""Seconds after which a waiting thread looks for a Ctrl-C, where that does not end the
wait for a lock."""


class Call(Generic[T]):
    """One call.

    Args:
        thread: Where the loop runs.
        work: The call; it has not begun.
        inbox: That of the calling thread.
        has_callbacks: Whether something may come into the inbox before the end.

    Attributes:
        has_ended: Whether the calling thread need not wait any more.
        runs_loop: Whether that thread runs the loop.
    """

    def __init__(
        self,
        thread: LoopThread,
        work: Coroutine[Any, Any, T],
        inbox: Inbox,
        *,
        has_callbacks: bool = False,
    ) -> None:
        self.thread: LoopThread = thread
        self.work: Coroutine[Any, Any, T] = work
        self.has_ended: bool = False
        self.runs_loop: bool = False
        self._inbox = inbox
        self._has_callbacks = has_callbacks
        self._future: asyncio.Future[T] | None = None

    def run(self) -> T:
        """Wait for the result.

        Raises:
            BaseException: What the call raised; or what interrupted this thread, once
                the call has ended.
            ClientClosedError: The loop ended first.
        """
        try:
            is_alone = not self._has_callbacks and may_take_turn(self.thread)
            self.thread.calls.add(self)
            if (is_alone and take_turn(self.thread, self)) or self.thread.post(
                self.begin
            ):
                self._attend()
        except BaseException:
            if self.thread.post(self._cancel):
                self._attend()
            raise
        # Taken away, since the error's traceback refers to this frame: a cycle.
        future, self._future = self._future, None
        if future is None or not future.done() or future.cancelled():
            self.work.close()
            raise ClientClosedError("the client was closed; make a new Client")
        try:
            return future.result()
        finally:
            del future

    def _attend(self) -> None:
        while not self.has_ended:
            with suppress(Empty):
                self._inbox.get(timeout=LOOK_UP)()

    def _end(self) -> None:
        self.has_ended = True

    def abandon(self) -> None:
        """Let the thread go: the loop is gone."""
        if self.thread.is_exiting:
            return
        if self.runs_loop:
            self._end()
            self.thread.loop.stop()
        else:
            self._inbox.put(self._end)

    # What follows is called in the loop. ---------------------------------------------

    def begin(self) -> None:
        """Begin it."""
        if self.thread.is_stopping:  # nothing would end the work any more
            self.abandon()
            return
        # It runs in a copy of the calling thread's context, and so does the work: a
        # tracer's span there is the parent of what is sent.
        sniffio.current_async_library_cvar.set("asyncio")
        self._future = self.start()
        self._future.add_done_callback(self._on_done)

    def start(self) -> asyncio.Future[T]:
        """Start the work."""
        return self.thread.loop.create_task(self.work)

    def stop(self) -> asyncio.Future[T] | None:
        """Cancel the work; return a future that is done once it has ended.

        `None` if it has not begun.
        """
        if self._future is not None:
            self._future.cancel()
        return self._future

    def _on_done(self, future: asyncio.Future[T]) -> None:
        self.thread.calls.discard(self)
        if not (self.runs_loop or self.thread.calls):
            self.thread.look_for_tasks()
        if not future.cancelled():
            future.exception()  # retrieved, also if the calling thread has left
        self.abandon()

    def _cancel(self) -> None:
        if self._future is not None and not self._future.done():
            self.stop()
            return
        # It was never begun; or the interrupt came when its end was out of the inbox.
        self.work.close()
        self.thread.calls.discard(self)
        self.abandon()


class Block:
    """An ``async with`` block, all steps of which run in one task.

    The task groups and cancel scopes that a step leaves open belong to that task.

    Args:
        thread: Where the loop runs.

    Attributes:
        thread: As given.
        inbox: That of the thread which runs a step.
    """

    def __init__(self, thread: LoopThread) -> None:
        self.thread: LoopThread = thread
        self.inbox: Inbox = SimpleQueue()
        self._one_at_a_time = Lock()
        self._manager: AbstractAsyncContextManager[Any] | None = None
        self._steps: asyncio.Queue[_Step[Any]] = asyncio.Queue()
        self._current: _Step[Any] | None = None
        self._task: asyncio.Task[None] | None = None

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter the block.

        Raises:
            BaseException: As `Call.run`.
        """
        try:
            return self.run(self._enter(manager))
        except BaseException:  # an interrupt may have come when it was entered
            self.leave(None, None, None)
            raise

    def leave(self, *error: Any) -> None:
        """Leave the block, unless that was done; the step of another thread ends.

        Args:
            error: What ``__exit__`` was called with.

        Raises:
            BaseException: As `Call.run`.
        """
        self.thread.post(self._cancel_current)
        self.run(self._leave(*error))

    def abort(self) -> asyncio.Future[None]:
        """Leave the block; called in the loop."""
        self._cancel_current()
        return _Step(self, self._leave(None, None, None)).start()

    async def _enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        result = await manager.__aenter__()
        self._manager = manager
        self.thread.blocks.add(self)
        return result

    async def _leave(self, *error: Any) -> None:
        manager, self._manager = self._manager, None
        try:
            if manager is not None:
                await manager.__aexit__(*error)
        finally:  # only now: what closes the client waits for it
            self.thread.blocks.discard(self)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one step, after that of another thread.

        Raises:
            BaseException: As `Call.run`.
        """
        step = _Step(self, work)
        with self._one_at_a_time:
            return step.run()

    # What follows is called in the loop. ---------------------------------------------

    def add(self, step: _Step[Any]) -> None:
        """Add a step."""
        if self._task is None:
            self._task = self.thread.loop.create_task(self._run_steps())
        self._steps.put_nowait(step)

    def cancel(self, step: _Step[Any]) -> None:
        """Cancel a step, if it is the current one."""
        if step is self._current and self._task is not None:
            self._task.cancel()

    def _cancel_current(self) -> None:
        # A step that enters or leaves it is let be: the thread that leaves and the one
        # that closes the client would cancel each other's.
        if self._current is not None and self._manager is not None:
            self._current.stop()

    async def _run_steps(self) -> None:
        while True:
            # Shielded from the scopes that are open in the block: they cancel the next
            # step, not the wait for it.
            with anyio.CancelScope(shield=True):
                step = await self._steps.get()
            self._current = step
            await step.take()
            self._current = None
            if self._manager is None and self._steps.empty():
                self._task = None  # a later step gets a task of its own
                return


class _Step(Call[T]):
    """One step of a block."""

    def __init__(self, block: Block, work: Coroutine[Any, Any, T]) -> None:
        # The block goes on between its steps, when no caller runs the loop.
        super().__init__(block.thread, work, block.inbox, has_callbacks=True)
        self._block = block
        self._result: asyncio.Future[T] = block.thread.loop.create_future()
        self._is_stopped = False

    def start(self) -> asyncio.Future[T]:
        self._block.add(self)
        return self._result

    def stop(self) -> asyncio.Future[T] | None:
        self._is_stopped = True
        self._block.cancel(self)
        return self._future

    async def take(self) -> None:
        """Do it, in the task of the block."""
        if self._is_stopped:  # interrupted before its turn
            self.work.close()
            self._result.cancel()
            return
        task = asyncio.current_task()
        try:
            self._result.set_result(await self.work)
        except asyncio.CancelledError:
            self._result.cancel()
            if self.thread.is_stopping:  # every task is cancelled, this one for good
                raise
        except BaseException as error:
            self._result.set_exception(error)
        finally:
            while task is not None and self._is_stopped and task.cancelling():
                task.uncancel()
