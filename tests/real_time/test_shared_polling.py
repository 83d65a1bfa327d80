"""One process polls for all: real stores, real processes, the real clock.

The service and its limits run at 20 times the usual speed.
"""

from __future__ import annotations

import statistics
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx
import pytest

from benchmarks.polling._waiting_processes import waiting_processes
from finetuning_async import AsyncClient, WaitTimeoutError
from finetuning_async._coordination._poll_ledger import LEAD_TTL
from finetuning_async.emulator import Emulator
from finetuning_async.redis import RedisRateLimiter
from tests._redis_server import RedisServer, program
from tests.real_time._shared_stores import RealFile, RealPostgres, RealRedis, RealStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from benchmarks.polling._waiting_processes import WaitingProcess
    from finetuning_async._coordination._shared_limiter import StoreLimiter

pytestmark = [pytest.mark.usefixtures("warm_programs"), pytest.mark.sampled(2)]

SPEED = 20
TIMES = (30.0, 45.0)
"""Seconds that a track takes, at the usual speed."""

SECOND = "ft_live_" + 32 * "b"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # needed by the emulator on a port and by redis


@pytest.fixture(
    params=[
        "file",
        pytest.param("redis", marks=pytest.mark.long),
        pytest.param("postgres", marks=pytest.mark.long),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealStore]:
    if request.param == "file":
        yield RealFile(tmp_path)
    elif request.param == "postgres":
        yield RealPostgres(request.getfixturevalue("postgres"))
    elif program() is None:
        pytest.skip("no Redis is installed (Debian: apt-get install redis-server)")
    else:
        server = RedisServer()
        server.start()
        yield RealRedis(server)
        server.kill()


# Real processes.


@asynccontextmanager
async def waiting(
    store: RealStore, count: int = 3, *, backend: str = "asyncio", tracks: int = 3
) -> AsyncGenerator[tuple[Emulator, list[WaitingProcess], list[str]]]:
    """Start processes that all wait for the same tracks; the first one leads."""
    async with (
        Emulator(speed=SPEED, generation_time=TIMES) as emulator,
        waiting_processes(emulator, store.name, count, backend=backend) as processes,
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key, base_url=emulator.base_url, http_client=http
        ) as client,
    ):
        ids = [(await client.generations.create("song")).id for _ in range(tracks)]
        for process in processes:
            for track_id in ids:
                await process.send("wait", track_id)
            await anyio.sleep(0.15)
        yield emulator, processes, ids


async def all_end(
    emulator: Emulator, processes: list[WaitingProcess], ids: list[str]
) -> list[float]:
    """Wait until each process has noticed all ends; return how late each was."""
    with anyio.fail_after(20):
        for process in processes:
            await process.until_ended(*ids)
    assert {status for p in processes for status, _ in p.ended.values()} == {
        "completed"
    }
    return [
        process.ended[track_id][1] - emulator.tracks[track_id].ends_at
        for process in processes
        for track_id in ids
    ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_one_process_reads_and_each_notices_every_end(
    store: RealStore, backend: str
) -> None:
    if backend == "trio" and isinstance(store, RealRedis):
        pytest.skip("the redis library supports asyncio only")
    async with waiting(store, backend=backend) as (emulator, processes, ids):
        late = await all_end(emulator, processes, ids)
        assert statistics.mean(late) < 1
        leader, *others = processes
        assert len(leader.reads) > 2
        assert [process.reads for process in others] == [[], []]
        assert emulator.count(status=429) == 0


async def test_another_process_reads_when_the_leader_is_killed(
    store: RealStore,
) -> None:
    async with waiting(store) as (emulator, processes, ids):
        leader, *others = processes
        leader.kill()
        late = await all_end(emulator, others, ids)
        assert max(late) < LEAD_TTL + 1
        assert sum(bool(process.reads) for process in others) == 1


async def test_a_leader_that_was_paused_does_not_lead_when_it_continues(
    store: RealStore,
) -> None:
    async with waiting(store) as (emulator, processes, ids):
        leader, *others = processes
        leader.pause()
        await all_end(emulator, others, ids)
        before = len(leader.reads)
        leader.resume()
        await all_end(emulator, [leader], ids)
        assert any(process.reads for process in others)
        assert len(leader.reads) <= before + 2, "reads that it had begun, or for itself"


async def test_a_store_that_is_emptied_is_filled_again(store: RealStore) -> None:
    async with waiting(store, 2) as (emulator, processes, ids):
        store.empty()
        late = await all_end(emulator, processes, ids)
        assert max(late) < LEAD_TTL + 1


async def test_each_process_reads_for_itself_while_the_store_hangs(
    store: RealStore,
) -> None:
    async with waiting(store, 2, tracks=1) as (emulator, processes, ids):
        with store.hangs():
            late = await all_end(emulator, processes, ids)
        assert all(process.reads for process in processes)
        assert max(late) < 4


# Two clients that look like two processes to the service and the store.


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
    limiter_of: Callable[[str], StoreLimiter], **settings: Any
) -> AsyncGenerator[tuple[Emulator, Process, Process]]:
    """A service and two processes."""
    made = Emulator(**{"speed": SPEED, "generation_time": (20, 24), **settings})
    async with made as emulator, AsyncExitStack() as stack:
        emulator.add_key(SECOND)
        processes = []
        for key in (emulator.api_key, SECOND):
            limiter = limiter_of("one account")
            if isinstance(limiter, RedisRateLimiter):
                await stack.enter_async_context(limiter)
            sent = Counting(emulator.transport())
            http = await stack.enter_async_context(httpx.AsyncClient(transport=sent))
            client = AsyncClient(
                key,
                base_url=emulator.base_url,
                rate_limits=emulator.rate_limits,
                rate_limiter=limiter,
                http_client=http,
            )
            processes.append(Process(await stack.enter_async_context(client), sent))
        yield emulator, processes[0], processes[1]


async def wait(process: Process, track_id: str, ends: list[str]) -> None:
    """Wait for the end of a track, and record its status."""
    ends.append((await process.client.wait_for_completion(track_id)).status)


async def test_one_process_reads_for_both(store: RealStore) -> None:
    async with two(store.limiter) as (_, first, second):
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


async def test_a_process_that_joins_later_receives_the_state_that_the_leader_knows(
    store: RealStore,
) -> None:
    async with two(store.limiter, generation_time=(60, 60)) as (_, first, second):
        track = await first.client.generations.create("song")
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, [])
            await anyio.sleep(1.0)
            states = second.client.watch(track.id)
            seen = [state.status async for state in states]
        assert seen[-1] == "completed"
        assert len(seen) > 1, "it received no state before the end"
        assert second.sent.reads == 0


async def test_another_process_leads_after_the_leaders_wait_is_cancelled(
    store: RealStore,
) -> None:
    async with two(store.limiter) as (_, first, second):
        track = await first.client.generations.create("song")
        ends: list[str] = []
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as leading:
                leading.start_soon(wait, first, track.id, [])
                await anyio.sleep(0.1)
                group.start_soon(wait, second, track.id, ends)
                await anyio.sleep(0.3)
                leading.cancel_scope.cancel()
                cancelled_at = anyio.current_time()
        assert ends == ["completed"]
        assert anyio.current_time() - cancelled_at < 6, "within seconds"
        assert second.sent.reads > 0


async def test_a_hint_in_another_process_reaches_the_leader(store: RealStore) -> None:
    async with two(store.limiter, generation_time=(10, 10)) as (_, first, second):
        track = await first.client.generations.create("song")
        poller = first.client._session().account.poller
        watched = 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, [])
            await anyio.sleep(0.15)
            second.client.mark_changed(track.id)
            await second.client.publish_changes()
            await anyio.sleep(0.15)
            row = poller._watch_list.get(track.id)
            watched = 0.0 if row is None else row.hinted_at
        assert watched > 0 or row is None


async def test_a_track_hidden_from_the_leader_is_read_by_the_process_that_waits(
    store: RealStore,
) -> None:
    async with two(store.limiter) as (_, first, second):
        track = await first.client.generations.create("song")
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, [])
            await anyio.sleep(0.1)
            for _ in range(2):
                with pytest.raises(WaitTimeoutError, match="no such track"):
                    await second.client.wait_for_completion("nowhere", timeout=1)


async def test_each_process_reads_for_itself_without_redis() -> None:
    def unreachable(account: str) -> RedisRateLimiter:
        return RedisRateLimiter("redis://127.0.0.1:1/0", account=account)

    async with two(unreachable) as (_, first, second):
        track = await first.client.generations.create("song")
        ends: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, track.id, ends)
            group.start_soon(wait, second, track.id, ends)
        assert ends == ["completed"] * 2
