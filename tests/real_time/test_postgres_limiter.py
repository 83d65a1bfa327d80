"""Permits from a real PostgreSQL that hangs, continues and dies."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import psycopg
import pytest

from finetuning_async import RateLimit, RateLimits, ResponseFacts
from finetuning_async.postgres import PostgresRateLimiter
from finetuning_async.postgres._store import PostgresStore
from tests._postgres_server import cluster, programs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.sampled(2)

LIMITS = RateLimits(creates=RateLimit(8, per=2), reads=RateLimit(8, per=2))
OK = ResponseFacts(status=200)


@pytest.fixture
def own_postgres() -> Iterator[str]:
    """A server for one test."""
    if programs() is None:
        pytest.skip("no PostgreSQL is installed (Debian: apt-get install postgresql)")
    with cluster() as conninfo:
        yield conninfo


def limiter_of(conninfo: str) -> PostgresRateLimiter:
    limiter = PostgresRateLimiter(conninfo, account="a")
    limiter.bind("a", LIMITS, lambda: 0)
    return limiter


async def take_permit(limiter: PostgresRateLimiter) -> None:
    permit = await limiter.acquire("creates")
    permit.answered(OK)
    await limiter.flush()


def processes_of(conninfo: str) -> list[int]:
    """Return the server's processes: the first, and one for each connection."""
    with psycopg.connect(conninfo) as admin:
        found = admin.execute("SELECT current_setting('data_directory')").fetchall()
        rows = admin.execute("SELECT pid FROM pg_stat_activity").fetchall()
    first = Path(found[0][0], "postmaster.pid").read_text().split()[0]
    return [int(first), *(pid for (pid,) in rows)]


def send_signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:  # the one that answered the query has ended
            continue


def is_up(limiter: PostgresRateLimiter) -> bool:
    assert limiter._store_client is not None
    return limiter._store_client.is_up


async def test_calls_continue_when_the_database_hangs_or_dies(
    own_postgres: str,
) -> None:
    limiter = limiter_of(own_postgres)
    await take_permit(limiter)
    assert is_up(limiter)
    processes = processes_of(own_postgres)
    send_signal(processes, signal.SIGSTOP)
    try:
        with anyio.fail_after(5):
            await take_permit(limiter)
        assert not is_up(limiter)
    finally:
        send_signal(processes, signal.SIGCONT)
    with anyio.fail_after(10):
        while not is_up(limiter):
            await anyio.sleep(0.2)
            await take_permit(limiter)
    send_signal(processes_of(own_postgres), signal.SIGKILL)
    with anyio.fail_after(5):
        await take_permit(limiter)
    assert not is_up(limiter)


async def test_programs_share_one_budget(postgres: str) -> None:
    first, second = limiter_of(postgres), limiter_of(postgres)
    started = anyio.current_time()
    for limiter in [first, second] * 5:
        with anyio.fail_after(5):
            await take_permit(limiter)
    assert 1.9 < anyio.current_time() - started < 3.5


async def test_connections_of_cancelled_updates_are_closed(
    postgres: str,
) -> None:
    def step(_: str | None, now: float) -> tuple[str, float]:
        return str(now), now

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        store = PostgresStore(postgres, "a")
        for number in range(60):
            await store.update("limits", step)
            with anyio.move_on_after(number * 0.00005):
                await store.update("limits", step)
        await store.update("limits", step)
        await anyio.sleep(0.1)
        gc.collect()
    assert [str(warning.message) for warning in seen] == []


async def test_an_update_that_was_cancelled_while_it_connected_is_not_made(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread goes on, and would share a connection with the next update."""
    begun, may_connect = threading.Event(), threading.Event()
    made: list[psycopg.Connection] = []
    connect = PostgresStore._connect

    def slow_connect(store: PostgresStore) -> psycopg.Connection:
        if not begun.is_set():
            begun.set()
            may_connect.wait(5)
        made.append(connect(store))
        return made[-1]

    monkeypatch.setattr(PostgresStore, "_connect", slow_connect)
    store = PostgresStore(postgres, "a")
    async with anyio.create_task_group() as group:
        group.start_soon(store.update, "limits", lambda _, now: ("cancelled", now))
        await anyio.to_thread.run_sync(begun.wait)
        group.cancel_scope.cancel()

    def step(before: str | None, now: float) -> tuple[str, str | None]:
        may_connect.set()
        deadline = time.monotonic() + 5
        while not (made[1:] and made[1].closed) and time.monotonic() < deadline:
            time.sleep(0.01)
        return "made", before

    assert await store.update("limits", step) is None
    assert await store.update("limits", lambda s, _: ("", s)) == "made"
    assert [connection.closed for connection in made] == [False, True]
    made[0].close()
