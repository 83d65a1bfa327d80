"""One process polls for all, over a real Redis."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx
import pytest

from finetuning_async import AsyncClient, WaitTimeoutError
from finetuning_async.emulator import Emulator
from finetuning_async.redis import RedisRateLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SECOND = "ft_live_" + 32 * "b"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # redis knows no other loop


class Counting(httpx.AsyncBaseTransport):
    """Counts the reads of one process."""

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self._below = below
        self.reads = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.reads += request.method == "GET"
        return await self._below.handle_async_request(request)


@attrs.frozen
class Process:
    """A client, and what it has sent."""

    client: AsyncClient
    sent: Counting


@asynccontextmanager
async def two(
    url: str, name: str, **settings: Any
) -> AsyncGenerator[tuple[Emulator, Process, Process]]:
    """A service and two processes, as far as it and Redis can tell."""
    made = Emulator(**{"speed": 20, "generation_time": (20, 24), **settings})
    async with made as emulator, AsyncExitStack() as stack:
        emulator.add_key(SECOND)
        processes = []
        for key in (emulator.api_key, SECOND):
            limiter = RedisRateLimiter(url, account=name)
            sent = Counting(emulator.transport())
            http = httpx.AsyncClient(transport=sent)
            client = AsyncClient(
                key,
                base_url=emulator.base_url,
                rate_limits=emulator.rate_limits,
                rate_limiter=limiter,
                http_client=http,
            )
            for each in (limiter, http, client):
                await stack.enter_async_context(each)
            processes.append(Process(client, sent))
        yield emulator, processes[0], processes[1]


async def wait(process: Process, track_id: str, ends: list[str]) -> None:
    """Wait for the end of a track, and note it."""
    ends.append((await process.client.wait_for_completion(track_id)).status)


async def test_one_process_reads_for_both(redis_url: str) -> None:
    async with two(redis_url, "both") as (_, first, second):
        tracks = [await first.client.generations.create("song") for _ in range(4)]
        ends: list[str] = []
        async with anyio.create_task_group() as group:
            for track in tracks[:2]:
                group.start_soon(wait, first, track.id, ends)
            await anyio.sleep(0.1)
            for track in tracks[2:]:
                group.start_soon(wait, second, track.id, ends)
        assert ends == ["completed"] * 4
        assert min(first.sent.reads, second.sent.reads) <= 2, "both read"


async def test_another_takes_over_from_one_that_dies(redis_url: str) -> None:
    async with two(redis_url, "dies", generation_time=(20, 21)) as (_, first, second):
        track = await first.client.generations.create("song")
        ends: list[str] = []
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as dying:
                dying.start_soon(wait, first, track.id, [])
                await anyio.sleep(0.1)
                group.start_soon(wait, second, track.id, ends)
                await anyio.sleep(0.3)
                dying.cancel_scope.cancel()
                died = anyio.current_time()
        assert ends == ["completed"]
        assert anyio.current_time() - died < 6, "within seconds"
        assert second.sent.reads > 0


async def test_a_webhook_that_lands_elsewhere_is_heard(redis_url: str) -> None:
    async with two(redis_url, "hook", generation_time=(10, 10)) as (_, first, second):
        track = await first.client.generations.create("song")
        poller = first.client._session().account.poller
        watched = 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, [])
            await anyio.sleep(0.15)
            second.client.notice(track.id)
            await second.client.tell_others()
            await anyio.sleep(0.15)
            row = poller._list.get(track.id)
            watched = 0.0 if row is None else row.noticed_at
        assert watched > 0 or row is None


async def test_what_the_leader_may_not_see_is_read_by_who_waits(
    redis_url: str,
) -> None:
    async with two(redis_url, "gone") as (_, first, second):
        track = await first.client.generations.create("song")
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, [])
            await anyio.sleep(0.1)
            with pytest.raises(WaitTimeoutError, match="no such track"):
                await second.client.wait_for_completion("nowhere", timeout=2)


async def test_each_reads_for_itself_while_redis_is_gone() -> None:
    async with two("redis://127.0.0.1:1/0", "alone") as (_, first, second):
        track = await first.client.generations.create("song")
        ends: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, ends)
            group.start_soon(wait, second, track.id, ends)
        assert ends == ["completed"] * 2
