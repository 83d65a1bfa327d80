"""Hints, deadlines and queued creates: when the loop looks, and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import (
    RateLimit,
    RateLimits,
    WaitTimeoutError,
)
from finetuning_async._pacing._in_flight import TrackInProgress
from finetuning_async._polling._waiters import Waiter
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._scripted_service import (
    assert_nothing_left,
    poller_of,
    scripted_service,
    wait_for_all,
)

if TYPE_CHECKING:
    import httpx

    from finetuning_async import AsyncClient


pytestmark = pytest.mark.sampled(2)


async def test_a_bug_in_the_transport_leaves_no_waiter_hanging() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(3)]
        calls = 0

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise ZeroDivisionError
            return None

        service.intercept = intercept
        ends = await wait_for_all(client, *ids)
        kinds = [type(end) for end in ends]
        assert kinds.count(ZeroDivisionError) == 1  # the driver at that time
        assert [end.status for end in ends if not isinstance(end, Exception)] == [
            "completed",
            "completed",
        ]
        assert_nothing_left(client)


async def test_mark_changed_brings_a_look_at_once() -> None:
    async with emulated(Emulator(generation_time=(200.0, 200.0))) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        began = anyio.current_time()
        ends: list[float] = []

        async def wait() -> None:
            await client.wait_for_completion(accepted)
            ends.append(anyio.current_time() - began)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(30)
            emulator.tracks[accepted.id].ends_at = anyio.current_time()
            client.mark_changed(accepted.id)
            client.mark_changed("a track without a watcher")
        assert ends == [pytest.approx(30.0, abs=0.01)]


async def test_mark_changed_of_a_running_track_costs_one_read() -> None:
    async with emulated(Emulator(generation_time=(200.0, 200.0))) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        async with anyio.create_task_group() as group:
            group.start_soon(client.wait_for_completion, accepted)
            await anyio.sleep(30)
            before = emulator.count(method="GET")
            client.mark_changed(accepted.id)
            await anyio.sleep(120)
            assert emulator.count(method="GET") == before + 1


async def test_mark_changed_during_a_read_is_not_lost() -> None:
    async with emulated(
        Emulator(generation_time=(200.0, 200.0), latency=(2.0, 2.0))
    ) as (emulator, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        async with anyio.create_task_group() as group:
            group.start_soon(client.wait_for_completion, accepted)
            await anyio.sleep(30)
            client.mark_changed(accepted.id)
            await anyio.sleep(3)  # the response is on its way back
            ended = anyio.current_time()
            emulator.tracks[accepted.id].ends_at = ended
            client.mark_changed(accepted.id)
        assert anyio.current_time() - ended == pytest.approx(5.0, abs=0.001)


async def learn(client: AsyncClient, count: int) -> None:
    """Let the client learn how long tracks take."""
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(lambda: client.generate("x", duration=5))


async def test_once_durations_are_known_no_read_comes_before_a_track_can_be_done() -> (
    None
):
    async with emulated(Emulator(generation_time=(44.0, 46.0))) as (emulator, client):
        await learn(client, 24)
        before = emulator.count(method="GET")
        for _ in range(10):
            await client.generate("x", duration=5)
        assert (emulator.count(method="GET") - before) / 10 < 5


async def test_the_loop_leaves_reads_to_the_caller() -> None:
    async with emulated(Emulator(queue_size=50)) as (emulator, client):
        async with anyio.create_task_group() as group:
            for n in range(30):
                group.start_soon(lambda n: client.generate(f"song {n}"), n)
        reads = [r.at for r in emulator.requests if r.method == "GET"]
        busiest = max(sum(at <= x < at + 60 for x in reads) for at in reads)
        assert busiest <= 45
        assert emulator.count(status=429) == 0


async def test_the_loop_leaves_reads_to_the_caller_under_a_lower_limit() -> None:
    limits = RateLimits(creates=RateLimit(100), reads=RateLimit(60))
    async with emulated(
        Emulator(queue_size=50, reads_per_minute=20, creates_per_minute=100),
        rate_limits=limits,
    ) as (emulator, client):
        async with anyio.create_task_group() as group:
            for n in range(30):
                group.start_soon(lambda n: client.generate(f"song {n}"), n)
        reads = [r.at for r in emulator.requests if r.method == "GET"]
        assert max(sum(at <= x < at + 60 for x in reads) for at in reads) <= 14 + 3
        assert emulator.count(status=429) == 0


async def test_deadlines_are_kept_while_the_reads_are_used_up() -> None:
    limits = RateLimits(reads=RateLimit(5, per=300.0))
    async with scripted_service(rate_limits=limits) as (service, client):
        service.add("a", 1000.0)
        for _ in range(5):
            await client.generations.get("a")
        over: list[float] = []

        async def wait(timeout: float) -> None:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_completion("a", timeout=timeout)
            over.append(anyio.current_time() - began - timeout)

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for timeout in (50.0, 10.0, 30.0, 0.0, 20.0):
                group.start_soon(wait, timeout)
                await anyio.lowlevel.checkpoint()
        assert over == [pytest.approx(0.0, abs=0.001)] * 5
        assert_nothing_left(client)


async def test_deadlines_are_kept_while_a_read_hangs() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            await anyio.sleep(25)
            return None

        service.intercept = intercept
        over: list[float] = []

        async def wait(timeout: float) -> None:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_completion("a", timeout=timeout)
            over.append(anyio.current_time() - timeout)

        async with anyio.create_task_group() as group:
            for timeout in (10.0, 10.5, 11.0, 12.0):
                group.start_soon(wait, timeout)
        # One second for the last look; the driver gives its read two more.
        assert max(over) < 3.1
        assert sorted(over)[2] < 1.1


async def test_a_wait_that_joins_a_sleeping_driver_is_served() -> None:
    async with emulated(Emulator(generation_time=(100.0, 100.0))) as (_, client):
        await learn(client, 6)
        accepted = await client.generations.create("x", duration=5)
        old = await client.generations.create("y", duration=5)
        began = anyio.current_time()
        await anyio.sleep(99)
        fresh = await client.generations.create("z", duration=5)
        ends: list[float] = []

        async def wait(track_id: str) -> None:
            await client.wait_for_completion(track_id)
            ends.append(anyio.current_time() - began)

        async with anyio.create_task_group() as group:
            group.start_soon(wait, fresh.id)  # sleeps for about 100 s
            await anyio.sleep(5)
            group.start_soon(wait, accepted.id)
            group.start_soon(wait, old.id)
        assert sorted(ends)[1] < 110


async def test_queued_creates_drive_the_loop_and_are_sent_when_a_track_ends() -> None:
    async with emulated(Emulator(queue_size=2, generation_time=(30.0, 30.0))) as (
        emulator,
        client,
    ):
        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(lambda n: client.generations.create(f"song {n}"), n)
        assert len(emulator.tracks) == 6
        assert anyio.current_time() < 70
        assert_nothing_left(client)


async def test_a_queued_create_sees_the_end_of_a_track_accepted_after_it() -> None:
    async with scripted_service() as (service, client):
        account = client._session().account
        poller = account.poller
        for seconds in (20.0, 100.0):
            for _ in range(4):
                poller._dispatcher._estimator.learn(
                    "music", seconds, shortest=seconds, longest=seconds
                )

        def accept(track_id: str, seconds: float) -> None:
            service.add(track_id, seconds)
            now = anyio.current_time()
            entry = TrackInProgress(kind="music", accepted_at=now, duration=seconds)
            account.inflight.on_accepted(track_id, entry)

        queued = Waiter(client._session().pipeline)

        async def wait_for_slot() -> None:
            poller.watch_all()
            while "short" not in account.inflight.tracks:
                poller.set_deadline(queued, float("inf"))
                await poller.wait(queued)
                queued.ready = False
            poller.set_deadline(queued, float("inf"))
            with anyio.move_on_after(50):
                await poller.wait(queued)
            poller.unwatch_all()

        async with anyio.create_task_group() as group:
            accept("long", 100.0)
            group.start_soon(client.wait_for_completion, "long")
            await anyio.sleep(1)  # it drives, and sleeps until about 99 s
            group.start_soon(wait_for_slot)
            await anyio.sleep(1)
            accept("short", 20.0)
            queued.make_ready()
            await anyio.sleep(23)
            assert set(account.inflight.tracks) == {"long"}


async def test_a_track_that_is_not_needed_any_more_is_not_read_for_queued_creates() -> (
    None
):
    async with scripted_service() as (service, client):
        service.add("foreign", 1000.0)
        poller = poller_of(client)
        poller.watch_all()
        with anyio.move_on_after(5):
            await client.wait_for_completion("foreign")
        assert len(poller._watch_list) == 0


async def test_waits_go_on_through_faults_of_every_kind() -> None:
    async with emulated(
        Emulator(latency=(0.02, 0.2), queue_size=20, failure_rate=0.2)
    ) as (emulator, client):
        for action in ("html", "truncated_json", "empty", "lost_after_commit"):
            emulator.add_fault(
                Fault(action, method="GET", times=None, probability=0.05)
            )
        emulator.add_fault(Fault("status", method="GET", times=None, probability=0.1))
        accepted = [(await client.generations.create(f"s {n}")).id for n in range(20)]
        states = await wait_for_all(client, *accepted, timeout=None)
        assert {state.is_final for state in states} == {True}
        assert_nothing_left(client)
