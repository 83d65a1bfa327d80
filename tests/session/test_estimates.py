"""What a client expects of creates and of tracks, beside what happens."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    GenerationRequest,
    InvalidRequestError,
    LocalRateLimiter,
    RateLimits,
)
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from finetuning_async import AsyncClient, Progress


async def test_nothing_waits_and_a_create_goes_at_once() -> None:
    async with emulated() as (_, client):
        estimate = client.estimate()
        assert (estimate.first_sent, estimate.position) == (0, 0)
        assert estimate.last_completed == pytest.approx(71, abs=2)


async def test_a_batch_knows_when_it_will_be_done_with_a_stated_queue() -> None:
    service = Emulator(queue_size=5, generation_time=(70, 70))
    limits = RateLimits(queue=5)
    async with emulated(service, rate_limits=limits) as (_, client):
        estimate = client.estimate(20)
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(client.generate, "rain")
        took = anyio.current_time() - started
        assert service.count(code="QUEUE_FULL") == 0
        assert estimate.last_completed == pytest.approx(took, rel=0.1)


async def test_those_of_higher_priority_count_and_those_of_lower_do_not() -> None:
    async with emulated(short(queue_size=100)) as (_, client):
        low = client.with_options(priority="low")
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(client.generations.create, "now")
            await anyio.sleep(1)
            for _ in range(30):
                tasks.start_soon(client.generations.create, "later")
            await anyio.sleep(1)
            assert low.estimate().position == 9, "a tenth goes to lower ones"
            assert client.estimate(priority="high").position == 0
            assert client.estimate(share="another").position == 1
            assert client.estimate().position == 30
            assert client.estimate().first_sent == pytest.approx(4 * 60 - 2, abs=5)
            tasks.cancel_scope.cancel()


async def test_a_limiter_of_the_callers_says_when_the_next_may_go() -> None:
    class Own(LocalRateLimiter):
        def earliest(self, route: str, **terms: Any) -> float:
            return anyio.current_time() + 30

    async with emulated(rate_limiter=Own()) as (_, client):
        assert client.estimate().first_sent == pytest.approx(30, abs=0.1)


async def test_the_progress_of_a_track_follows_how_long_tracks_take() -> None:
    service = Emulator(generation_time=(40, 40))
    async with emulated(service) as (_, client):
        for _ in range(4):
            await client.generate("rain")
        track = await client.generations.create("rain")
        await anyio.sleep(20)
        for known in (track, track.id):
            progress = client.progress(known)
            assert progress.fraction == pytest.approx(0.5, abs=0.05)
            assert progress.remaining == pytest.approx(20, abs=2)
        final = await client.wait_for_completion(track)
        assert client.progress(final).fraction == 1


async def test_nothing_is_known_of_a_foreign_id() -> None:
    async with emulated() as (_, client):
        with pytest.raises(InvalidRequestError, match="generation_or_id"):
            client.progress("5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918")


@pytest.mark.parametrize("wrong", [{"creates": 0}, {"priority": "x"}, {"share": ""}])
async def test_what_is_asked_must_be_in_its_range(wrong: dict[str, Any]) -> None:
    async with emulated() as (_, client):
        with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
            client.estimate(**wrong)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_expected_end_is_right_within_a_fifth_after_ten_tracks(
    seed: int,
) -> None:
    service = Emulator(generation_time=(40, 60), seed=seed, queue_size=50)
    async with emulated(service) as (emulator, client):
        await many(client, 10)
        errors: dict[str, float] = {}

        def check(track: Any, progress: Progress) -> None:
            if track.id not in errors:
                left = emulator.tracks[track.id].ends_at - anyio.current_time()
                errors[track.id] = abs(progress.remaining - left) / left

        await many(client, 30, on_track_progress=check)
        assert len(errors) == 30
        assert statistics.median(errors.values()) < 0.2


async def many(client: AsyncClient, count: int, **options: Any) -> None:
    requests = [GenerationRequest(f"song {n}", duration=5) for n in range(count)]
    async with client.generate_many(requests, **options) as outcomes:
        async for outcome in outcomes:
            outcome.result()
