"""The clock that jumps, on both event loops."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.to_thread

from finetuning_async._runtime._threads import has_virtual_clock, in_thread
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


LEAST = 1e-3
"""Seconds, below which a test does not tell times apart: the clock moves on by a
microsecond at each reading."""


async def test_no_two_readings_are_the_same_and_a_million_take_a_second() -> None:
    readings = [anyio.current_time() for _ in range(1000)]
    assert all(a < b for a, b in itertools.pairwise(readings))
    assert readings[-1] - readings[0] < 2 * LEAST


async def test_an_hour_of_sleep_takes_no_time_and_shows_on_the_clock() -> None:
    started = anyio.current_time()
    await anyio.sleep(3600)
    assert abs(anyio.current_time() - started - 3600) < LEAST


async def test_timers_of_many_tasks_fire_in_their_order() -> None:
    order: list[int] = []

    async def note(seconds: int) -> None:
        await anyio.sleep(seconds)
        order.append(seconds)

    async with anyio.create_task_group() as group:
        for seconds in (30, 10, 20):
            group.start_soon(note, seconds)
    assert order == [10, 20, 30]


async def test_a_deadline_passes_as_it_would_on_a_real_clock() -> None:
    with anyio.move_on_after(5) as scope:
        await anyio.sleep(10)
    assert scope.cancelled_caught


async def test_work_for_a_thread_is_done_inline_while_the_clock_jumps() -> None:
    assert has_virtual_clock()
    started = anyio.current_time()
    with anyio.fail_after(1):
        assert await in_thread(sum, [1, 2]) == 3
    assert anyio.current_time() - started < LEAST


@asynccontextmanager
async def ticking() -> AsyncGenerator[None]:
    """A timer every second, so that there is always something to jump to."""

    async def tick() -> None:
        for _ in range(100_000):
            await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        yield
        group.cancel_scope.cancel()


async def test_the_clock_stands_still_while_a_thread_is_at_work() -> None:
    async with ticking():
        for _ in range(3):
            started = anyio.current_time()
            await anyio.to_thread.run_sync(time.sleep, 0.05)
            assert anyio.current_time() - started < LEAST
            await anyio.sleep(10)
            assert anyio.current_time() - started - 10 < LEAST


async def test_a_thread_that_waits_for_the_clock_is_not_waited_for() -> None:
    async with ticking():
        started = anyio.current_time()
        await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 5)
        assert anyio.current_time() >= started + 5
        started = anyio.current_time()
        await anyio.to_thread.run_sync(time.sleep, 0.05)
        assert anyio.current_time() - started < LEAST, "another thread is"


def test_asyncio_s_own_threads_hold_the_clock_too() -> None:
    loop = JumpingEventLoop()

    async def main() -> float:
        timer = loop.call_later(5, lambda: None)
        await asyncio.to_thread(time.sleep, 0.05)
        timer.cancel()
        loop.run_in_executor(None, time.sleep, 0.05)
        return loop.time()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) < LEAST
    assert loop.time() < LEAST, "from Python 3.12 on there is a timeout of 300 s"


def test_asyncio_s_own_timeouts_jump_too() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(7):
                await asyncio.Event().wait()
        except TimeoutError:
            return loop.time()
        return -1.0

    with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
        assert abs(runner.run(main()) - 7) < LEAST
