"""Captured responses, default file names, and the bound on concurrent downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import httpx

from finetuning_async import AsyncClient, capture_responses
from finetuning_async._http._concurrency import DOWNLOADS
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_responses_of_a_block_are_captured_and_no_others() -> None:
    async with emulated() as (_, client):
        await client.me()
        with capture_responses() as responses:
            await client.generations.create("x")
            await client.me()
        await client.me()
    assert [(r.method, r.path, r.status) for r in responses] == [
        ("POST", "/v1/generations", 202),
        ("GET", "/v1/me", 200),
    ]
    assert responses[0].headers["x-ratelimit-limit"] == "10"


async def test_a_request_id_is_captured_if_the_service_sends_one() -> None:
    def service(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={}, headers={"X-Request-Id": "req_7"})

    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    client = AsyncClient("ft_live_" + "0" * 32, http_client=http)
    with capture_responses() as responses:
        await client.health()
    assert responses[0].request_id == "req_7"


async def test_a_file_in_a_folder_gets_the_vendors_default_name(tmp_path: Path) -> None:
    async with emulated(short(generation_time=(1, 1))) as (_, client):
        track = await client.generate("Lofi, chill: piano", duration=5)
        path = await client.download(track, tmp_path)
    assert path == tmp_path / f"lofi-chill-piano-{track.id[:8]}.mp3"
    assert path.is_file()


async def test_concurrent_downloads_are_bounded(
    tmp_path: Path,
) -> None:
    in_flight, most = 0, 0

    async def host(request: httpx.Request) -> httpx.Response:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await anyio.sleep(1)
        in_flight -= 1
        return httpx.Response(200, content=b"mp3")

    http = httpx.AsyncClient(transport=httpx.MockTransport(host))
    client = AsyncClient("ft_live_" + "0" * 32, http_client=http)
    async with anyio.create_task_group() as group:
        for number in range(3 * DOWNLOADS):
            path = tmp_path / f"{number}.mp3"
            group.start_soon(client.download, "https://media.example/a.mp3", path)
    assert most == DOWNLOADS
