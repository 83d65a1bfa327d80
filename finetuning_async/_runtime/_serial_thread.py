"""A thread of its own for blocking work that is done in order, such as a journal's.

anyio's worker threads cost 0.25 ms a call, with the child task that shields the caller:
most of what a commit costs beside its disk. Here a call is one entry of a queue and one
wake-up of the loop. What has been started is done even if its caller is cancelled, so
no task is needed that outlives it, and a caller need not wait for a disk or a database
that does not respond.

The thread is owned by the `SerialThread`: it ends with `close`, or when nothing refers
to that object any more. It is a daemon, so a program that exits does not wait for it.
"""

from __future__ import annotations

import os
import weakref
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

import anyio
import anyio.lowlevel

from finetuning_async._runtime._loop_handle import LoopHandle
from finetuning_async._runtime._shielding import outwait
from finetuning_async._runtime._threads import has_virtual_clock
from finetuning_async._runtime._wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LINGER: Final = 1.0
"""Seconds for which a call that is cancelled still waits for its work."""

_Queue: TypeAlias = "SimpleQueue[Job[Any] | None]"


class SerialThread:
    """Runs blocking functions one after another; for one event loop.

    The thread starts with the first of them, and again in a forked child. Under a
    virtual clock the work runs inline: see `in_thread`.

    Args:
        name: The thread's name.

    Attributes:
        stuck_on: The last job that a cancelled caller no longer waited for.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: LoopHandle | None = None
        self._is_inline = False
        self._process = 0
        self._jobs: _Queue = SimpleQueue()
        self.stuck_on: Job[Any] | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether that job still runs, so that waiting for another is of no use."""
        return self.stuck_on is not None and not self.stuck_on.is_done

    def start(self, work: Callable[[], T]) -> Job[T]:
        """Have a function called once what was started before has ended.

        It is called in any case, once this has returned; `Job.wait` for it at once.
        """
        if self._loop is None:
            self._loop = LoopHandle.current()
            self._is_inline = has_virtual_clock()
        job = Job(work, self, self._loop, is_inline=self._is_inline)
        if not self._is_inline:
            self._running_queue().put(job)
        return job

    def _running_queue(self) -> _Queue:
        if self._process != os.getpid():
            # Not started yet, or this is a forked child, which has no threads. Then
            # what is left in the queue is its parent's, and its lock may have been
            # copied while it was held.
            self._jobs = SimpleQueue()
            Thread(
                target=_serve, args=(self._jobs,), name=self._name, daemon=True
            ).start()
            self._process = os.getpid()  # not if the system allows no thread more
            weakref.finalize(self, self._jobs.put, None)
        return self._jobs

    def close(self) -> None:
        """End the thread once it has done what was started. `start` begins another."""
        if self._process == os.getpid():
            self._process = 0
            self._jobs.put(None)


class Job(Generic[T]):
    """A function that a `SerialThread` calls.

    Attributes:
        is_done: Whether it has returned or raised, as the loop knows.
        loop: Where it is waited for.
    """

    __slots__ = (
        "_error",
        "_is_inline",
        "_result",
        "_thread",
        "_wakeup",
        "_work",
        "is_done",
        "loop",
    )

    def __init__(
        self,
        work: Callable[[], T],
        thread: SerialThread,
        loop: LoopHandle,
        *,
        is_inline: bool,
    ) -> None:
        self._work = work
        self._thread = thread
        self.loop: LoopHandle = loop
        self._is_inline = is_inline
        self._wakeup = Wakeup()
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.is_done: bool = False

    def run(self) -> None:
        """Call the function; in the thread."""
        try:
            self._result.append(self._work())
        except BaseException as error:  # raised where it is waited for
            self._error = error

    def report(self) -> None:
        """Wake who waits for it; in the loop."""
        self.is_done = True
        self._wakeup.wake()

    async def wait(self) -> T:
        """Wait until the function has been called.

        A cancellation is raised when it has been, and after `LINGER` seconds if that
        takes longer. It is called all the same.

        Returns:
            What it returned.

        Raises:
            BaseException: What it raised.
        """
        if self._is_inline:
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                self._run_inline()
        try:
            while not self.is_done:
                await self._wakeup.wait()
        except anyio.get_cancelled_exc_class() as error:
            await self.linger(error)
            raise
        failure, self._error = self._error, None
        if failure is None:
            return self._result[0]
        try:
            raise failure
        finally:
            del failure  # break the cycle of the error, its traceback and this frame

    async def linger(self, cancelled: BaseException | None = None) -> None:
        """Wait at most `LINGER` seconds, whatever it raises and whoever cancels.

        Args:
            cancelled: The cancellation that is being raised, if one is.

        Raises:
            BaseException: A later cancellation of the whole task, which replaces it.
        """
        if self._is_inline:
            self._run_inline()
        # One call that has waited for a thread that is stuck is enough.
        seconds = 0.0 if self._thread.is_stuck else LINGER
        again = await outwait(self._wakeup, lambda: self.is_done, cancelled, seconds)
        if not self.is_done:
            self._thread.stuck_on = self
        try:
            if again is not None and again is not cancelled:
                raise again
        finally:
            del again, cancelled

    def _run_inline(self) -> None:
        if not self.is_done:
            self.run()
            self.is_done = True


def _serve(jobs: _Queue) -> None:
    """Do what comes until `None` does. It refers to no `SerialThread`: see there.

    What waits together is done together: the loop is woken once for all of it, and what
    their callers start then waits together again. Group commit lives on that.
    """
    is_open = True
    while is_open:
        done: list[Job[Any]] = []
        job = jobs.get()
        while job is not None:
            job.run()
            done.append(job)
            try:
                job = jobs.get_nowait()
            except Empty:
                break
        is_open = job is not None
        if done:
            # A loop that has ended waits for nothing.
            done[0].loop.call_soon(partial(_report, done))
        del job, done  # else they live until the next comes


def _report(done: list[Job[Any]]) -> None:
    """In the loop: the functions have been called."""
    for job in done:
        job.report()
