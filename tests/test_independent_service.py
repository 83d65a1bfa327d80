"""Many tracks against a model of the service that is not the emulator."""

from __future__ import annotations

import anyio
import pytest

from finetuning_async import AsyncClient, Generation, GenerationFailedError
from tests._emulated_client import Cookieless
from tests._service_model import ServiceModel, Window

KEY = "ft_live_" + "0" * 32


async def run(model: ServiceModel, tracks: int) -> list[Generation | Exception]:
    """Generate tracks concurrently, and return how each ended."""
    ends: list[Generation | Exception] = []

    async def one(client: AsyncClient, number: int) -> None:
        try:
            ends.append(await client.generate(f"track {number}"))
        except GenerationFailedError as error:
            ends.append(error)

    async with Cookieless(transport=model) as http:
        async with AsyncClient(KEY, http_client=http) as client:
            async with anyio.create_task_group() as group:
                for number in range(tracks):
                    group.start_soon(one, client, number)
    return ends


@pytest.mark.sampled(3)
@pytest.mark.parametrize("window", ["fixed", "log"])
@pytest.mark.parametrize("headers", [True, False])
async def test_forty_tracks_get_no_429_and_are_paid_once(
    window: Window, headers: bool
) -> None:
    model = ServiceModel(seed=7, window=window, headers=headers)
    started = anyio.current_time()
    ends = await run(model, 40)
    assert len(ends) == len(model.jobs) == 40
    assert all(isinstance(end, Generation) for end in ends)
    assert model.refusals() == 0
    # 40 creates at 10 a minute take 3 minutes; the last track up to 2 more.
    assert anyio.current_time() - started < 3 * 60 * 1.03 + 125


@pytest.mark.sampled(2)
async def test_a_short_queue_is_learned_and_then_used() -> None:
    model = ServiceModel(seed=3, queue=4)
    ends = await run(model, 40)
    assert len(ends) == len(model.jobs) == 40
    assert model.refusals() == 0
    assert model.queue_full() <= 3


@pytest.mark.sampled(2)
async def test_failed_tracks_are_raised_with_the_reason() -> None:
    model = ServiceModel(seed=5, failure_rate=0.5)
    ends = await run(model, 30)
    failed = [end for end in ends if isinstance(end, GenerationFailedError)]
    assert len(failed) == sum(job.fails for job in model.jobs) > 5
    assert {str(error.generation.error_message) for error in failed} == {
        "renderer ran out"
    }
