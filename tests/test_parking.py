"""One task waits, another wakes it."""

from __future__ import annotations

import anyio
import pytest

from finetuning_async._parking import Parking


async def test_who_is_parked_goes_on_when_it_is_woken() -> None:
    parking, ends = Parking(), []

    async def wait() -> None:
        await parking.parked()
        ends.append(anyio.current_time())

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(3)
        parking.wake()
        parking.wake()
    assert ends == [pytest.approx(began + 3)]


async def test_a_wake_with_nobody_there_is_forgotten() -> None:
    parking = Parking()
    parking.wake()
    with anyio.move_on_after(5) as scope:
        await parking.parked()
    assert scope.cancelled_caught
    parking.wake()


async def test_a_wake_between_parking_and_waiting_is_not_lost() -> None:
    parking = Parking()
    parked = parking.parked()
    parking.wake()
    with anyio.fail_after(5):
        await parked
