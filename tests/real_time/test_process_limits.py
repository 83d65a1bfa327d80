"""One process causes no 429, in however many event loops it runs its calls."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [
    pytest.mark.usefixtures("warm_programs"),
    pytest.mark.real_time,
]

PERIOD = 3.0
"""Seconds in which ten creates are served."""


@contextmanager
def service(**settings: Any) -> Generator[tuple[Emulator, str]]:
    """Run an emulator on a port, in its own thread."""
    emulator = Emulator(
        speed=60 / PERIOD,
        queue_size=1000,
        audio=b"mp3",
        latency=(0.01, 0.03),
        **settings,
    )
    urls: list[str] = []
    is_up, is_over = threading.Event(), threading.Event()

    async def main() -> None:
        async with emulator, serve(emulator) as url:
            urls.append(url)
            is_up.set()
            await anyio.to_thread.run_sync(is_over.wait)

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    assert is_up.wait(10)
    try:
        yield emulator, urls[0]
    finally:
        is_over.set()
        thread.join(10)


async def create(emulator: Emulator, url: str, many: int) -> None:
    """Create all at once, with a new client, as a program does."""
    async with (
        AsyncClient(
            emulator.api_key, base_url=url, rate_limits=emulator.rate_limits
        ) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(many):
            tasks.start_soon(client.generations.create, f"song {number}")


def in_threads(emulator: Emulator, url: str, backends: list[str], many: int) -> float:
    """Return the seconds that `many` creates take in each of these loops at once."""
    threads = [
        threading.Thread(
            target=partial(anyio.run, create, emulator, url, many, backend=backend)
        )
        for backend in backends
    ]
    begun = monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return monotonic() - begun


@pytest.mark.long
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_event_loop_for_each_call_causes_no_429(backend: str) -> None:
    with service() as (emulator, url):
        begun = monotonic()
        for _ in range(30):
            anyio.run(create, emulator, url, 1, backend=backend)
        assert emulator.count(status=429) == 0
        assert len(emulator.tracks) == 30
        assert monotonic() - begun < 2.5 * PERIOD


@pytest.mark.parametrize(
    "backends", [["asyncio"] * 8, ["asyncio", "trio"] * 4], ids=["asyncio", "mixed"]
)
@pytest.mark.long
def test_eight_threads_with_a_loop_each_are_as_fast_as_one(backends: list[str]) -> None:
    with service() as (emulator, url):
        took = in_threads(emulator, url, backends, 4)
        assert emulator.count(status=429) == 0
        assert len(emulator.tracks) == 32
    with service() as (emulator, url):
        alone = in_threads(emulator, url, ["asyncio"], 32)
        assert emulator.count(status=429) == 0
    assert took < 1.05 * alone


def test_uvloop_shares_the_limits() -> None:
    uvloop = pytest.importorskip("uvloop")
    with service() as (emulator, url):
        for number in range(24):
            factory = uvloop.new_event_loop if number % 2 else asyncio.new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(create(emulator, url, 1))
        assert emulator.count(status=429) == 0
        assert len(emulator.tracks) == 24


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_what_its_parent_sent() -> None:
    with service() as (emulator, url):
        asyncio.run(create(emulator, url, 7))
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(create(emulator, url, 7))
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert emulator.count(status=429) == 0
        assert len(emulator.tracks) == 14


def test_a_run_cancelled_with_requests_in_flight_delays_no_other() -> None:
    with service(generation_time=(1, 1)) as (emulator, url):

        async def cancelled() -> None:
            with anyio.move_on_after(0.02):
                await create(emulator, url, 4)

        begun = monotonic()
        for _ in range(3):
            asyncio.run(cancelled())
        asyncio.run(create(emulator, url, 15))
        assert emulator.count(status=429) == 0
        assert monotonic() - begun < 60
