"""Clocks that jump to the next timer instead of waiting for it.

trio has `trio.testing.MockClock`; asyncio has none, so here is one. Prior art: trio's
``_core/_mock_clock.py`` (autojump).

Both move on by a microsecond at each reading, as no real clock shows the same time
twice: what compares two readings as if they were one would hold on a clock that stands
still between two awaits, and nowhere else.

Neither jumps while a worker thread is at work, or a test's course would hang on how
fast a thread is: FastAPI runs every ``def`` route and dependency in one.
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

PATIENCE: Final = 1.0
"""Seconds of real time for which the clock stands still for a thread. One that works
for longer may itself be waiting for the clock."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that, where it would sleep for a timer, moves the clock instead.

    Args:
        at_work: Says who is in a worker thread now.
    """

    now = 0.0

    def __init__(self, at_work: Callable[[], frozenset[object]]) -> None:
        super().__init__()
        self._at_work = at_work
        self._given_up: frozenset[object] = frozenset()

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:  # one may have ended, and its task have called in the next
            self._given_up = frozenset()
        if ready or timeout == 0:
            return ready
        if timeout is None:  # no timer is set: only a socket or a thread can go on
            return super().select(None)
        ready = self._heard_of_threads()
        if not ready:
            self.now += max(timeout, 0)
        return ready

    def _heard_of_threads(self) -> list[tuple[selectors.SelectorKey, int]]:
        at_work = self._at_work()
        if at_work <= self._given_up:
            return []
        ready = super().select(PATIENCE)
        if not ready:
            self._given_up = at_work
        return ready


class JumpingEventLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose time starts at 0 s and jumps over idle waits.

    Each reading of the clock takes a microsecond, as no real one shows the same time
    twice; compare times with a tolerance.

    It stands still, for at most a second of real time each, while threads are at work
    that were called by `run_in_executor`, by `asyncio.to_thread` or, with its default
    limiter, by `anyio.to_thread.run_sync`.

    Example:
        import asyncio
        from finetuning_async.testing import JumpingEventLoop

        with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
            runner.run(asyncio.sleep(3600))  # takes no time
    """

    def __init__(self) -> None:
        self._jumping_selector = _JumpingSelector(self._at_work)
        self._in_executors: set[asyncio.Future[Any]] = set()
        self._limiter: anyio.CapacityLimiter | None = None
        super().__init__(self._jumping_selector)

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        self._jumping_selector.now += TICK
        return self._jumping_selector.now

    def run_in_executor(  # type: ignore[override]  # typeshed binds its arguments
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As asyncio's; the clock stands still while it runs."""
        called: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._in_executors.add(called)
        called.add_done_callback(self._in_executors.discard)
        return called

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As asyncio's, however long it takes: the clock would jump over a timeout."""
        await super().shutdown_default_executor()

    def _at_work(self) -> frozenset[object]:
        if self._limiter is None:
            self._limiter = _default_limiter()
        if not (self._in_executors or self._limiter.borrowed_tokens):
            return frozenset()
        return frozenset((*self._in_executors, *self._limiter.statistics().borrowers))


def _default_limiter() -> anyio.CapacityLimiter:
    """The one of the running asyncio loop, for code that is in none of its tasks."""
    before, thread_local.name = thread_local.name, "asyncio"
    try:
        return anyio.to_thread.current_default_thread_limiter()
    finally:
        thread_local.name = before


class _Hold:
    """A `trio.abc.Instrument` that holds a clock while threads are at work.

    Args:
        clock: Whose threshold is set.
        standing: Its time but for the ticks: it moves when the clock has jumped only.
    """

    def __init__(self, clock: MockClock, standing: Callable[[], float]) -> None:
        self._clock = clock
        self._standing = standing
        self._limiter: trio.CapacityLimiter | None = None
        self._given_up: frozenset[object] = frozenset()
        self._held_at: float | None = None

    def before_run(self) -> None:
        """Find where trio counts the threads of this run."""
        from trio.to_thread import current_default_thread_limiter

        self._limiter = current_default_thread_limiter()

    def after_task_step(self, task: Task) -> None:
        """A step may have called in a thread, or heard that one has ended."""
        del task
        assert self._limiter is not None  # noqa: S101 - `before_run` has set it
        if self._limiter.borrowed_tokens or self._held_at is not None:
            self._look(frozenset(self._limiter.statistics().borrowers))

    def _look(self, at_work: frozenset[object]) -> None:
        now = self._standing()
        if self._held_at not in (None, now):  # it has waited, and moved all the same
            self._given_up = at_work
        self._given_up &= at_work
        is_held = at_work != self._given_up
        self._held_at = now if is_held else None
        self._clock.autojump_threshold = PATIENCE if is_held else 0.0


def jumping_backend(
    name: Literal["asyncio", "trio"],
) -> tuple[str, dict[str, Any]]:
    """The value of anyio's ``anyio_backend`` fixture for a clock that jumps.

    Each reading of the clock takes a microsecond: compare times with a tolerance.

    Args:
        name: The event loop. For ``trio`` a fresh `trio.testing.MockClock` is made.

    Returns:
        The backend's name and its options, for one event loop. On trio `anyio.run`
        heeds them from anyio 4.14 on; anyio's pytest plugin always did.

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
    standing = clock.current_time
    # trio knows its own class of clock only, and that may not be subclassed.
    clock.current_time = _ticking(standing)  # type: ignore[method-assign]
    return "trio", {"clock": clock, "instruments": [_Hold(clock, standing)]}


def _ticking(standing: Callable[[], float]) -> Callable[[], float]:
    """A clock's readings, each a tick after the last."""
    ticks = count(1)
    return lambda: standing() + TICK * next(ticks)
