"""Closing a blocking client while other threads are in its calls and blocks.

Each thread here is a daemon, so that one that hangs fails its test and no more.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async import ClientClosedError
from finetuning_async.sync._call import Block, Call
from finetuning_async.sync._loop_thread import LoopThread
from finetuning_async.sync._turn import take_turn

if TYPE_CHECKING:
    from collections.abc import Callable

NO_ERROR = None, None, None


@pytest.fixture
def thread() -> LoopThread:
    made = LoopThread()
    made.start()
    return made


def has_ended(thread: LoopThread) -> bool:
    thread.join(5)
    return not thread._thread.is_alive()


def begun(function: Callable[..., Any], *args: Any) -> threading.Thread:
    def run() -> None:
        with suppress(ClientClosedError):
            function(*args)

    other = threading.Thread(target=run, daemon=True)
    other.start()
    return other


class SlowBlock:
    """A block that takes a while to leave."""

    def __init__(self) -> None:
        self.is_leaving = threading.Event()
        self.was_left = False

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        self.is_leaving.set()
        await asyncio.sleep(0.2)
        self.was_left = True


@pytest.fixture
def left() -> SlowBlock:
    return SlowBlock()


def test_a_thread_that_leaves_its_block_does_not_cut_short_a_close_that_does_so(
    thread: LoopThread, left: SlowBlock
) -> None:
    block = Block(thread)
    block.enter(left)
    thread.stop()
    assert left.is_leaving.wait(5)
    other = begun(block.leave, *NO_ERROR)
    assert has_ended(thread)
    assert left.was_left
    other.join(5)
    assert not other.is_alive()


def test_closing_waits_for_a_thread_that_leaves_its_block(
    thread: LoopThread, left: SlowBlock
) -> None:
    block = Block(thread)
    block.enter(left)
    other = begun(block.leave, *NO_ERROR)
    assert left.is_leaving.wait(5)
    thread.stop()
    assert has_ended(thread)
    assert left.was_left
    other.join(5)
    assert not other.is_alive()


def test_a_call_that_closing_cancels_may_wait_for_tasks_of_its_own(
    thread: LoopThread,
) -> None:
    is_running, done = threading.Event(), list[str]()

    async def work() -> None:
        part = asyncio.ensure_future(asyncio.sleep(0.1, "done"))
        is_running.set()
        try:
            await asyncio.sleep(60)
        finally:
            done.append(await part)

    other = begun(Call(thread, work(), SimpleQueue(), has_callbacks=True).run)
    assert is_running.wait(5)
    thread.stop()
    assert has_ended(thread)
    assert done == ["done"]
    other.join(5)
    assert not other.is_alive()


@pytest.mark.parametrize("steps", range(4))
def test_a_caller_that_leaves_the_loop_while_it_is_stopped_hands_it_on(
    thread: LoopThread, steps: int
) -> None:
    class LeftWithACall(SlowBlock):
        async def __aexit__(self, *_: object) -> None:
            self.is_leaving.set()
            await may_leave.wait()

    async def work() -> None:
        may_leave.set()
        for _ in range(steps):  # so it ends before, with, or after the block
            await asyncio.sleep(0)

    may_leave, left = asyncio.Event(), LeftWithACall()
    Block(thread).enter(left)
    thread.stop()
    assert left.is_leaving.wait(5)
    call = Call(thread, work(), SimpleQueue())
    thread.calls.add(call)
    assert take_turn(thread, call)
    assert has_ended(thread)
