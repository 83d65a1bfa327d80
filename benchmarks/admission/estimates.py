"""How far `estimate` is from what happens, by a whole client against the emulator.

Others' creates wait already when a caller asks for 1, 10 or 200 and then makes them.
Tracks take 40 to 60 s; the service's queue has five places, or more than are used.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import attrs
import httpx

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator
from finetuning_async.testing import JumpingEventLoop

if TYPE_CHECKING:
    from finetuning_async import Estimate
    from finetuning_async._types import Priority

WARMUP: Final = 12
"""Tracks that end before, so that their durations and the queue are known."""


@attrs.frozen
class Error:
    """How far an estimate was off.

    Attributes:
        first_sent: As a part of what happened.
        last_completed: Likewise.
        expected: Seconds until the first create should have gone out.
        waited: Seconds until it went out.
    """

    first_sent: float
    last_completed: float
    expected: float
    waited: float

    def is_wrong(self, bound: float, tolerance: float) -> bool:
        """Whether a create with this `max_wait` would have been judged wrongly.

        Args:
            bound: The `max_wait`, in seconds.
            tolerance: What does not count, as a part of the bound.
        """
        differs = (self.expected > bound) != (self.waited > bound)
        return differs and abs(self.waited - bound) > tolerance * bound


def errors(seed: int, creates: int, places: int, priority: Priority) -> Error:
    """Compare one estimate with what happened."""
    with asyncio.Runner(loop_factory=JumpingEventLoop) as runner:
        return runner.run(_run(seed, creates, places, priority))


async def _run(seed: int, creates: int, places: int, priority: Priority) -> Error:
    rng, loop = random.Random(seed), asyncio.get_running_loop()
    emulator = Emulator(
        seed=seed,
        queue_size=places,
        generation_time=(40, 60),
        latency=(0.02, 0.2),
        credits=10**6,
    )
    async with (
        emulator,
        httpx.AsyncClient(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            http_client=http,
            priority=priority,
        ) as client,
    ):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WARMUP):
                tasks.create_task(client.generate("before", duration=30))
        load = [
            asyncio.create_task(client.generate("load", wait_timeout=None))
            for _ in range(rng.randint(10, 60))
        ]
        await asyncio.sleep(rng.uniform(5, 90))
        known, began = client.estimate(creates), loop.time()
        names = [f"mine {n}" for n in range(creates)]
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(client.generate(name, wait_timeout=None))
        done = loop.time() - began
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        mine = set(names)
        sent = [t.created_at for t in emulator.tracks.values() if t.prompt in mine]
        return _error(known, min(sent) - began, done)


def _error(known: Estimate, first_sent: float, last_completed: float) -> Error:
    # Below a second it is noise, of the network and of the poll loop.
    return Error(
        abs(known.first_sent - first_sent) / max(first_sent, 1.0),
        abs(known.last_completed - last_completed) / last_completed,
        known.first_sent,
        first_sent,
    )
