"""Clients that poll for each other while their store or one of them fails."""

from __future__ import annotations

import random
import statistics
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import attrs
import httpx
import pytest

from finetuning_async import AsyncClient, RateLimits
from finetuning_async._coordination._poll_ledger import LEAD_TTL
from finetuning_async._coordination._shared_limiter import StoreLimiter
from finetuning_async._polling._shared_polling import STANDALONE_FOR
from finetuning_async.emulator import Emulator
from tests._emulated_client import Cookieless
from tests.coordination._store_setups import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async._coordination._store_protocol import Step

pytestmark = pytest.mark.sampled(2)

T = TypeVar("T")

LIMITS = RateLimits()
TRACKS = 6
SYNC_TIMEOUT = 200.0
"""Seconds in which every wait has to end; tracks take 120 at most."""


class StoreConnection:
    """The connection of one process to a store; it can be cut."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_cut = False

    async def update(self, name: str, step: Step[T]) -> T:
        if self.is_cut:
            raise ConnectionError("connection refused")
        return await self._store.update(name, step)


class Network(httpx.AsyncBaseTransport):
    """The connection of one process to the service; it counts reads and can be cut."""

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self._below = below
        self.reads = 0
        self.is_cut = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.reads += request.method == "GET"
        if self.is_cut:
            raise httpx.ConnectError("connection refused")
        return await self._below.handle_async_request(request)


@attrs.define(eq=False)
class Process:
    """A client, its connections, and when it noticed the end of each track."""

    client: AsyncClient
    network: Network
    store: StoreConnection
    ends: dict[str, float] = attrs.field(factory=dict)

    async def wait(self, track_id: str) -> None:
        track = await self.client.wait_for_completion(track_id)
        assert track.status == "completed"
        self.ends[track_id] = anyio.current_time()


@attrs.define(eq=False)
class Scene:
    """A service, processes with one store, and tracks that all of them wait for."""

    emulator: Emulator
    store: MemoryStore
    processes: list[Process]
    ids: list[str]

    def late(self, processes: list[Process] | None = None) -> list[float]:
        """Return how late each process noticed each end; all have noticed all."""
        assert all(process.ends.keys() == set(self.ids) for process in self.processes)
        return [
            at - self.emulator.tracks[track_id].ends_at
            for process in processes or self.processes
            for track_id, at in process.ends.items()
        ]


def limiter_of(connection: StoreConnection, number: int) -> StoreLimiter:
    rng = random.Random(number)
    return StoreLimiter(lambda _: connection, account="a", timeout=60.0, rng=rng)


@asynccontextmanager
async def scene(count: int = 3, **settings: Any) -> AsyncGenerator[Scene]:
    """Let all processes wait for all tracks until these end, after the block."""
    store = MemoryStore()
    async with (
        Emulator(seed=3, queue_size=TRACKS, **settings) as emulator,
        AsyncExitStack() as stack,
    ):
        processes = []
        for number in range(count):
            key = f"ft_live_{number:032x}"
            emulator.add_key(key)
            network = Network(emulator.transport())
            connection = StoreConnection(store)
            client = AsyncClient(
                key,
                base_url=emulator.base_url,
                rate_limits=LIMITS,
                rate_limiter=limiter_of(connection, number),
                http_client=await stack.enter_async_context(
                    Cookieless(transport=network)
                ),
            )
            await stack.enter_async_context(client)
            processes.append(Process(client, network, connection))
        creator = processes[0].client
        ids = [(await creator.generations.create("x")).id for _ in range(TRACKS)]
        with anyio.fail_after(SYNC_TIMEOUT):
            async with anyio.create_task_group() as group:
                for process in processes:
                    for track_id in ids:
                        group.start_soon(process.wait, track_id)
                    await anyio.sleep(0.1)
                yield Scene(emulator, store, processes, ids)


async def test_one_process_reads_and_all_notice_every_end_within_two_seconds() -> None:
    async with scene() as seen:
        pass
    assert statistics.mean(seen.late()) < 2
    assert [process.network.reads for process in seen.processes[1:]] == [0, 0]
    assert seen.emulator.count(status=429) == 0


async def test_a_leader_that_cannot_reach_the_service_gives_up_the_lead() -> None:
    async with scene() as seen:
        await anyio.sleep(5)
        leader, *others = seen.processes
        leader.network.is_cut = True
    assert statistics.mean(seen.late()) < 4
    assert sum(process.network.reads > 3 for process in others) == 1


async def test_after_an_outage_of_the_service_all_ends_are_noticed() -> None:
    async with scene() as seen:
        for process in seen.processes:
            process.network.is_cut = True
        await anyio.sleep(125)
        for process in seen.processes:
            process.network.is_cut = False
    assert max(seen.late()) < 125
    assert max(at for process in seen.processes for at in process.ends.values()) < 160


async def test_a_single_process_whose_reads_fail_keeps_trying() -> None:
    async with scene(1) as seen:
        (process,) = seen.processes
        process.network.is_cut = True
        await anyio.sleep(60)
        before = process.network.reads
        assert before > 4
        process.network.is_cut = False
    assert len(process.ends) == TRACKS


async def test_a_process_cut_off_from_the_store_reads_for_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scene() as seen:
        await anyio.sleep(1)
        seen.processes[0].store.is_cut = True
    cut_off, *others = seen.processes
    assert max(seen.late(others)) < LEAD_TTL + 4
    assert "using 1/3 of the limits" in caplog.text, (
        "and knows of those who read nothing"
    )
    assert cut_off.network.reads > 3
    assert sum(process.network.reads > 3 for process in others) == 1


@pytest.mark.sampled(6)
@pytest.mark.parametrize("seed", range(3))
async def test_lost_replies_of_the_store_end_no_wait(seed: int) -> None:
    rng = random.Random(seed)
    async with scene() as seen:
        seen.store.fails = lambda: rng.random() < 0.1
    assert statistics.mean(seen.late()) < STANDALONE_FOR + LEAD_TTL


@pytest.mark.sampled(6)
@pytest.mark.parametrize("delay", [0.3, 0.9, 1.5])
async def test_a_slow_store_ends_no_wait(delay: float) -> None:
    async with scene() as seen:
        seen.store.delay = delay
    assert statistics.mean(seen.late()) < 6


async def test_a_store_that_is_emptied_repeatedly_ends_no_wait() -> None:
    async def empty(store: MemoryStore) -> None:
        while True:
            await anyio.sleep(3)
            store.states.clear()

    async with anyio.create_task_group() as group:
        async with scene() as seen:
            group.start_soon(empty, seen.store)
        group.cancel_scope.cancel()
    assert statistics.mean(seen.late()) < 2 * LEAD_TTL


async def test_a_track_hidden_from_the_leader_is_read_by_the_process_that_waits() -> (
    None
):
    async with scene() as seen:
        await anyio.sleep(1)
        async with anyio.create_task_group() as group:
            for other in seen.processes[1:]:
                before = other.network.reads
                group.start_soon(other.client.wait_for_completion, "nowhere")
                await anyio.sleep(10)
                assert other.network.reads > before
            group.cancel_scope.cancel()


async def test_a_leader_whose_last_waits_end_reports_and_gives_up_the_lead() -> None:
    async with scene(2, generation_time=(60.0, 60.0)) as seen:
        pass
    assert max(seen.late()) < 4.5
    assert [process.network.reads for process in seen.processes[1:]] == [0]


async def test_a_process_that_joins_receives_the_known_state_at_once() -> None:
    async with scene(2, pending_time=(0.0, 0.0), generation_time=(60.0, 60.0)) as seen:
        leader, other = seen.processes
        await anyio.sleep(70)  # by now the poller has learned how long tracks take
        track = await other.client.generations.create("x")
        async with anyio.create_task_group() as group:
            group.start_soon(leader.wait, track.id)
            await anyio.sleep(10)
            with anyio.fail_after(2):
                async with aclosing(other.client.watch(track.id)) as states:
                    assert (await anext(states)).status == "processing"
