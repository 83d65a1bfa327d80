"""Work for a thread: whole, once, in order, and never left behind."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import RunVar

from finetuning_async import _threads
from finetuning_async._threads import LINGER, _Lingering, in_thread, in_thread_beside

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._threads import Offer


class Log:
    """Notes what was done, and in which thread."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.threads: set[int] = set()

    def note(self, what: object) -> None:
        self.done.append(what)
        self.threads.add(threading.get_ident())


async def until(true: Callable[[], bool], every: float = 0.001) -> None:
    with anyio.fail_after(5):
        while not true():  # noqa: ASYNC110 - a thread tells nobody
            await anyio.sleep(every)


async def test_one_thread_does_all_that_it_takes() -> None:
    log = Log()

    async def offers(offer: Offer) -> None:
        for number in range(1, 6):
            await until(partial(offer, partial(log.note, number)))

    await in_thread_beside(offers, partial(log.note, 0))
    assert log.done == [0, 1, 2, 3, 4, 5]
    assert len(log.threads - {threading.get_ident()}) == 1


def test_threads_are_used_again_where_a_loop_runs_for_ever() -> None:
    log, loop = Log(), asyncio.new_event_loop()

    async def main() -> None:
        for number in range(10):
            await in_thread(log.note, number)
        loop.stop()

    loop.call_soon(lambda: log.done.append(loop.create_task(main())))
    loop.run_forever()
    loop.close()
    assert log.done[1:] == list(range(10))
    assert len(log.threads) == 1


async def test_a_thread_that_is_busy_takes_nothing() -> None:
    busy, answers = threading.Event(), list[bool]()

    async def offers(offer: Offer) -> None:
        answers.append(offer(partial(answers.append, True)))
        busy.set()

    await in_thread_beside(offers, partial(busy.wait, 5))
    assert answers == [False]


async def test_a_thread_does_not_wait_for_ever() -> None:
    async def offers(offer: Offer) -> None:
        await until(partial(offer, int))
        await anyio.sleep(3 * LINGER)
        await until(lambda: not offer(int), every=3 * LINGER)

    with anyio.fail_after(5):
        await in_thread_beside(offers, int)


async def test_a_thread_that_waits_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_threads, "LINGER", 60)

    async def offers(offer: Offer) -> None:
        await until(partial(offer, int))

    with anyio.fail_after(5):
        await in_thread_beside(offers, int)


async def test_what_a_thread_took_is_done_however_soon_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_threads, "LINGER", 0.003)
    log, taken = Log(), list[object]()

    async def offers(offer: Offer) -> None:
        for number in range(30):
            await anyio.sleep(0.001 * (number % 4))
            if offer(partial(log.note, number)):
                taken.append(number)

    with anyio.fail_after(10):
        while len(taken) < 50:
            await in_thread_beside(offers, int)
    assert log.done == taken


async def test_what_is_offered_to_a_thread_that_is_about_to_leave_is_done() -> None:
    log, limiter = Log(), anyio.CapacityLimiter(1)
    thread = _Lingering(partial(log.note, "first"), limiter)

    class Late(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if timeout is not None and len(log.done) == 1:
                assert thread.offer(partial(log.note, "late"))
                raise Empty
            return super().get(block, 0)

    thread._offered = Late()
    thread._offered.put(partial(log.note, "first"))
    thread.work()
    assert log.done == ["first", "late"]
    assert not thread.offer(int)


async def test_an_error_in_the_thread_comes_out_as_it_is_and_ends_its_work() -> None:
    log = Log()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    async def offers(offer: Offer) -> None:
        await until(partial(offer, fail))
        await anyio.sleep(LINGER / 2)
        assert not offer(partial(log.note, "after"))

    with pytest.raises(OSError, match="No space left"):
        await in_thread_beside(offers, int)
    assert log.done == []


async def test_an_error_beside_the_thread_comes_out_when_its_work_is_done() -> None:
    log = Log()

    async def offers(offer: Offer) -> None:
        await until(partial(offer, partial(log.note, "taken")))
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await in_thread_beside(offers, int)
    assert log.done == ["taken"]


async def test_an_error_in_the_thread_ends_what_goes_on_beside_it() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    async def offers(_: Offer) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(5), pytest.raises(OSError, match="No space left"):
        await in_thread_beside(offers, fail)


async def test_threads_that_linger_keep_nobody_else_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_threads, "LINGER", 60)
    may_end, there = anyio.Event(), []

    async def offers(offer: Offer) -> None:
        await until(partial(offer, int))
        there.append(offer)
        await may_end.wait()

    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(in_thread_beside, offers, int)
            await until(lambda: len(there) == 2)
            assert await anyio.to_thread.run_sync(int) == 0
            may_end.set()


async def test_threads_do_not_linger_where_others_wait_for_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_threads, "LINGER", 60)
    monkeypatch.setattr(_threads, "THREADS", 2)
    monkeypatch.setattr(_threads, "_lingering", RunVar("_few"))
    log = Log()

    async def offers(_: Offer) -> None:
        await until(lambda: len(log.done) == 6)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(in_thread_beside, offers, partial(log.note, number))


@pytest.mark.parametrize("native", [True, False])
def test_a_cancellation_waits_for_the_work_and_no_longer(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_threads, "LINGER", 60)
    log, begun, may_end = Log(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(5)
        log.note("whole")

    async def offers(_: Offer) -> None:
        await anyio.sleep_forever()

    async def call(scope: anyio.CancelScope) -> None:
        with scope:
            await in_thread_beside(offers, work)

    async def main() -> None:
        scope = anyio.CancelScope()
        task = asyncio.create_task(call(scope))
        await until(begun.is_set)
        (task if native else scope).cancel()
        may_end.set()
        with anyio.fail_after(5):
            await asyncio.wait([task])
        assert task.cancelled() == native
        assert scope.cancelled_caught != native

    anyio.run(main)
    assert log.done == ["whole"]
