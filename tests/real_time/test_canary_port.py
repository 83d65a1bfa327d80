"""The canary on real sockets, where frames of httpx and httpcore hold the key."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from benchmarks.proofs._proxy import Cut, proxy
from finetuning_async import AsyncClient, FinetuningError
from finetuning_async.emulator import Emulator, Fault, serve
from tests._secret_canary import HOOK, KEY, assert_clean, everything_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    for name in ("", "httpx", "httpcore", "finetuning_async"):
        caplog.set_level(1, name)
    yield
    formatter = logging.Formatter("%(message)s %(args)s")
    records = caplog.get_records("call")
    assert any(record.name.startswith("httpcore") for record in records)
    assert_clean("the log", *(formatter.format(record) for record in records))


def _client(url: str, **options: Any) -> AsyncClient:
    options = {"max_retries": 0, "request_timeout": 0.5, **options}
    return AsyncClient(KEY, base_url=url, rate_limits=None, **options)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("how", "place"), [("reset", 0), ("reset", 150), ("close", 60), ("hang", 150)]
)
async def test_a_create_whose_connection_is_cut(how: Any, place: int) -> None:
    async with Emulator(webhook_sender=_deliver) as emulator, serve(emulator) as url:
        emulator.add_key(KEY)
        async with proxy(url) as (carrier, near), _client(near) as client:
            carrier.cuts += [Cut("to service", place, how)] * 50
            with pytest.raises(FinetuningError) as caught:
                await client.me()
            assert_clean("the error", *everything_of(caught.value))
            with pytest.raises(FinetuningError) as caught:
                await client.generations.create("x", webhook=HOOK, timeout=1)
            assert_clean("the error", *everything_of(caught.value))


async def _deliver(_url: str, _headers: object, _body: bytes) -> int:
    return 200


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["me", "create", "first of a given client"])
async def test_a_cancelled_call_on_a_socket(name: str) -> None:
    async with Emulator(webhook_sender=_deliver) as emulator, serve(emulator) as url:
        emulator.add_key(KEY)
        emulator.add_fault(Fault("slow_answer", times=None, seconds=8))
        given = httpx.AsyncClient() if name.startswith("first") else None
        async with _client(url, request_timeout=None, http_client=given) as client:
            seen: list[BaseException] = []

            async def call() -> None:
                try:
                    if name != "create":
                        await client.me()
                    await client.generations.create("x", webhook=HOOK)
                except BaseException as error:
                    seen.append(error)
                    raise

            task = asyncio.ensure_future(call())
            await anyio.sleep(0.3)
            task.cancel()
            await asyncio.wait([task])
            assert_clean("the cancellation", *everything_of(seen[0], pickled=False))
        if given is not None:
            await given.aclose()


async def test_a_pool_that_is_closed_under_a_read() -> None:
    async with Emulator() as emulator, serve(emulator) as url:
        emulator.add_key(KEY)
        emulator.add_fault(Fault("slow_answer", times=None, seconds=8))
        async with _client(url) as client:

            async def read() -> None:
                with pytest.raises(FinetuningError) as caught:
                    await client.me()
                assert_clean("the error", *everything_of(caught.value))

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.sleep(0.2)
                await client._pool.acquire().client.aclose()
