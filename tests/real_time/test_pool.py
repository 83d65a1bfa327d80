"""Thousands of cancellations leave the connection pool whole, on real sockets.

httpx 0.28 on httpcore 1.0 loses a connection for ever when a request is cancelled
between being given it and using it; a pool of four is full after a few rounds.
"""

from __future__ import annotations

import asyncio
import random

import anyio
import httpx
import pytest

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator, serve
from tests._old_anyio import closes_cancelled_connects

ROUNDS, AT_ONCE, CONNECTIONS = 150, 8, 4


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn knows no other loop


def _stuck(http: httpx.AsyncClient) -> list[str]:
    """Connections of the pool that are in use although nothing is under way."""
    pool = http._transport._pool  # type: ignore[attr-defined] # httpcore's own
    return [repr(c) for c in pool.connections if not (c.is_idle() or c.is_closed())]


@closes_cancelled_connects
@pytest.mark.parametrize("how", ["task.cancel", "anyio"])
async def test_cancelled_reads_leave_the_pool_whole(how: str) -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=0.002)
    rng = random.Random(1)
    async with (
        Emulator(reads_per_minute=10**6) as emulator,
        serve(emulator) as url,
        httpx.AsyncClient(limits=limits) as http,
        AsyncClient(
            emulator.api_key, base_url=url, http_client=http, rate_limits=None
        ) as client,
    ):
        await client.me()
        for _ in range(ROUNDS):
            await asyncio.gather(
                *(_cut_short(client, how, rng.uniform(0, 0.01)) for _ in range(AT_ONCE))
            )
        await anyio.sleep(1.2)
        assert _stuck(http) == []
        with anyio.fail_after(5):
            await client.me()


async def _cut_short(client: AsyncClient, how: str, after: float) -> None:
    if how == "anyio":
        with anyio.move_on_after(after):
            await client.me()
        return
    task = asyncio.ensure_future(client.me())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])


async def test_cancelled_creates_leave_the_pool_whole_and_pay_once() -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=0.002)
    rng = random.Random(2)
    told: list[str] = []
    async with (
        Emulator(creates_per_minute=10**6, queue_size=10**6) as emulator,
        serve(emulator) as url,
        httpx.AsyncClient(limits=limits) as http,
        AsyncClient(
            emulator.api_key, base_url=url, http_client=http, rate_limits=None
        ) as client,
    ):
        await client.me()

        async def create(after: float) -> None:
            with anyio.move_on_after(after):
                await client.generations.create(
                    "x", on_submitted=lambda track: told.append(track.id)
                )

        for _ in range(40):
            await asyncio.gather(*(create(rng.uniform(0, 0.01)) for _ in range(8)))
        assert _stuck(http) == []
        assert sorted(told) == sorted(emulator.tracks)
        assert len(emulator.ledger) == len(told)
