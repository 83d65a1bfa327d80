"""A real Redis that is killed, paused and started again, under real clients."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import attrs
import httpx
import pytest
from redis.asyncio import Redis

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator
from finetuning_async.redis import RedisRateLimiter
from tests._redis_server import RedisServer, program

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

SPEED = 60.0
"""The speed of the emulator: it allows 10 creates and 60 reads in any second."""

CREATES = 10
"""By each of two processes."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the redis library supports no other


@pytest.fixture
def server() -> Iterator[RedisServer]:
    if program() is None:
        pytest.skip("no Redis is installed (Debian: apt-get install redis-server)")
    made = RedisServer()
    made.start()
    yield made
    made.kill()


@attrs.define
class Done:
    """What the clients of one account have achieved.

    Attributes:
        ids: The tracks.
        reads: How often they read the account.
    """

    ids: set[str] = attrs.Factory(set)
    reads: int = 0

    async def create(self, client: AsyncClient) -> None:
        self.ids.add((await client.generations.create("song", duration=10)).id)

    async def read(self, client: AsyncClient) -> None:
        while True:
            await client.me()
            self.reads += 1
            await anyio.sleep(0.2)


async def interrupt(server: RedisServer, kind: str, done: Done) -> None:
    """Kill or pause the server in the middle, and bring it back."""
    await anyio.sleep(0.4)
    (server.kill if kind == "killed" else server.pause)()
    before = len(done.ids), done.reads
    await anyio.sleep(1.5)
    assert len(done.ids) > before[0], "creates stopped"
    assert done.reads > before[1], "reads stopped"
    (server.start if kind == "killed" else server.resume)()


def logged(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    """Return the log lines about the store that contain `what`."""
    lines = [record.message for record in caplog.records]
    return [
        line for line in lines if "store of the rate limits" in line and what in line
    ]


@asynccontextmanager
async def processes(
    emulator: Emulator, url: str, count: int = 2
) -> AsyncGenerator[list[AsyncClient]]:
    """Make clients that look like processes of one account to Redis and the service."""
    others = ["ft_live_" + 32 * letter for letter in "bcdef"[: count - 1]]
    for key in others:
        emulator.add_key(key)
    async with AsyncExitStack() as stack:
        clients = []
        for key in (emulator.api_key, *others):
            limiter = RedisRateLimiter(url, account="one account")
            http = httpx.AsyncClient(transport=emulator.transport())
            client = AsyncClient(
                key,
                base_url=emulator.base_url,
                rate_limits=emulator.rate_limits,
                rate_limiter=limiter,
                http_client=http,
            )
            for each in (limiter, http, client):
                await stack.enter_async_context(each)
            clients.append(client)
        yield clients


@pytest.mark.parametrize("kind", ["killed", "paused"])
async def test_reads_and_creates_continue_without_redis_and_with_it_again(
    server: RedisServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="finetuning_async")
    done = Done()
    async with (
        Emulator(speed=SPEED, window="log", queue_size=100) as emulator,
        processes(emulator, server.url) as clients,
        anyio.create_task_group() as readers,
    ):
        for client in clients:
            readers.start_soon(done.read, client)
        async with anyio.create_task_group() as group:
            group.start_soon(interrupt, server, kind, done)
            for client in clients:
                for _ in range(CREATES):
                    group.start_soon(done.create, client)
        with anyio.move_on_after(5):
            while len(logged(caplog, "is available again")) < 2:  # noqa: ASYNC110 - a log sets no event
                await anyio.sleep(0.1)
        readers.cancel_scope.cancel()
        assert len(done.ids) == len(emulator.ledger) == 2 * CREATES
        assert emulator.count(status=429) <= 2
    assert len(logged(caplog, "is unavailable")) == 2
    assert len(logged(caplog, "is available again")) == 2


PAUSED = 2.5
"""Seconds."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["paused", "client pause"])
async def test_a_pause_of_redis_causes_three_processes_no_429(
    server: RedisServer, kind: str
) -> None:
    done = Done()

    async def pause() -> None:
        await anyio.sleep(0.5)
        if kind == "paused":
            server.pause()
            await anyio.sleep(PAUSED)
            server.resume()
        else:
            async with Redis.from_url(server.url) as redis:
                await redis.client_pause(round(PAUSED * 1000))

    async with (
        Emulator(window="log", queue_size=100) as emulator,
        processes(emulator, server.url, 3) as clients,
    ):
        for client in clients:
            await done.create(client)
        with anyio.move_on_after(3 * PAUSED):
            async with anyio.create_task_group() as group:
                for _ in range(CREATES - 3):  # what the minute still allows
                    group.start_soon(done.create, clients[0])
                await anyio.sleep(0.5)
                group.start_soon(pause)
                for client in clients:
                    for _ in range(CREATES):
                        group.start_soon(done.create, client)
        assert len(emulator.ledger) == 10
        assert emulator.count(status=429) == 0
