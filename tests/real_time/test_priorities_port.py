"""A person before a batch, on a real socket and a real clock."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import (
    AsyncClient,
    CapacityError,
    CreateWaiting,
    Event,
    RateLimit,
    RateLimits,
    RequestSent,
)
from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from finetuning_async import Priority

pytestmark = pytest.mark.real_time

PERIOD = 3.0
"""Seconds in which ten creates are served."""

GAP = PERIOD / 10


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


async def test_a_person_waits_a_gap_behind_a_batch_whose_creates_go_evenly() -> None:
    emulator = Emulator(speed=60 / PERIOD, queue_size=1000, latency=(0.01, 0.03))
    async with (
        emulator,
        serve(emulator) as url,
        AsyncClient(
            emulator.api_key, base_url=url, rate_limits=emulator.rate_limits
        ) as client,
    ):
        batch = client.with_options(priority="low")
        person = client.with_options(priority="high", share="visitor")
        reports: list[CreateWaiting] = []
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(batch.generations.create, f"song {number}")
            await anyio.sleep(1.5 * PERIOD)
            for number in range(3):
                await person.generations.create(f"a person's {number}")
                await anyio.sleep(1.7 * GAP)
            with pytest.raises(CapacityError):
                await batch.generate("x", max_wait=GAP)
            for _ in range(3):  # the first may find a permit that is free
                tasks.start_soon(_watched, client, reports)
            await anyio.sleep(2 * GAP)
            tasks.cancel_scope.cancel()
        assert reports[0].position == 0
        sent = {t.prompt: t.created_at for t in emulator.tracks.values()}
        songs = sorted(at for name, at in sent.items() if name.startswith("song"))
        gaps = [b - a for a, b in pairwise(songs)]
        # In bursts, most would be a few milliseconds.
        assert sorted(gaps)[len(gaps) // 2] == pytest.approx(GAP, rel=0.3)
        assert sum(name.startswith("a person") for name in sent) == 3
        assert emulator.count(status=429) == 0


async def test_one_that_is_overtaken_is_refused_long_before_its_time_is_over() -> None:
    emulator = Emulator(speed=60 / PERIOD, queue_size=1000, latency=(0.01, 0.03))
    async with (
        emulator,
        serve(emulator) as url,
        AsyncClient(
            emulator.api_key, base_url=url, rate_limits=emulator.rate_limits
        ) as client,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(12):  # two wait; of ten permits one goes to lower ones
            tasks.start_soon(client.generations.create, "before")
        await anyio.sleep(0.2)
        began = anyio.current_time()
        tasks.start_soon(_overtake_after, client, 0.5, tasks)
        with pytest.raises(CapacityError, match="it waited") as caught:
            await client.generations.create("mine", max_wait=1.1 * PERIOD)
        assert 0.5 <= anyio.current_time() - began < 1.5, "not 3.3"
        assert (caught.value.retry_after or 0) > 0.5 * PERIOD
        assert emulator.count(status=429) == 0
        tasks.cancel_scope.cancel()


async def _overtake_after(client: AsyncClient, pause: float, tasks: TaskGroup) -> None:
    await anyio.sleep(pause)
    first = client.with_options(priority="high")
    for _ in range(30):
        tasks.start_soon(first.generations.create, "first")


async def test_a_caller_sees_why_its_create_waits() -> None:
    emulator = Emulator(speed=60, queue_size=1, generation_time=(18, 18))
    limits = RateLimits(creates=RateLimit(3), queue=1)
    async with (
        emulator,
        serve(emulator) as url,
        AsyncClient(emulator.api_key, base_url=url, rate_limits=limits) as client,
    ):
        emulator.add_fault(
            Fault("status", status=429, code="RATE_LIMITED", retry_after=1)
        )
        reports: list[CreateWaiting] = []
        await client.generate("refused at first", on_waiting=reports.append)
        assert reports[0].reason == "retry_after"
        assert reports[0].expected_start - reports[0].at == pytest.approx(1.1, abs=0.2)
        running = await client.generations.create("running")
        reports.clear()
        with anyio.move_on_after(0.1):
            await client.generate("behind it", on_waiting=reports.append)
        assert [event.reason for event in reports] == ["queue"]
        await client.wait_for_completion(running)
        reports.clear()
        with anyio.move_on_after(0.1):
            await client.generate("the fourth in a minute", on_waiting=reports.append)
        assert [event.reason for event in reports] == ["rate_limit"]
        assert reports[0].expected_start - reports[0].at > 50


@pytest.mark.parametrize(("priority", "is_hurried"), [("high", True), ("low", False)])
async def test_while_a_person_waits_for_a_place_the_tracks_are_read_more_often(
    priority: Priority, is_hurried: bool
) -> None:
    emulator = Emulator(speed=10, queue_size=1, generation_time=(10, 10))
    limits = RateLimits(reads=RateLimit(60, per=6.0), queue=1)
    reads: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, RequestSent) and event.method == "GET":
            reads.append(event.at)

    async with (
        emulator,
        serve(emulator) as url,
        AsyncClient(
            emulator.api_key, base_url=url, rate_limits=limits, on_event=note
        ) as client,
    ):
        await client.generations.create("running")
        await client.generations.create("mine", priority=priority)
    # Else polling may send one in 143 ms, as it has 42 of the 60 in 6 s.
    quick = [after - before < 0.1 for before, after in pairwise(reads)]
    assert sum(quick) >= 4 if is_hurried else not any(quick)


async def _watched(client: AsyncClient, reports: list[CreateWaiting]) -> None:
    await client.generate("mine", on_waiting=reports.append)
