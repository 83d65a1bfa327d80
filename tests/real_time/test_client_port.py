"""The client against uvicorn on a real port, with rate limits scaled to 2 s."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import APIConnectionError, APITimeoutError, AsyncClient
from finetuning_async._runtime._threads import has_virtual_clock, in_thread
from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.sampled(2)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


async def test_fifteen_tracks_on_a_port_get_no_429(tmp_path: Path) -> None:
    emulator = Emulator(speed=30, queue_size=20, audio=b"ID3 rain")
    async with emulator, serve(emulator) as url:
        async with AsyncClient(
            emulator.api_key, base_url=url, rate_limits=emulator.rate_limits
        ) as client:
            ends = []

            async def one(number: int) -> None:
                track = await client.generate(f"track {number}", duration=10)
                ends.append(await client.download(track, tmp_path / f"{number}.mp3"))

            async with anyio.create_task_group() as group:
                for number in range(15):
                    group.start_soon(one, number)
    assert {path.read_bytes() for path in ends} == {b"ID3 rain"}
    assert len(ends) == len(emulator.ledger) == 15
    assert emulator.count(status=429) == 0


async def test_a_create_whose_response_is_lost_is_found_and_paid_once() -> None:
    async with Emulator(speed=30) as emulator, serve(emulator) as url:
        async with AsyncClient(
            emulator.api_key, base_url=url, rate_limits=emulator.rate_limits
        ) as client:
            emulator.add_fault(Fault("lost_after_commit", "/v1/generations"))
            track = await client.generations.create("x", duration=10)
            assert track.id in emulator.tracks
            assert len(emulator.ledger) == 1


async def test_a_port_without_a_listener_is_a_connection_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with AsyncClient("ft_live_" + "0" * 32, base_url=url) as client:
            fast = client.with_options(max_retries=1)
            with pytest.raises(APIConnectionError) as caught:
                await fast.generations.create("x")
    assert caught.value.safe_to_retry
    assert not isinstance(caught.value, APITimeoutError)


async def test_a_server_that_never_responds_hits_the_request_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncClient(
            "ft_live_" + "0" * 32, base_url=url, request_timeout=0.2, max_retries=0
        ) as client:
            with pytest.raises(APITimeoutError):
                await client.me()


async def test_a_thread_is_used_on_a_real_clock() -> None:
    assert not has_virtual_clock()
    assert await in_thread(sum, [1, 2]) == 3
