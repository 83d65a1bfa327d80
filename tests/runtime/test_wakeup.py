"""One task waits, another wakes it."""

from __future__ import annotations

from math import inf

import anyio
import pytest

from finetuning_async._runtime._wakeup import Wakeup


async def test_who_is_parked_goes_on_when_it_is_woken() -> None:
    parking, ends = Wakeup(), []

    async def wait() -> None:
        await parking.wait()
        ends.append(anyio.current_time())

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(3)
        parking.wake()
        parking.wake()
    assert ends == [pytest.approx(began + 3, abs=0.001)]


async def test_a_wake_with_nobody_there_is_forgotten() -> None:
    parking = Wakeup()
    parking.wake()
    with anyio.move_on_after(5) as scope:
        await parking.wait()
    assert scope.cancelled_caught
    parking.wake()


async def test_a_wake_between_parking_and_waiting_is_not_lost() -> None:
    parking = Wakeup()
    wait = parking.wait()
    parking.wake()
    with anyio.fail_after(5):
        await wait


@pytest.mark.parametrize("woken_after", [1, None])
async def test_who_is_parked_until_a_moment_goes_on_at_the_latest_then(
    woken_after: float | None,
) -> None:
    parking, began = Wakeup(), anyio.current_time()

    async def wait() -> None:
        await parking.wait_until(began + 5)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        if woken_after is not None:
            await anyio.sleep(woken_after)
            parking.wake()
    assert anyio.current_time() == pytest.approx(began + (woken_after or 5), abs=0.001)


async def test_without_a_moment_only_a_wake_ends_it() -> None:
    parking, began = Wakeup(), anyio.current_time()

    async def wait() -> None:
        await parking.wait_until(inf)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(10_000)
        parking.wake()
    assert anyio.current_time() == pytest.approx(began + 10_000, abs=0.001)


async def test_a_moment_that_has_passed_ends_it_at_once() -> None:
    began = anyio.current_time()
    await Wakeup().wait_until(began - 1)
    assert anyio.current_time() == pytest.approx(began, abs=0.001)


async def test_an_alarm_ends_every_wait_that_asks_for_it() -> None:
    parking, began = Wakeup(), anyio.current_time()
    with anyio.move_on_after(1):
        await parking.wait_until(began + 5)
    await parking.wait_until(began + 5)
    assert anyio.current_time() == pytest.approx(began + 5, abs=0.001)
    await parking.wait_until(began + 5)  # it rang, and would not again
    assert anyio.current_time() == pytest.approx(began + 5, abs=0.001)
    parking.cancel_timer()


@pytest.mark.parametrize("moment", [3, 8])
async def test_the_alarm_asked_for_last_holds(moment: float) -> None:
    parking, began = Wakeup(), anyio.current_time()
    with anyio.move_on_after(1):
        await parking.wait_until(began + 5)
    await parking.wait_until(began + moment)
    assert anyio.current_time() == pytest.approx(began + moment, abs=0.001)
    with anyio.move_on_after(20) as scope:
        await parking.wait_until(inf)
    assert scope.cancelled_caught


async def test_an_alarm_that_is_dropped_wakes_nobody() -> None:
    parking, began = Wakeup(), anyio.current_time()
    with anyio.move_on_after(1):
        await parking.wait_until(began + 5)
    parking.cancel_timer()
    with anyio.move_on_after(10) as scope:
        await parking.wait()
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(began + 11, abs=0.001)


async def test_who_has_an_alarm_can_be_woken_before() -> None:
    parking, began = Wakeup(), anyio.current_time()
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            await parking.wait_until(began + 5)
            parking.cancel_timer()

        group.start_soon(wait)
        await anyio.sleep(2)
        parking.wake()
    assert anyio.current_time() == pytest.approx(began + 2, abs=0.001)
