"""Work in a thread of its own: in order, done in any case, waited for a second."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async._runtime import SerialThread, _serial_thread as module

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "test-serial-thread"

pytestmark = pytest.mark.real_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Loops with the system's clock: under one that jumps, the work runs inline."""
    return str(request.param)


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not true():  # noqa: ASYNC110 - a thread sets no event
            await anyio.sleep(0.001)


async def test_what_is_started_is_done_in_order_in_one_thread() -> None:
    serial = SerialThread(NAME)
    done: list[tuple[int, int]] = []

    async def work(number: int) -> None:
        job = serial.start(lambda: done.append((number, threading.get_ident())))
        await job.wait()

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(work, number)
    assert sorted(number for number, _ in done) == list(range(20))
    assert {ident for _, ident in done} == {running()[0].ident}
    serial.close()
    await until(lambda: not running())
    assert await serial.start(lambda: 5).wait() == 5  # it begins another one
    serial.close()


async def test_an_error_is_raised_where_its_work_is_waited_for() -> None:
    serial = SerialThread(NAME)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await serial.start(fail).wait()
    serial.close()


@pytest.mark.parametrize("native", [False, True])
async def test_a_cancellation_waits_for_the_work(
    anyio_backend: str, native: bool
) -> None:
    if native and anyio_backend == "trio":
        pytest.skip("trio has no cancellation but its scopes")
    serial = SerialThread(NAME)
    begun, may_end = threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> None:
        begun.set()
        may_end.wait(5)
        seen.append("done")

    scope = anyio.CancelScope()

    async def call() -> None:
        with scope:
            try:
                await serial.start(work).wait()
            finally:
                seen.append("left")

    async def cancel() -> None:
        await until(begun.is_set)
        (task if native else scope).cancel()
        await anyio.sleep(0.02)
        assert seen == []
        may_end.set()

    async with anyio.create_task_group() as tasks:
        if native:
            task = asyncio.ensure_future(call())
            tasks.start_soon(cancel)
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            tasks.start_soon(cancel)
            await call()
            assert scope.cancelled_caught
    assert seen == ["done", "left"]
    serial.close()


async def test_a_cancelled_call_does_not_wait_for_long_for_what_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.2)
    serial = SerialThread(NAME)
    may_end, done = threading.Event(), []
    hanging = serial.start(lambda: may_end.wait(5))
    began = anyio.current_time()
    with anyio.move_on_after(0.05) as scope:
        await hanging.wait()
    assert scope.cancelled_caught
    assert 0.2 < anyio.current_time() - began < 1
    assert serial.is_stuck
    began = anyio.current_time()
    later = serial.start(lambda: done.append("later"))
    await later.linger()  # once is enough
    assert anyio.current_time() - began < 0.15
    assert not later.is_done
    may_end.set()
    assert await serial.start(lambda: [*done]).wait() == ["later"]
    assert not serial.is_stuck
    serial.close()


async def test_the_thread_ends_when_nobody_has_it_any_more() -> None:
    serial = SerialThread(NAME)
    await serial.start(int).wait()
    del serial
    gc.collect()
    await until(lambda: not running())


async def test_after_a_thread_could_not_be_started_the_next_call_starts_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serial = SerialThread(NAME)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            serial.start(int)
    with anyio.fail_after(5):
        assert await serial.start(lambda: 5).wait() == 5
    serial.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_forked_child_has_a_thread_of_its_own() -> None:
    serial = SerialThread(NAME)
    await serial.start(int).wait()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            done = threading.Event()
            serial.start(done.set)
            os.write(writer, b"done" if done.wait(5) else b"hangs")
        finally:
            os._exit(0)
    assert os.read(reader, 10) == b"done"
    await anyio.to_thread.run_sync(os.waitpid, child, 0)
    assert await serial.start(lambda: "here too").wait() == "here too"
    serial.close()


def test_a_program_ends_though_its_work_hangs() -> None:
    program = (
        "import asyncio, time\n"
        "from finetuning_async._runtime import SerialThread\n"
        "async def main():\n"
        "    SerialThread('t').start(lambda: time.sleep(60))\n"
        "asyncio.run(main())\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert time.monotonic() - began < 20
