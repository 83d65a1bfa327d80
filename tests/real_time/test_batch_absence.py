"""A batch on a real port and the real clock: a 404, a foreign key, a small budget."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import (
    AsyncClient,
    Budget,
    GenerationRequest,
    RateLimit,
    RateLimits,
)
from finetuning_async.batch import Batch, BatchError
from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from pathlib import Path

SPEED = 10.0
LIMITS = RateLimits(
    creates=RateLimit(10, per=60 / SPEED), reads=RateLimit(60, per=60 / SPEED)
)
OTHER = "ft_live_" + 32 * "b"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on asyncio only


async def test_one_404_ends_no_item_and_another_account_is_refused(
    tmp_path: Path,
) -> None:
    emulator = Emulator(speed=SPEED, audio=b"ID3", generation_time=(20, 20))
    async with emulator, serve(emulator) as url:
        emulator.add_account(OTHER)
        async with (
            AsyncClient(emulator.api_key, base_url=url, rate_limits=LIMITS) as client,
            Batch(client, tmp_path) as batch,
        ):
            await batch.add([GenerationRequest("rain")])
            results = batch.run()
            await anyio.sleep(1.2)
            fault = emulator.add_fault(
                Fault(
                    "status",
                    "/v1/generations/*",
                    method="GET",
                    status=404,
                    code="NOT_FOUND",
                )
            )
            (item,) = [item async for item in results]
        assert fault.hits == 1
        assert item.state == "downloaded", item.error
        async with (
            AsyncClient(OTHER, base_url=url, rate_limits=LIMITS) as stranger,
            Batch(stranger, tmp_path) as batch,
        ):
            with pytest.raises(BatchError, match="was made by account"):
                await batch.add([GenerationRequest("wind")])
        assert len(emulator.ledger) == 1


async def test_a_budget_smaller_than_a_burst_is_waited_for(tmp_path: Path) -> None:
    period = 0.4
    emulator = Emulator(speed=100, audio=b"ID3", generation_time=(10, 10))
    async with (
        emulator,
        serve(emulator) as url,
        AsyncClient(
            emulator.api_key,
            base_url=url,
            rate_limits=emulator.rate_limits,
            budget=Budget(1, per=period),
        ) as client,
        Batch(client, tmp_path) as batch,
    ):
        await batch.add([GenerationRequest(f"rain {number}") for number in range(3)])
        states = [item.state async for item in batch.run()]
        assert batch.paused is None
    assert states == ["downloaded"] * 3
    sent = sorted(track.created_at for track in emulator.tracks.values())
    assert all(period <= after - before for before, after in pairwise(sent))
