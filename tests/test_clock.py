"""The clock that jumps, on both event loops."""

from __future__ import annotations

import asyncio

import anyio

from finetuning_async._threads import clock_jumps, in_thread
from finetuning_async.testing import JumpingEventLoop


async def test_an_hour_of_sleep_takes_no_time_and_shows_on_the_clock() -> None:
    started = anyio.current_time()
    await anyio.sleep(3600)
    assert abs(anyio.current_time() - started - 3600) < 1e-6


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
    assert clock_jumps()
    started = anyio.current_time()
    with anyio.fail_after(1):
        assert await in_thread(sum, [1, 2]) == 3
    assert anyio.current_time() == started


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
        assert abs(runner.run(main()) - 7) < 1e-6
