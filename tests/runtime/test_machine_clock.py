"""A loop's clock is known to be the machine's by what it does."""

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


class BeginsNow(JumpingEventLoop):
    """A clock that jumps, and begins at the machine's time."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        super().__init__()

    def time(self) -> float:
        return self._begin + super().time()


class Skips(asyncio.SelectorEventLoop):
    """A clock that goes as the machine's does, and is set forward now and then."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


async def handle() -> LoopHandle:
    return LoopHandle.current()


def on_asyncio(loop: Callable[[], asyncio.AbstractEventLoop]) -> LoopHandle:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(handle())


def test_asyncios_clock_is_the_machines() -> None:
    assert on_asyncio(asyncio.new_event_loop).offset == 0


def test_trios_shows_another_number_and_goes_in_step() -> None:
    async def main() -> tuple[float | None, float]:
        offset = LoopHandle.current().offset
        return offset, trio.current_time() - time.monotonic()

    offset, shown = trio.run(main)
    assert offset == pytest.approx(shown, abs=0.005)
    assert offset != 0


def test_uvloops_stands_still_within_a_turn_and_is_the_machines_all_the_same() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> float | None:
        time.sleep(0.3)  # noqa: ASYNC251 - its clock is as old as the turn
        return LoopHandle.current().offset

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 0


def test_a_loop_with_an_epoch_of_its_own_that_goes_in_step_has_the_machines() -> None:
    assert on_asyncio(lambda: shifted(1e6)).offset == pytest.approx(1e6, abs=0.005)


def shifted(seconds: float) -> Skips:
    loop = Skips()
    loop.skipped = seconds
    return loop


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_clocks_of_this_packages_fixtures_are_not(backend: Any) -> None:
    name, options = jumping_backend(backend)
    if name == "asyncio":
        assert on_asyncio(options["loop_factory"]).offset is None
    else:
        assert trio.run(handle, **options).offset is None


@pytest.mark.parametrize("rate", [0.0, 0.5, 2.0, 1000.0])
def test_trios_mock_clock_is_not(rate: float) -> None:
    assert trio.run(handle, clock=MockClock(rate=rate)).offset is None


def test_one_that_begins_at_the_machines_time_shows_itself_when_it_jumps() -> None:
    async def main() -> tuple[bool, bool]:
        loop = LoopHandle.current()
        assert loop.offset == 0  # nothing tells it from uvloop's yet
        before = loop.has_jumped(loop.now())
        await asyncio.sleep(1)
        return before, loop.has_jumped(loop.now())

    with asyncio.Runner(loop_factory=BeginsNow) as runner:
        assert runner.run(main()) == (False, True)


def test_one_that_is_set_forward_shows_itself_even_after_its_loop_has_ended() -> None:
    async def main() -> LoopHandle:
        await asyncio.sleep(0)
        loop = LoopHandle.current()
        assert not loop.has_jumped(loop.now())
        running = asyncio.get_running_loop()
        assert isinstance(running, Skips)
        running.skipped += 60
        return loop

    with asyncio.Runner(loop_factory=Skips) as runner:
        loop = runner.run(main())
    assert loop.has_ended
    assert loop.has_jumped(loop.now())


def test_a_clock_that_lags_has_not_jumped_nor_one_that_is_coarse() -> None:
    now = time.monotonic()
    assert not has_jumped(now - 5, 0.0, now)
    assert not has_jumped(now + JUMP_THRESHOLD / 2, 0.0, now)
    assert has_jumped(now + 3 * JUMP_THRESHOLD, 0.0, now)


def test_a_reading_that_is_held_up_makes_no_clock_another() -> None:
    def slow() -> float:
        time.sleep(0.01)
        shown = time.perf_counter() + 5000
        time.sleep(0.01)
        return shown

    assert measure_offset(slow) == pytest.approx(
        time.perf_counter() + 5000 - time.monotonic(), abs=0.02
    )
