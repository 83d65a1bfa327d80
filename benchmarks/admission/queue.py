"""A whole client against the emulator, whose queue takes five tracks.

A thousand `low` creates wait, and persons come at random with a `high` one. The clock
is virtual; tracks take 40 to 60 s, requests 20 to 200 ms each way.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import httpx

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from finetuning_async import Event

BATCH: Final = 1000
PERSONS: Final = 20
PLACES: Final = 5


def waits_of_persons(seed: int) -> list[tuple[float, float]]:
    """Seconds to the first byte of each person's create, and to the next free place."""
    with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
        return runner.run(_run(seed))


async def _run(seed: int) -> list[tuple[float, float]]:
    rng, loop = random.Random(seed), asyncio.get_running_loop()
    emulator = Emulator(
        seed=seed,
        queue_size=PLACES,
        generation_time=(40, 60),
        latency=(0.02, 0.2),
        credits=10**6,
    )
    wire = _Wire(emulator.transport())
    async with (
        emulator,
        httpx.AsyncClient(transport=wire) as http,
        AsyncClient(
            emulator.api_key, base_url=emulator.base_url, http_client=http
        ) as client,
    ):
        batch = client.with_options(priority="low")
        tasks = [
            asyncio.create_task(batch.generations.create(f"song {n}"))
            for n in range(BATCH)
        ]
        await asyncio.sleep(300)
        measured = []
        for _ in range(PERSONS):
            await asyncio.sleep(rng.uniform(20, 100))
            free_in = _next_free_place(emulator, loop.time(), wire.creates)
            began, sent = loop.time(), list[float]()

            def note(event: Event, sent: list[float] = sent) -> None:
                if type(event).__name__ == "RequestSent" and event.method == "POST":  # type: ignore[union-attr]  # only that event has one
                    sent.append(event.at)

            person = client.with_options(priority="high", on_event=note)
            await person.generations.create("a person's")
            measured.append((sent[-1] - began, free_in))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return measured


class _Wire(httpx.AsyncBaseTransport):
    """Counts the creates that are on their way."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self.creates = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        is_create = request.method == "POST"
        self.creates += is_create
        try:
            return await self._transport.handle_async_request(request)
        finally:
            self.creates -= is_create


def _next_free_place(emulator: Emulator, now: float, in_flight: int) -> float:
    """Seconds; a create in flight has its place already."""
    ends = [t.ends_at - now for t in emulator.tracks.values() if t.ends_at > now]
    return 0.0 if len(ends) + in_flight < PLACES else min(ends)
