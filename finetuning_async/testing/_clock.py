"""Clocks that jump to the next timer instead of waiting for it.

trio has `trio.testing.MockClock`; asyncio has no such clock, so here is one. Prior art:
trio's ``_core/_mock_clock.py`` (autojump).

Both clocks move on by a microsecond at each reading, because a real clock never shows
the same time twice: code that compares two readings for equality would pass on a clock
that stands still between two awaits, and nowhere else.

Neither clock jumps while a worker thread works, or the outcome of a test would depend
on the thread's speed: FastAPI runs every ``def`` route and dependency in one.
"""

from __future__ import annotations

import asyncio
import selectors
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio.to_thread
from sniffio import thread_local

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    import trio
    from trio.lowlevel import Task
    from trio.testing import MockClock

TICK: Final = 1e-6
"""Seconds by which a clock moves on at each reading."""

THREAD_TIMEOUT: Final = 1.0
"""Seconds of real time for which the clock stands still for a thread. A thread that
works for longer may itself be waiting for the clock."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that moves the clock where it would sleep until the next timer.

    Args:
        busy_threads: Returns a token for each worker thread that works now.
    """

    now = 0.0

    def __init__(self, busy_threads: Callable[[], frozenset[object]]) -> None:
        super().__init__()
        self._busy_threads = busy_threads
        # Threads that the clock has stood still for in vain.
        self._ignored: frozenset[object] = frozenset()

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:  # a thread may have ended, and its task have started the next one
            self._ignored = frozenset()
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer is set: only a socket or a thread can wake it
            return super().select(None)
        ready = self._wait_for_threads()
        if not ready:
            self.now += max(timeout, 0)
        return ready

    def _wait_for_threads(self) -> list[tuple[selectors.SelectorKey, int]]:
        busy = self._busy_threads()
        if busy <= self._ignored:
            return []
        # A thread that ends wakes the selector through the loop's own socket.
        ready = super().select(THREAD_TIMEOUT)
        if not ready:
            self._ignored = busy
        return ready


class JumpingEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose time starts at 0 s and jumps over idle waits.

    Each reading moves the clock on by a microsecond, because a real clock never shows
    the same time twice; compare times with a tolerance.

    The clock stands still while threads work that were started by `run_in_executor`, by
    `asyncio.to_thread` or, with its default limiter, by `anyio.to_thread.run_sync`; for
    each of them at most a second of real time.

    Example:
        import asyncio
        from finetuning_async.testing import JumpingEventLoop

        with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
            runner.run(asyncio.sleep(3600))  # takes no time
    """

    def __init__(self) -> None:
        self._jumping_selector = _JumpingSelector(self._busy_threads)
        self._in_executors: set[asyncio.Future[Any]] = set()
        self._limiter: anyio.CapacityLimiter | None = None
        super().__init__(self._jumping_selector)

    def time(self) -> float:
        """Seconds of virtual time since the loop was created."""
        self._jumping_selector.now += TICK
        return self._jumping_selector.now

    def run_in_executor(  # type: ignore[override]  # typeshed binds its arguments
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As in asyncio; the clock stands still while it runs."""
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._in_executors.add(future)
        future.add_done_callback(self._in_executors.discard)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As in asyncio, but without the timeout: the clock would jump over it."""
        await super().shutdown_default_executor()

    def _busy_threads(self) -> frozenset[object]:
        # anyio starts its threads without an executor, but each borrows a token.
        if self._limiter is None:
            self._limiter = _default_limiter()
        if not (self._in_executors or self._limiter.borrowed_tokens):
            return frozenset()
        return frozenset((*self._in_executors, *self._limiter.statistics().borrowers))


def _default_limiter() -> anyio.CapacityLimiter:
    """The thread limiter of the running asyncio loop, for code outside of its tasks.

    anyio asks sniffio for the library, and sniffio asks for the current task: a
    selector runs in none, so the answer is given for it here.
    """
    before, thread_local.name = thread_local.name, "asyncio"
    try:
        return anyio.to_thread.current_default_thread_limiter()
    finally:
        thread_local.name = before


class _ThreadHold:
    """A `trio.abc.Instrument` that stops a clock's jumps while threads work.

    Args:
        clock: Its threshold is set: 0 lets it jump at once, 1 s lets a thread work.
        base_time: Its time without the ticks, which changes only when it jumps.
    """

    def __init__(self, clock: MockClock, base_time: Callable[[], float]) -> None:
        self._clock = clock
        self._base_time = base_time
        self._limiter: trio.CapacityLimiter | None = None
        self._ignored: frozenset[object] = frozenset()
        self._held_at: float | None = None

    def before_run(self) -> None:
        """Find the limiter that counts the threads of this run."""
        from trio.to_thread import current_default_thread_limiter

        self._limiter = current_default_thread_limiter()

    def after_task_step(self, task: Task) -> None:
        """Check the threads: a step may have started one, or got the result of one."""
        del task
        assert self._limiter is not None  # noqa: S101 - `before_run` has set it
        if self._limiter.borrowed_tokens or self._held_at is not None:
            self._update(frozenset(self._limiter.statistics().borrowers))

    def _update(self, busy: frozenset[object]) -> None:
        now = self._base_time()
        # The clock jumped although it was held: it has waited in vain for a second of
        # real time. It is not held again for the same threads.
        if self._held_at not in (None, now):
            self._ignored = busy
        self._ignored &= busy
        is_held = busy != self._ignored
        self._held_at = now if is_held else None
        self._clock.autojump_threshold = THREAD_TIMEOUT if is_held else 0.0


def jumping_backend(
    name: Literal["asyncio", "trio"],
) -> tuple[str, dict[str, Any]]:
    """The value of anyio's ``anyio_backend`` fixture for a clock that jumps.

    Each reading moves the clock on by a microsecond: compare times with a tolerance.

    Args:
        name: The event loop. For ``trio`` a new `trio.testing.MockClock` is created.

    Returns:
        The backend's name and its options, for one event loop. On trio, `anyio.run`
        uses these options from anyio 4.14 on; anyio's pytest plugin always has.

    Example:
        import anyio
        import pytest
        from finetuning_async.testing import jumping_backend

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return jumping_backend(request.param)

        async def test_an_hour_takes_no_time():
            await anyio.sleep(3600)
    """
    if name == "asyncio":
        return "asyncio", {"loop_factory": JumpingEventLoop}
    from trio.testing import MockClock

    clock = MockClock(autojump_threshold=0)
    base_time = clock.current_time
    # trio lets only its own class of clock jump, and that cannot be subclassed: so a
    # method of the instance is replaced.
    clock.current_time = _ticking(base_time)  # type: ignore[method-assign]
    return "trio", {"clock": clock, "instruments": [_ThreadHold(clock, base_time)]}


def _ticking(base_time: Callable[[], float]) -> Callable[[], float]:
    """A clock whose readings are each a tick later than the last."""
    ticks = count(1)
    return lambda: base_time() + TICK * next(ticks)
