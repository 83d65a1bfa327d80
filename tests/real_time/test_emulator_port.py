"""What only a real port has. Everything else is in the conformance suite."""

from __future__ import annotations

import time

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, serve

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@on_asyncio
async def test_a_port_serves_audio_at_its_own_address() -> None:
    async with Emulator(speed=1000) as emulator, serve(emulator) as url:
        async with httpx.AsyncClient(headers={"X-API-Key": emulator.api_key}) as http:
            answer = await http.post(f"{url}/v1/generations", json={"tags": "lofi"})
            track = emulator.tracks[answer.json()["data"]["id"]]
            assert track.audio_url == f"{url}/media/audio/{track.id}.mp3"
            begin = time.perf_counter()
            for _ in range(40):
                assert (await http.get(f"{url}/health")).status_code == 200
            assert time.perf_counter() - begin < 1  # with Nagle's delay: 1.8 s


@on_asyncio
async def test_two_ports_can_be_open_and_are_free_again() -> None:
    async with Emulator() as emulator:
        async with serve(emulator) as one, serve(emulator) as two:
            assert one != two
        port = int(one.rpartition(":")[2])
        async with serve(emulator, port=port) as again:
            assert again == one


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_gets_a_clear_error() -> None:
    async with Emulator() as emulator:
        with pytest.raises(RuntimeError, match="asyncio only"):
            async with serve(emulator):
                pass


@on_asyncio
async def test_a_taken_port_is_an_os_error() -> None:
    async with Emulator() as emulator, serve(emulator) as url:
        with pytest.raises(OSError, match="in use"):
            async with serve(emulator, port=int(url.rpartition(":")[2])):
                pass


@on_asyncio
async def test_a_webhook_leaves_by_a_real_connection() -> None:
    async with Emulator(speed=1000) as emulator, serve(emulator) as url:
        wish = {"tags": "lofi", "webhook": f"{url}/hook?token=1"}
        async with httpx.AsyncClient(headers={"X-API-Key": emulator.api_key}) as http:
            await http.post(f"{url}/v1/generations", json=wish)
        with anyio.fail_after(5):
            while not delivered(emulator):  # noqa: ASYNC110 - there is no event
                await anyio.sleep(0.02)
        assert emulator.webhooks[0].status == 404
        assert emulator.requests[-1].headers["user-agent"] == "finetuning-webhook/1.0"


def delivered(emulator: Emulator) -> bool:
    return any(record.status for record in emulator.webhooks)
