"""Whether a loop's clock runs in step with the machine's is measured."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from finetuning_async._runtime._loop_handle import LoopHandle
from finetuning_async._runtime._machine_clock import (
    JUMP_THRESHOLD,
    has_jumped,
    measure_offset,
)
from finetuning_async.testing import JumpingEventLoop, jumping_backend

if TYPE_CHECKING:
    from collections.abc import Callable


class StartsNow(JumpingEventLoop):
    """A virtual clock that starts at the machine's time."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        super().__init__()

    def time(self) -> float:
        return self._begin + super().time()


class SetForward(asyncio.SelectorEventLoop):
    """A clock that runs in step with the machine's until it is set forward."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


async def handle() -> LoopHandle:
    return LoopHandle.current()


def on_asyncio(loop: Callable[[], asyncio.AbstractEventLoop]) -> LoopHandle:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(handle())


def test_asyncios_clock_is_the_machines_clock() -> None:
    assert on_asyncio(asyncio.new_event_loop).offset == 0


def test_trios_clock_has_an_offset_and_runs_in_step() -> None:
    async def main() -> tuple[float | None, float]:
        offset = LoopHandle.current().offset
        return offset, trio.current_time() - time.monotonic()

    offset, expected = trio.run(main)
    assert offset == pytest.approx(expected, abs=0.005)
    assert offset != 0


def test_uvloops_cached_clock_is_the_machines_clock() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> float | None:
        time.sleep(0.3)  # noqa: ASYNC251 - the loop caches its time meanwhile
        return LoopHandle.current().offset

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 0


def test_a_loop_with_its_own_epoch_runs_in_step() -> None:
    assert on_asyncio(lambda: shifted(1e6)).offset == pytest.approx(1e6, abs=0.005)


def shifted(seconds: float) -> SetForward:
    loop = SetForward()
    loop.skipped = seconds
    return loop


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_clocks_of_this_packages_fixtures_are_virtual(backend: Any) -> None:
    name, options = jumping_backend(backend)
    if name == "asyncio":
        assert on_asyncio(options["loop_factory"]).offset is None
    else:
        assert trio.run(handle, **options).offset is None


@pytest.mark.parametrize("rate", [0.0, 0.5, 2.0, 1000.0])
def test_trios_mock_clock_is_virtual(rate: float) -> None:
    assert trio.run(handle, clock=MockClock(rate=rate)).offset is None


def test_a_clock_that_starts_at_the_machines_time_is_detected_when_it_jumps() -> None:
    async def main() -> tuple[bool, bool]:
        loop = LoopHandle.current()
        assert loop.offset == 0  # it still looks like uvloop's
        before = loop.has_jumped(loop.now())
        await asyncio.sleep(1)
        return before, loop.has_jumped(loop.now())

    with asyncio.Runner(loop_factory=StartsNow) as runner:
        assert runner.run(main()) == (False, True)


def test_a_jump_is_detected_after_the_loop_has_ended() -> None:
    async def main() -> LoopHandle:
        await asyncio.sleep(0)
        loop = LoopHandle.current()
        assert not loop.has_jumped(loop.now())
        running = asyncio.get_running_loop()
        assert isinstance(running, SetForward)
        running.skipped += 60
        return loop

    with asyncio.Runner(loop_factory=SetForward) as runner:
        loop = runner.run(main())
    assert loop.has_ended
    assert loop.has_jumped(loop.now())


def test_a_late_or_coarse_clock_has_not_jumped() -> None:
    now = time.monotonic()
    assert not has_jumped(now - 5, 0.0, now)
    assert not has_jumped(now + JUMP_THRESHOLD / 2, 0.0, now)
    assert has_jumped(now + 3 * JUMP_THRESHOLD, 0.0, now)


def test_a_delayed_reading_does_not_change_the_offset() -> None:
    def slow() -> float:
        time.sleep(0.01)
        reading = time.perf_counter() + 5000
        time.sleep(0.01)
        return reading

    assert measure_offset(slow) == pytest.approx(
        time.perf_counter() + 5000 - time.monotonic(), abs=0.02
    )
