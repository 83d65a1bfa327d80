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


TOLERANCE = 1e-3
"""Seconds; smaller differences do not count, because the clock moves on by a
microsecond at each reading."""


async def test_no_two_readings_are_equal_and_a_million_take_a_second() -> None:
    readings = [anyio.current_time() for _ in range(1000)]
    assert all(a < b for a, b in itertools.pairwise(readings))
    assert readings[-1] - readings[0] < 2 * TOLERANCE


async def test_an_hour_of_sleep_takes_no_time_and_moves_the_clock() -> None:
    started = anyio.current_time()
    await anyio.sleep(3600)
    assert abs(anyio.current_time() - started - 3600) < TOLERANCE


async def test_timers_of_many_tasks_fire_in_order() -> None:
    order: list[int] = []

    async def sleep(seconds: int) -> None:
        await anyio.sleep(seconds)
        order.append(seconds)

    async with anyio.create_task_group() as group:
        for seconds in (30, 10, 20):
            group.start_soon(sleep, seconds)
    assert order == [10, 20, 30]


async def test_a_deadline_passes_as_it_would_on_a_real_clock() -> None:
    with anyio.move_on_after(5) as scope:
        await anyio.sleep(10)
    assert scope.cancelled_caught


async def test_thread_work_is_done_inline_while_the_clock_jumps() -> None:
    assert has_virtual_clock()
    started = anyio.current_time()
    with anyio.fail_after(1):
        assert await in_thread(sum, [1, 2]) == 3
    assert anyio.current_time() - started < TOLERANCE


@asynccontextmanager
async def timer_each_second() -> AsyncGenerator[None]:
    """A timer every second, so that there is always something to jump to."""

    async def tick() -> None:
        for _ in range(100_000):
            await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        yield
        group.cancel_scope.cancel()


async def test_the_clock_stands_still_while_a_thread_works() -> None:
    async with timer_each_second():
        for _ in range(3):
            started = anyio.current_time()
            await anyio.to_thread.run_sync(time.sleep, 0.05)
            assert anyio.current_time() - started < TOLERANCE
            await anyio.sleep(10)
            assert anyio.current_time() - started - 10 < TOLERANCE


async def test_the_clock_does_not_wait_for_a_thread_that_waits_for_it() -> None:
    async with timer_each_second():
        started = anyio.current_time()
        await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 5)
        assert anyio.current_time() >= started + 5
        started = anyio.current_time()
        await anyio.to_thread.run_sync(time.sleep, 0.05)
        assert anyio.current_time() - started < TOLERANCE, (
            "it waits for another thread again"
        )


def test_asyncios_own_threads_hold_the_clock_too() -> None:
    loop = JumpingEventLoop()

    async def main() -> float:
        timer = loop.call_later(5, lambda: None)
        await asyncio.to_thread(time.sleep, 0.05)
        timer.cancel()
        loop.run_in_executor(None, time.sleep, 0.05)
        return loop.time()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) < TOLERANCE
    assert loop.time() < TOLERANCE, (
        "Python 3.12 added a timeout of 300 s to the shutdown"
    )


def test_asyncios_own_timeouts_jump_too() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(7):
                await asyncio.Event().wait()
        except TimeoutError:
            return loop.time()
        return -1.0

    with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
        assert abs(runner.run(main()) - 7) < TOLERANCE
