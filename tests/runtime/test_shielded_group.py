"""`ShieldedGroup`: works beside their caller, whose end they outlive by their grace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._runtime._shielding import ShieldedCall, ShieldedGroup
from finetuning_async._runtime._wakeup import Wakeup
from tests._cancellations import MEANS, Means, play

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def lasting(
    seconds: float, log: list[float]
) -> Callable[[ShieldedCall[None]], Awaitable[None]]:
    """Work that is held, and notes when it has ended."""

    async def work(guarded: ShieldedCall[None]) -> None:
        try:
            with guarded.shielded():
                await anyio.sleep(seconds)
        finally:
            log.append(anyio.current_time())

    return work


@pytest.mark.parametrize("means", MEANS, ids=str)
def test_works_outlive_their_caller_by_their_grace_each(means: Means) -> None:
    ended: list[float] = []

    async def call() -> None:
        place = Wakeup()
        async with ShieldedGroup(place) as group:
            works = [
                ShieldedCall(lasting(seconds, ended), grace=grace, wakeup=place)
                for seconds, grace in ((3.0, 5.0), (1000.0, 4.0))
            ]
            for work in works:
                group.start(work)
            try:
                await anyio.sleep_forever()
            finally:
                for work in works:
                    work.cancel_after_grace()

    async def main() -> None:
        assert await means.run(call, 1.0)
        assert ended == [pytest.approx(3.0, abs=0.1), pytest.approx(5.0, abs=0.1)]

    play(means.loop, main)


async def test_the_caller_goes_on_beside_them_and_is_woken_as_they_end() -> None:
    place, ended = Wakeup(), list[float]()
    async with ShieldedGroup(place) as group:
        for seconds in (2.0, 1.0):
            group.start(ShieldedCall(lasting(seconds, ended), wakeup=place))
        for _ in range(2):
            await place.wait()
            group.reap()
        assert anyio.current_time() == pytest.approx(2.0, abs=0.1)
    assert len(ended) == 2


async def test_what_one_raises_comes_out_when_it_is_asked_for() -> None:
    async def broken(_: ShieldedCall[None]) -> None:
        raise ZeroDivisionError

    ended: list[float] = []

    async def call() -> None:
        place = Wakeup()
        async with ShieldedGroup(place) as group:
            group.start(ShieldedCall(lasting(3.0, ended), wakeup=place))
            group.start(ShieldedCall(broken, wakeup=place))
            await place.wait()
            group.reap()

    with pytest.raises(ZeroDivisionError):
        await call()
    assert ended == [pytest.approx(3.0, abs=0.1)]


async def test_without_grace_a_work_ends_at_once() -> None:
    place, ended = Wakeup(), list[float]()
    async with ShieldedGroup(place) as group:
        work = ShieldedCall(lasting(1000.0, ended), grace=100.0, wakeup=place)
        group.start(work)
        await anyio.sleep(1)
        work.cancel_after_grace(0.0)
    assert ended == [pytest.approx(1.0, abs=0.1)]
