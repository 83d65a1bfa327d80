"""`asyncio.run` cancels every task that is left when its main one has ended.

A task that waits there for another one, which was cancelled before it began, would wait
for ever, and with it the program.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async import AsyncClient, GenerationRequest
from tests._cancellations import cancel_at_step
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from pathlib import Path


async def generate_many(client: AsyncClient) -> None:
    requests = [GenerationRequest(mood) for mood in ("calm", "bright")]
    was_entered = False
    try:
        async with client.generate_many(requests) as outcomes:
            was_entered = True
            async for _ in outcomes:
                pass
    finally:  # as one who looks for what is in doubt
        if was_entered:
            async for _ in outcomes:
                pass


async def generate(client: AsyncClient) -> None:
    await client.generate("rain", idempotency_key="k")


async def play(client: AsyncClient) -> None:
    track = await client.generations.create("rain")
    states = [state async for state in client.watch(track)]
    async with client.open_audio(states[-1]) as audio:
        async for _ in audio:
            pass


# So says anyio of a task that is cancelled before it begins.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("work", [generate_many, generate, play])
def test_a_loop_that_ends_ends_any_call_at_any_step(tmp_path: Path, work: Any) -> None:
    paths = (tmp_path / f"{number}.db" for number in range(100_000))

    async def main(run_cancelled: Any) -> None:
        emulator = short(latency=(0.1, 0.2))
        async with emulated(emulator, journal=next(paths)) as (_, client):
            await run_cancelled(lambda: work(client))

    step = 1
    while cancel_at_step("every task", step, main):
        step += 1 if step < 20 else 17
    assert step > 20
    gc.collect()  # here, where it is not an error, and not in a later test
