"""`Wakeup`: one task waits until another wakes it."""

from __future__ import annotations

from math import inf

import anyio
import pytest

from finetuning_async._runtime._wakeup import Wakeup


async def test_wake_ends_a_wait() -> None:
    wakeup, ends = Wakeup(), []

    async def wait() -> None:
        await wakeup.wait()
        ends.append(anyio.current_time())

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(3)
        wakeup.wake()
        wakeup.wake()
    assert ends == [pytest.approx(began + 3, abs=0.001)]


async def test_a_wake_without_a_waiter_does_nothing() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    with anyio.move_on_after(5) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught
    wakeup.wake()


async def test_a_wake_between_wait_and_its_await_is_not_lost() -> None:
    wakeup = Wakeup()
    wait = wakeup.wait()
    wakeup.wake()
    with anyio.fail_after(5):
        await wait


@pytest.mark.parametrize("woken_after", [1, None])
async def test_wait_until_ends_at_the_deadline_at_the_latest(
    woken_after: float | None,
) -> None:
    wakeup, began = Wakeup(), anyio.current_time()

    async def wait() -> None:
        await wakeup.wait_until(began + 5)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        if woken_after is not None:
            await anyio.sleep(woken_after)
            wakeup.wake()
    assert anyio.current_time() == pytest.approx(began + (woken_after or 5), abs=0.001)


async def test_without_a_deadline_only_a_wake_ends_the_wait() -> None:
    wakeup, began = Wakeup(), anyio.current_time()

    async def wait() -> None:
        await wakeup.wait_until(inf)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(10_000)
        wakeup.wake()
    assert anyio.current_time() == pytest.approx(began + 10_000, abs=0.001)


async def test_a_deadline_that_has_passed_ends_the_wait_at_once() -> None:
    began = anyio.current_time()
    await Wakeup().wait_until(began - 1)
    assert anyio.current_time() == pytest.approx(began, abs=0.001)


async def test_a_timer_is_reused_by_waits_for_the_same_deadline() -> None:
    wakeup, began = Wakeup(), anyio.current_time()
    with anyio.move_on_after(1):
        await wakeup.wait_until(began + 5)
    await wakeup.wait_until(began + 5)
    assert anyio.current_time() == pytest.approx(began + 5, abs=0.001)
    await wakeup.wait_until(began + 5)  # the timer has expired; a new one is set
    assert anyio.current_time() == pytest.approx(began + 5, abs=0.001)
    wakeup.cancel_timer()


@pytest.mark.parametrize("moment", [3, 8])
async def test_the_last_deadline_replaces_the_timer(moment: float) -> None:
    wakeup, began = Wakeup(), anyio.current_time()
    with anyio.move_on_after(1):
        await wakeup.wait_until(began + 5)
    await wakeup.wait_until(began + moment)
    assert anyio.current_time() == pytest.approx(began + moment, abs=0.001)
    with anyio.move_on_after(20) as scope:
        await wakeup.wait_until(inf)
    assert scope.cancelled_caught


async def test_a_cancelled_timer_does_not_wake() -> None:
    wakeup, began = Wakeup(), anyio.current_time()
    with anyio.move_on_after(1):
        await wakeup.wait_until(began + 5)
    wakeup.cancel_timer()
    with anyio.move_on_after(10) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(began + 11, abs=0.001)


async def test_a_wake_can_come_before_the_timer() -> None:
    wakeup, began = Wakeup(), anyio.current_time()
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            await wakeup.wait_until(began + 5)
            wakeup.cancel_timer()

        group.start_soon(wait)
        await anyio.sleep(2)
        wakeup.wake()
    assert anyio.current_time() == pytest.approx(began + 2, abs=0.001)
