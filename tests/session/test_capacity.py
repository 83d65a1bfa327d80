"""A create that would wait too long is refused, at once if that is known at once."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from finetuning_async import CapacityError, InvalidRequestError, RateLimits
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated, short


async def test_a_create_that_would_wait_too_long_is_refused_at_once() -> None:
    async with emulated(short(queue_size=100)) as (emulator, client):
        for _ in range(10):
            await client.generations.create("before")
        began, sent = anyio.current_time(), emulator.count()
        with pytest.raises(CapacityError, match="max_wait=10 allows no more") as caught:
            await client.generations.create("rain", max_wait=10)
        assert anyio.current_time() - began < 0.1
        assert emulator.count() == sent
        assert caught.value.retry_after == pytest.approx(50, abs=2)
        assert caught.value.safe_to_retry


async def test_after_retry_after_the_same_call_is_let_in() -> None:
    async with emulated(short(queue_size=100)) as (_, client):
        for _ in range(10):
            await client.generations.create("before")
        with pytest.raises(CapacityError) as caught:
            await client.generations.create("rain", max_wait=10)
        await anyio.sleep((caught.value.retry_after or 0) + 0.01)
        began = anyio.current_time()
        await client.generations.create("rain", max_wait=10)
        assert anyio.current_time() - began < 10.5


async def test_a_place_in_a_full_queue_counts_as_well() -> None:
    service = Emulator(queue_size=2, generation_time=(100, 100))
    limits = RateLimits(queue=2)
    async with emulated(service, rate_limits=limits, max_wait=20) as (emulator, client):
        for _ in range(2):
            await client.generations.create("before")
        with pytest.raises(CapacityError):
            await client.generations.create("rain")
        await client.generations.create("rain", max_wait=150)
        assert emulator.count(status=429) == 0


async def test_a_refused_create_leaves_the_line_to_others() -> None:
    async with emulated(short(queue_size=100)) as (_, client):
        async with anyio.create_task_group() as tasks:
            for _ in range(11):
                tasks.start_soon(client.generations.create, "before")
            await anyio.sleep(1)
            with pytest.raises(CapacityError):
                await client.generate("rain", max_wait=0)
            assert client.rate_limit_status().creates.waiting == 1


@pytest.mark.parametrize("wrong", [-1, float("nan"), "soon"])
async def test_max_wait_must_be_a_number_of_seconds(wrong: Any) -> None:
    async with emulated() as (_, client):
        with pytest.raises(InvalidRequestError, match="max_wait"):
            await client.generations.create("rain", max_wait=wrong)


async def test_priority_and_share_of_a_call_count_before_those_of_the_client() -> None:
    async with emulated(short(queue_size=100), priority="low") as (service, client):
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                await client.generations.create("before")
            for name in ("low", "low"):
                tasks.start_soon(client.generations.create, name)
            await anyio.sleep(1)

            async def person() -> None:
                await client.generate("person", priority="high", share="visitor")

            tasks.start_soon(person)
        tracks = sorted(service.tracks.values(), key=lambda track: track.created_at)
        assert [track.prompt for track in tracks][10:] == ["person", "low", "low"]
