"""Work in a thread runs to its end, once, in order, and is never left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._runtime._threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable


class Log:
    """Records what was done, and in which thread."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.threads: set[int] = set()

    def record(self, what: object) -> None:
        self.done.append(what)
        self.threads.add(threading.get_ident())


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not true():  # noqa: ASYNC110 - a thread sets no event
            await anyio.sleep(0.001)


def test_threads_are_reused_in_a_loop_that_runs_forever() -> None:
    log, loop = Log(), asyncio.new_event_loop()

    async def main() -> None:
        for number in range(10):
            await in_thread(log.record, number)

    task = loop.create_task(main())
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    loop.close()
    assert log.done == list(range(10))
    assert len(log.threads) == 1


async def test_an_error_in_the_thread_is_raised_unchanged() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await in_thread(fail)


@pytest.mark.parametrize("native", [True, False])
def test_a_cancellation_waits_for_the_work_and_no_longer(native: bool) -> None:
    log, begun, may_end = Log(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(5)
        log.record("whole")

    async def call(scope: anyio.CancelScope) -> None:
        with scope:
            await in_thread(work)

    async def main() -> None:
        scope = anyio.CancelScope()
        task = asyncio.create_task(call(scope))
        await until(begun.is_set)
        (task if native else scope).cancel()
        await anyio.sleep(0.02)
        assert not task.done()
        may_end.set()
        with anyio.fail_after(5):
            await asyncio.wait([task])
        assert task.cancelled() == native
        assert scope.cancelled_caught != native

    anyio.run(main)
    assert log.done == ["whole"]
