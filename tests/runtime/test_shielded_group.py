"""`ShieldedGroup`: calls run beside their caller, and outlive it by their grace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._runtime._shielding import ShieldedCall, ShieldedGroup
from finetuning_async._runtime._wakeup import Wakeup
from tests._cancellations import CANCELLERS, Canceller, run_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def lasting(
    seconds: float, log: list[float]
) -> Callable[[ShieldedCall[None]], Awaitable[None]]:
    """Shielded work that records when it ended."""

    async def work(call: ShieldedCall[None]) -> None:
        try:
            with call.shielded():
                await anyio.sleep(seconds)
        finally:
            log.append(anyio.current_time())

    return work


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_each_call_outlives_its_caller_by_its_grace(canceller: Canceller) -> None:
    ended: list[float] = []

    async def call() -> None:
        wakeup = Wakeup()
        async with ShieldedGroup(wakeup) as group:
            calls = [
                ShieldedCall(lasting(seconds, ended), grace=grace, wakeup=wakeup)
                for seconds, grace in ((3.0, 5.0), (1000.0, 4.0))
            ]
            for work in calls:
                group.start(work)
            try:
                await anyio.sleep_forever()
            finally:
                for work in calls:
                    work.cancel_after_grace()

    async def main() -> None:
        assert await canceller.run(call, 1.0)
        assert ended == [pytest.approx(3.0, abs=0.1), pytest.approx(5.0, abs=0.1)]

    run_loop(canceller.loop, main)


async def test_the_caller_goes_on_and_is_woken_as_each_call_ends() -> None:
    wakeup, ended = Wakeup(), list[float]()
    async with ShieldedGroup(wakeup) as group:
        for seconds in (2.0, 1.0):
            group.start(ShieldedCall(lasting(seconds, ended), wakeup=wakeup))
        for _ in range(2):
            await wakeup.wait()
            group.reap()
        assert anyio.current_time() == pytest.approx(2.0, abs=0.1)
    assert len(ended) == 2


async def test_reap_raises_the_error_of_a_call() -> None:
    async def fail(_: ShieldedCall[None]) -> None:
        raise ZeroDivisionError

    ended: list[float] = []

    async def call() -> None:
        wakeup = Wakeup()
        async with ShieldedGroup(wakeup) as group:
            group.start(ShieldedCall(lasting(3.0, ended), wakeup=wakeup))
            group.start(ShieldedCall(fail, wakeup=wakeup))
            await wakeup.wait()
            group.reap()

    with pytest.raises(ZeroDivisionError):
        await call()
    assert ended == [pytest.approx(3.0, abs=0.1)]


async def test_without_grace_a_call_ends_at_once() -> None:
    wakeup, ended = Wakeup(), list[float]()
    async with ShieldedGroup(wakeup) as group:
        work = ShieldedCall(lasting(1000.0, ended), grace=100.0, wakeup=wakeup)
        group.start(work)
        await anyio.sleep(1)
        work.cancel_after_grace(0.0)
    assert ended == [pytest.approx(1.0, abs=0.1)]
