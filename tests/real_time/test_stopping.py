"""Signals that ask a process to stop: heard by us first, then as before."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from finetuning_async.fastapi._stopping import SIGNALS, at_stop

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """What uvicorn's is for a signal."""

    should_exit = False

    def __init__(self) -> None:
        self.heard: list[int] = []

    def handle_exit(self, number: int, frame: object) -> None:
        del frame
        self.heard.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    before = {number: signal.signal(number, made.handle_exit) for number in SIGNALS}
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_is_heard_by_both_and_then_by_the_server_alone(
    server: Server, number: int
) -> None:
    ended = anyio.Event()

    async def end() -> None:
        ended.set()

    with at_stop(end), at_stop(end):
        assert getattr(signal.getsignal(number), "__self__", None) is server
        signal.raise_signal(number)
        with anyio.fail_after(5):
            await ended.wait()
    assert server.heard == [number]
    assert signal.getsignal(number) == server.handle_exit


async def test_one_that_leaves_below_another_is_silent_and_breaks_nothing(
    server: Server,
) -> None:
    ended: list[str] = []

    async def first_end() -> None:
        ended.append("first")

    async def second_end() -> None:
        ended.append("second")

    first, second = at_stop(first_end), at_stop(second_end)
    with first:
        second.__enter__()
    signal.raise_signal(signal.SIGTERM)
    await anyio.sleep(0.1)
    second.__exit__(None, None, None)
    assert (ended, server.heard) == (["second"], [signal.SIGTERM])


async def test_where_nobody_handles_a_signal_it_is_left_alone() -> None:
    async def end() -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with at_stop(end):
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_in_another_thread_than_the_main_one_nothing_happens(
    server: Server,
) -> None:
    def elsewhere() -> None:
        async def main() -> None:
            with at_stop(anyio.sleep_forever):  # it is never called
                assert threading.current_thread() is not threading.main_thread()
                assert signal.getsignal(signal.SIGTERM) == server.handle_exit

        anyio.run(main)

    await anyio.to_thread.run_sync(elsewhere)
