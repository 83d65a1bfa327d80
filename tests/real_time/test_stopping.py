"""Signals that ask a process to stop: our callback first, then the server's handler."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from finetuning_async.fastapi._stop_signals import STOP_SIGNALS, on_stop_signal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """Handles a signal like uvicorn's server."""

    should_exit = False

    def __init__(self) -> None:
        self.signals: list[int] = []

    def handle_exit(self, number: int, frame: object) -> None:
        del frame
        self.signals.append(number)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    before = {
        number: signal.signal(number, made.handle_exit) for number in STOP_SIGNALS
    }
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
async def test_a_signal_reaches_us_and_the_server_and_later_the_server_alone(
    server: Server, number: int
) -> None:
    ended = anyio.Event()

    async def end() -> None:
        ended.set()

    with on_stop_signal(end), on_stop_signal(end):
        assert getattr(signal.getsignal(number), "__self__", None) is server
        signal.raise_signal(number)
        with anyio.fail_after(5):
            await ended.wait()
    assert server.signals == [number]
    assert signal.getsignal(number) == server.handle_exit


async def test_a_handler_removed_below_another_goes_quiet_and_passes_signals_on(
    server: Server,
) -> None:
    ended: list[str] = []

    async def first_end() -> None:
        ended.append("first")

    async def second_end() -> None:
        ended.append("second")

    first, second = on_stop_signal(first_end), on_stop_signal(second_end)
    with first:
        second.__enter__()
    signal.raise_signal(signal.SIGTERM)
    await anyio.sleep(0.1)
    second.__exit__(None, None, None)
    assert (ended, server.signals) == (["second"], [signal.SIGTERM])


async def test_a_signal_with_the_default_action_is_left_alone() -> None:
    async def end() -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with on_stop_signal(end):
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_outside_the_main_thread_nothing_happens(
    server: Server,
) -> None:
    def elsewhere() -> None:
        async def main() -> None:
            with on_stop_signal(anyio.sleep_forever):  # never called
                assert threading.current_thread() is not threading.main_thread()
                assert signal.getsignal(signal.SIGTERM) == server.handle_exit

        anyio.run(main)

    await anyio.to_thread.run_sync(elsewhere)
