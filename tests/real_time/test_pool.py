"""Hundreds of cancellations lose no connection, on real sockets.

httpx 0.28 on httpcore 1.0 loses a connection forever when a request is cancelled after
it was assigned the connection and before it uses it. Our own client is retired then;
httpx2 loses none. A caller's client of httpx is used as it is, so its losses remain.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx
import httpx2
import pytest
import trustme

from finetuning_async import AsyncClient
from finetuning_async._http._concurrency import READS
from finetuning_async.emulator import Emulator, serve
from tests._old_anyio import closes_cancelled_connects
from tests._raw_server import KEY, Asked, response, serving
from tests.real_time._http_proxy import tls_service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CANCELLED: Final = 150
AT_ONCE: Final = 25
LIBRARIES: Final[dict[str, Any]] = {"httpx": httpx, "httpx2": httpx2}


@contextlib.asynccontextmanager
async def _service(kind: str) -> AsyncGenerator[tuple[str, ssl.SSLContext]]:
    """A service that responds, and a TLS context that trusts it."""
    authority = trustme.CA()
    trusts = ssl.create_default_context()
    authority.configure_trust(trusts)
    if kind == "https":
        proves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(proves)
        async with tls_service(proves) as url:
            yield url, trusts
        return

    async def up(_: Asked) -> bytes:
        return response(200, {"status": "ok"})

    async with serving(up) as server:
        yield server.url, trusts


@contextlib.asynccontextmanager
async def _client(
    whose: str, key: str, url: str, trusts: ssl.SSLContext
) -> AsyncGenerator[AsyncClient]:
    """Our client, with its own HTTP client or with a caller's."""
    options: dict[str, Any] = {"base_url": url, "rate_limits": None}
    if whose == "our own":
        async with AsyncClient(key, verify=trusts, **options) as client:
            yield client
        return
    async with (
        LIBRARIES[whose].AsyncClient(verify=trusts) as http,
        AsyncClient(key, http_client=http, **options) as client,
    ):
        yield client


def _sockets() -> int:
    """How many sockets are open in this process."""
    held = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            held += stat.S_ISSOCK(entry.stat().st_mode)
    return held


async def _until_closed(most: int) -> None:
    """Wait until at most `most` sockets are open; the service closes its own later."""
    with anyio.fail_after(5):
        while _sockets() > most:  # noqa: ASYNC110 - there is no event for it
            await anyio.sleep(0.01)


async def _cancelled_read(client: AsyncClient, how: str, after: float) -> None:
    if how == "anyio":
        with anyio.move_on_after(after):
            await client.health()
        return
    task = asyncio.ensure_future(client.health())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])


async def _ten_reads(client: AsyncClient) -> float:
    """Read ten times at once; returns the seconds that it took."""
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(client.health)
    return anyio.current_time() - began


@pytest.mark.sampled(3)
@closes_cancelled_connects
@pytest.mark.parametrize("how", ["task.cancel", "anyio"])
@pytest.mark.parametrize("kind", ["http", "https"])
@pytest.mark.parametrize("whose", ["our own", "httpx2"])
async def test_cancelled_reads_lose_no_connection(
    whose: str, kind: str, how: str, anyio_backend: str
) -> None:
    if (how, anyio_backend) == ("task.cancel", "trio"):
        pytest.skip("trio has no cancellation but its scopes")
    rng = random.Random(f"{whose} {kind} {how}")
    longest = 0.06 if kind == "https" else 0.03
    async with _service(kind) as (url, trusts):
        before = _sockets()
        async with _client(whose, KEY, url, trusts) as client:
            usual = await _ten_reads(client)
        await _until_closed(before)
        async with _client(whose, KEY, url, trusts) as client:
            for _ in range(CANCELLED // AT_ONCE):
                async with anyio.create_task_group() as group:
                    for _ in range(AT_ONCE):
                        at = rng.uniform(0, longest)
                        group.start_soon(_cancelled_read, client, how, at)
            with anyio.fail_after(0.5 + 5 * usual):  # 0.6 to 0.8 s if not busy
                await _ten_reads(client)
            await _until_closed(before + 2 * READS)  # both ends are in this process
        await _until_closed(before)
        gc.collect()  # a connection that was left open would warn


@pytest.mark.parametrize("whose", ["our own", "httpx", "httpx2"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn runs on asyncio only
async def test_cancelled_creates_are_reported_and_paid_once(whose: str) -> None:
    rng = random.Random(2)
    reported: list[str] = []
    async with (
        Emulator(creates_per_minute=10**6, queue_size=10**6) as emulator,
        serve(emulator) as url,
    ):
        before = _sockets()
        trusts = ssl.create_default_context()
        async with _client(whose, emulator.api_key, url, trusts) as client:
            await client.me()
            began = anyio.current_time()
            for _ in range(10):
                await client.me()
            # So long that some of eight at once end, also on a machine that is busy.
            longest = max(0.02, 8 * (anyio.current_time() - began) / 10)

            async def create(after: float) -> None:
                with anyio.move_on_after(after):
                    await client.generations.create(
                        "x", on_submitted=lambda track: reported.append(track.id)
                    )

            for _ in range(20):
                async with anyio.create_task_group() as group:
                    for _ in range(8):
                        group.start_soon(create, rng.uniform(0, longest))
            assert (await client.generations.create("y")).id in emulator.tracks
        reported.append(next(t.id for t in emulator.tracks.values() if t.prompt == "y"))
        assert len(reported) > 20
        assert sorted(reported) == sorted(emulator.tracks)
        assert len(emulator.ledger) == len(reported)
        await _until_closed(before)


@contextlib.asynccontextmanager
async def _one_answer_each() -> AsyncGenerator[tuple[str, list[Asked]]]:
    """A server that closes each connection after one response, without saying so."""

    async def answer(asked: Asked) -> bytes:
        await asked.stream.send(response(200, {"status": "ok"}))
        return b""

    async with serving(answer) as server:
        yield server.url, server.asked


@pytest.mark.parametrize("whose", ["our own", "httpx", "httpx2"])
async def test_a_connection_that_the_service_closed_is_replaced(whose: str) -> None:
    async with (
        _one_answer_each() as (url, asked),
        _client(whose, KEY, url, ssl.create_default_context()) as client,
    ):
        for _ in range(3):
            await client.health()
            await anyio.sleep(0.02)
    assert [one.connection for one in asked] == [0, 1, 2]


@pytest.mark.parametrize("whose", ["our own", "httpx2"])
async def test_hung_reads_do_not_block_a_create(whose: str) -> None:
    all_hang = anyio.Event()

    async def answer(asked: Asked) -> bytes:
        if not asked.is_create:
            if len(server.asked) == READS:
                all_hang.set()
            await anyio.sleep_forever()
        return response(202, {"data": {"id": "gen_1", "status": "processing"}})

    async with (
        serving(answer) as server,
        _client(whose, KEY, server.url, ssl.create_default_context()) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(READS + 5):
            group.start_soon(client.health)
        with anyio.fail_after(20):
            await all_hang.wait()
        with anyio.fail_after(2):
            assert (await client.generations.create("x")).id == "gen_1"
        assert len(server.asked) == READS + 1
        group.cancel_scope.cancel()
