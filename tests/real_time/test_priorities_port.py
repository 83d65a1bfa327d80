"""A person before a batch, on a real socket and a real clock."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from finetuning_async import AsyncClient, CapacityError, CreateWaiting
from finetuning_async.emulator import Emulator, serve

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


async def _watched(client: AsyncClient, reports: list[CreateWaiting]) -> None:
    await client.generate("mine", on_waiting=reports.append)
