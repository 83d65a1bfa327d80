"""Connections of our own on real sockets: cancelled, kept idle, behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import random
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import AsyncClient
from finetuning_async._transport import _connections
from finetuning_async.emulator import Emulator, serve
from tests._old_anyio import closes_cancelled_connects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ROUNDS, AT_ONCE, CONNECTIONS = 150, 8, 4
KEY = "ft_live_" + "e" * 32


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn knows no other loop


@closes_cancelled_connects
@pytest.mark.parametrize("how", ["task.cancel", "anyio"])
async def test_cancelled_reads_leave_our_connections_whole(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "AT_MOST", CONNECTIONS)
    monkeypatch.setattr(_connections, "KEPT", 0.002)
    rng = random.Random(1)
    async with Emulator(reads_per_minute=10**6) as emulator, serve(emulator) as url:
        before = _sockets()
        async with AsyncClient(
            emulator.api_key, base_url=url, rate_limits=None
        ) as client:
            await client.me()
            for _ in range(ROUNDS):
                await asyncio.gather(
                    *(
                        _cut_short(client, how, rng.uniform(0, 0.01))
                        for _ in range(AT_ONCE)
                    )
                )
            with anyio.fail_after(5):
                await asyncio.gather(*(client.me() for _ in range(CONNECTIONS)))
        with anyio.fail_after(5):
            while _sockets() > before:  # noqa: ASYNC110 - the service's own sockets end unannounced
                await anyio.sleep(0.01)


async def _cut_short(client: AsyncClient, how: str, after: float) -> None:
    if how == "anyio":
        with anyio.move_on_after(after):
            await client.me()
        return
    task = asyncio.ensure_future(client.me())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])


def _sockets() -> int:
    """How many sockets this process holds."""
    held = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            held += stat.S_ISSOCK(entry.stat().st_mode)
    return held


@contextlib.asynccontextmanager
async def _one_answer_each() -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server that answers once a connection and then closes it, without a word."""
    heads: list[bytes] = []

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_a_connection_that_the_service_closed_is_replaced() -> None:
    async with (
        _one_answer_each() as (url, heads),
        AsyncClient(KEY, base_url=url, max_retries=0) as client,
    ):
        for _ in range(3):
            await client.health()
            await anyio.sleep(0.02)
    assert len(heads) == 3


async def test_a_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with _one_answer_each() as (url, heads):
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, url)
        async with AsyncClient(KEY, base_url="http://localhost:9") as client:
            await client.health()
    assert heads[0].startswith(b"GET http://localhost:9/health HTTP/1.1\r\n")
