"""Many accounts in one process: what one weighs, and whether more make each dearer.

The second part runs in virtual time: each account keeps five tracks in progress and
creates another when one has ended. The processor's time is divided by the requests; the
service's own is taken off. Beside it stands bare httpx, with a task for each track that
sleeps and looks.

Whatever the program, more tasks that wait mean more objects for the garbage collector
to go through. So each is measured as Python comes, and with a collector that sets in
less often, which is a line in a program; the number of Python's calls for a request,
which is exact, is that of the program alone.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
import attrs

from benchmarks.weight._service import (
    BASE_URL,
    KEY,
    PROMPT,
    TRACK_TAKES,
    Service,
    httpx_client,
    in_memory,
)
from finetuning_async import AsyncClient
from finetuning_async.testing import jumping_backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Measure: TypeAlias = Callable[[int, float, int], Awaitable["Cost"]]
    Track: TypeAlias = Callable[[int], Awaitable[object]]

TRACKS: Final = 5
"""Under way in each account at a time."""

SETTLED: Final = 33.0
"""Seconds of the loop's clock after which each account is at its pace."""

SLEEP: Final = 10.0
"""Seconds between two looks of a task that uses bare httpx."""

THRESHOLD: Final = 10_000
"""Objects made, less those freed, until the collector sets in; 700 as it is."""

FEW: Final = 10
MANY: Final = 2_000


def weight(count: int = 1_000) -> float:
    """Bytes of an account that was used once, beside others on one pool."""
    return anyio.run(_weigh, count)


async def _weigh(count: int) -> float:
    service = Service(delay=0)
    with in_memory(service):
        client = AsyncClient(KEY, base_url=BASE_URL)
        await client.generations.get("any")
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        views = [client.with_options(api_key=_key(n)) for n in range(count)]
        for view in views:
            await view.generations.get("any")
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return (after - before) / count


def _key(number: int) -> str:
    return f"ft_live_{number:032x}"


@attrs.frozen
class Cost:
    """What a request costs.

    Attributes:
        cpu: Microseconds of the processor, the garbage collector included.
        tuned: The same with ``gc.set_threshold(10_000)``.
        calls: Calls of functions, those of the service included.
    """

    cpu: float
    tuned: float
    calls: float


async def ours(accounts: int, seconds: float, seed: int) -> Cost:
    """Of our client, with a view for each account."""
    service = Service()
    with in_memory(service):
        client = AsyncClient(KEY, base_url=BASE_URL)
        views = [client.with_options(api_key=_key(n)) for n in range(accounts)]

        async def track(account: int) -> None:
            await views[account].generate(PROMPT, bpm=70)

        return await _cost(service, track, accounts, seconds, seed)


async def bare_httpx(accounts: int, seconds: float, seed: int) -> Cost:
    """Of bare httpx, with a task for each track that sleeps and looks."""
    service = Service()
    async with httpx_client(service) as http:
        body = {"tags": PROMPT, "bpm": 70, "seed": 7}

        async def track(account: int) -> None:
            headers = {"X-API-Key": _key(account)}
            url = "/v1/generations"
            response = (await http.post(url, json=body, headers=headers)).json()
            while response["data"]["status"] != "completed":
                await anyio.sleep(SLEEP)
                url = f"/v1/generations/{response['data']['id']}"
                response = (await http.get(url, headers=headers)).json()

        return await _cost(service, track, accounts, seconds, seed)


async def _cost(
    service: Service, track: Track, accounts: int, seconds: float, seed: int
) -> Cost:
    rng = random.Random(seed)

    async def again_and_again(account: int, start: float) -> None:
        await anyio.sleep(start)
        while True:
            await track(account)

    starts = [rng.uniform(0, TRACK_TAKES) for _ in range(accounts)]
    tasks = [
        asyncio.create_task(again_and_again(n, start))
        for n, start in enumerate(starts)
        for _ in range(TRACKS)
    ]
    await anyio.sleep(SETTLED)
    cpu = await _cpu(service, seconds)
    usual = gc.get_threshold()
    gc.set_threshold(THRESHOLD)
    tuned = await _cpu(service, seconds)
    gc.set_threshold(*usual)
    calls = await _calls(service, seconds / 4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Cost(cpu, tuned, calls)


async def _cpu(service: Service, seconds: float) -> float:
    requests, spent, began = service.requests, service.cpu, time.process_time()
    await anyio.sleep(seconds)
    taken = time.process_time() - began - (service.cpu - spent)
    return taken / (service.requests - requests) * 1e6


async def _calls(service: Service, seconds: float) -> float:
    requests, calls = service.requests, 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    await anyio.sleep(seconds)
    sys.setprofile(None)
    return calls / (service.requests - requests)


def run(measure: Measure, accounts: int, seconds: float, seed: int = 1) -> Cost:
    """Measure in virtual time."""
    name, options = jumping_backend("asyncio")
    return anyio.run(
        measure, accounts, seconds, seed, backend=name, backend_options=dict(options)
    )
