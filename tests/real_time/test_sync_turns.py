"""The blocking client's event loop: it runs in a caller's thread if that is alone."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
import trio

from finetuning_async import ClientClosedError, GenerationRequest
from finetuning_async.emulator import Fault
from finetuning_async.sync import Client, Iteration
from finetuning_async.sync._call import Call
from finetuning_async.sync._loop_thread import LoopThread
from finetuning_async.sync._turn import STUCK_AFTER
from tests._served_emulator import served
from tests.real_time.test_sync_client import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from finetuning_async.emulator import Emulator

LOOP_THREAD = "finetuning_async.sync"
ME = "/v1/me"


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Emulator, str]]:
    with served() as (emulator, url):
        yield emulator, url


@pytest.fixture
def threads() -> list[str]:
    """The names of the threads in which events came."""
    return []


@pytest.fixture
def client(service: tuple[Emulator, str], threads: list[str]) -> Iterator[Client]:
    emulator, url = service
    emulator.clear_faults()

    def note(_: object) -> None:
        threads.append(threading.current_thread().name)

    with Client(
        emulator.api_key,
        base_url=url,
        rate_limits=emulator.rate_limits,
        on_event=note,
    ) as made:
        yield made


def test_a_caller_that_is_alone_runs_the_loop_itself(
    client: Client, threads: list[str]
) -> None:
    client.me()
    with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
        pool.submit(client.me).result()
    assert set(threads) == {threading.current_thread().name, "worker_0"}


def test_one_with_a_callback_does_not_since_that_may_block(
    client: Client, threads: list[str]
) -> None:
    names = []

    def on_submitted(_: object) -> None:
        names.append(threading.current_thread().name)

    client.generations.create("rain", on_submitted=on_submitted)
    assert set(threads) == {LOOP_THREAD}
    assert names == [threading.current_thread().name]


def test_a_caller_that_leaves_hands_the_loop_on(
    service: tuple[Emulator, str], client: Client, threads: list[str]
) -> None:
    emulator, _ = service
    emulator.add_fault(Fault("slow_answer", ME, seconds=0.2))
    emulator.add_fault(Fault("slow_answer", ME, seconds=0.6))
    with ThreadPoolExecutor(2) as pool:
        before = emulator.count()
        first = pool.submit(client.me)
        wait_until(lambda: emulator.count() > before)  # the first one runs the loop
        second = pool.submit(client.me)
        first.result()
        assert not second.done()
        second.result(timeout=10)
    assert threads[-1] == LOOP_THREAD
    threads.clear()
    client.me()
    assert set(threads) == {threading.current_thread().name}


def test_what_is_left_in_the_loop_goes_on_between_calls(
    service: tuple[Emulator, str], client: Client
) -> None:
    emulator, _ = service
    before = emulator.count(method="POST")
    requests = [GenerationRequest(f"song {number}") for number in range(3)]
    with client.generate_many(requests) as outcomes:
        next(outcomes)
        deadline = time.monotonic() + 10
        while emulator.count(method="POST") < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_loop_ends_also_in_a_turn_of_a_caller(
    service: tuple[Emulator, str],
) -> None:
    emulator, url = service
    client = Client(emulator.api_key, base_url=url)
    client.me()
    with ThreadPoolExecutor(1) as pool:
        before = emulator.count()
        waiting = pool.submit(client.wait_for_completion, "no-such-track")
        wait_until(lambda: emulator.count() > before)  # it runs the loop
        thread = client._portal.thread()
        thread.end(client._target.aclose)  # as at the exit of the interpreter
        with pytest.raises(ClientClosedError):
            waiting.result(timeout=10)
        thread.join(10)
    assert not thread._thread.is_alive()


class LastTask:
    """A task that is left when the loop ends, and takes a while to be cancelled."""

    def __init__(self) -> None:
        self.thread = LoopThread()
        self.is_cancelled = threading.Event()
        self.has_ended = False
        self._task: asyncio.Task[None] | None = None
        self.thread.start()
        self.thread.post(self._begin)

    def _begin(self) -> None:
        self._task = self.thread.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            self.is_cancelled.set()
            await asyncio.sleep(0.2)
            self.has_ended = True


def test_a_caller_that_comes_when_the_loop_ends_does_not_cut_it_short() -> None:
    last = LastTask()
    last.thread.stop()
    assert last.is_cancelled.wait(5)
    with pytest.raises(ClientClosedError):
        Call(last.thread, asyncio.sleep(0), SimpleQueue()).run()
    last.thread.join(5)
    assert last.has_ended


def test_nor_does_one_that_comes_right_when_it_is_stopped() -> None:
    last = LastTask()

    def stop_and_interrupt() -> None:
        last.thread.stop()
        last.thread.loop.call_soon(last.thread.loop.call_soon, last.thread.loop.stop)

    last.thread.post(stop_and_interrupt)
    last.thread.join(5)
    assert last.has_ended


@contextmanager
def in_the_midst(
    service: tuple[Emulator, str], step: Callable[[], None]
) -> Generator[Client]:
    """A client in whose loop a step is taken once, while the caller runs it."""
    steps = [step]

    def on_event(_: object) -> None:
        if steps:
            steps.pop()()

    emulator, url = service
    emulator.clear_faults()
    with Client(emulator.api_key, base_url=url, on_event=on_event) as client:
        yield client


def test_two_signals_at_once_do_not_cut_short_a_step_of_the_loop(
    service: tuple[Emulator, str],
) -> None:
    ended = []

    def step() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        ended.append(True)

    with in_the_midst(service, step) as client:
        with pytest.raises(KeyboardInterrupt):
            client.me()
        assert ended
        assert client.me().tier


def test_a_signal_cuts_short_a_step_that_has_not_ended_long_after_another(
    service: tuple[Emulator, str],
) -> None:
    reached = []

    def stuck() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(STUCK_AFTER + 0.1)
        signal.raise_signal(signal.SIGINT)
        reached.append(True)

    with in_the_midst(service, stuck) as client:
        with pytest.raises(KeyboardInterrupt):
            client.me()
        assert not reached
        assert client.me().tier


def test_of_several_signals_that_come_at_once_each_is_handled(
    service: tuple[Emulator, str],
) -> None:
    heard = []

    def handler(number: int, _: object) -> None:
        heard.append(number)
        raise ZeroDivisionError

    def step() -> None:
        for number in numbers:
            signal.raise_signal(number)

    numbers = [signal.SIGUSR1, signal.SIGTERM]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        with in_the_midst(service, step) as client:
            with pytest.raises(ZeroDivisionError):
                client.me()
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
    assert heard == numbers


def test_an_iterator_that_is_dropped_ends_without_another_call(client: Client) -> None:
    ended = threading.Event()

    async def numbers() -> AsyncGenerator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.set()

    items = Iteration(client._portal, numbers())
    assert next(items) == 1
    del items
    assert ended.wait(10)


def test_it_works_in_the_thread_of_a_trio_program(
    client: Client, threads: list[str]
) -> None:
    async def main() -> str:
        return str(client.me().tier)

    assert trio.run(main) == "pro"
    assert set(threads) == {LOOP_THREAD}


class AlarmError(Exception):
    """Raised by a signal handler."""


@pytest.fixture
def alarm() -> Iterator[Any]:
    """Sets a handler of SIGALRM, and the seconds until it comes."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(handler: Any, seconds: float) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_what_a_signal_handler_raises_ends_a_wait_and_nothing_else(
    client: Client, alarm: Any
) -> None:
    def raise_error(*_: object) -> None:
        raise AlarmError

    waiting = client.generations.create("rain")
    began = time.monotonic()
    alarm(raise_error, 0.1)
    with pytest.raises(AlarmError):
        client.wait_for_completion("no-such-track")
    assert time.monotonic() - began < 5.0
    assert signal.getsignal(signal.SIGALRM) is raise_error
    assert client.wait_for_completion(waiting).status == "completed"


def test_a_signal_handler_that_raises_nothing_interrupts_nothing(
    service: tuple[Emulator, str], client: Client, alarm: Any
) -> None:
    emulator, _ = service
    seen: list[int] = []
    emulator.add_fault(Fault("slow_answer", ME, seconds=0.5))
    began = time.monotonic()
    alarm(lambda number, _: seen.append(number), 0.1)
    assert client.me().tier == "pro"
    assert seen == [signal.SIGALRM]
    assert time.monotonic() - began >= 0.5
