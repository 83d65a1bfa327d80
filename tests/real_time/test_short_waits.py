"""Waits on a real socket and clock: looks at a deadline, looks that hang, sleep."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from finetuning_async import AsyncClient, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import SocketStream

pytestmark = pytest.mark.sampled(2)

KEY = "ft_live_" + "0" * 32


class Server:
    """Responds to ``GET`` of a track, which ends at a time of the test's choice.

    Attributes:
        ends_at: On the loop's clock.
        asked: When each request arrived.
        hangs: The numbers of the requests, from 1, that get no response.
        drips: Whether a response arrives one byte every 0.1 s.
        refusals: The next responses instead, status and body.
    """

    def __init__(self) -> None:
        self.ends_at = float("inf")
        self.asked: list[float] = []
        self.hangs: set[int] = set()
        self.drips = False
        self.refusals: list[tuple[int, bytes]] = []

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            try:
                while True:
                    await self._respond(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async def _respond(self, stream: SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive()
        self.asked.append(anyio.current_time())
        if self.refusals:
            status, body = self.refusals.pop(0)
            head = b"HTTP/1.1 %d No\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
            await stream.send(head + body)
            return
        if len(self.asked) in self.hangs:
            await anyio.sleep_forever()
        done = anyio.current_time() >= self.ends_at
        track = {
            "id": "a",
            "status": "completed" if done else "processing",
            "audioUrl": "https://media.finetuning.ai/a.mp3" if done else None,
        }
        is_list = b"GET /v1/generations?" in request
        data = {"generations": [track], "hasMore": False} if is_list else track
        body = json.dumps({"data": data}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        response = head + b"content-length: %d\r\n\r\n" % len(body) + body
        if not self.drips:
            await stream.send(response)
            return
        for byte in response:
            await stream.send(bytes([byte]))
            await anyio.sleep(0.1)


@asynccontextmanager
async def served(**options: Any) -> AsyncGenerator[tuple[Server, AsyncClient]]:
    """A server, and a client of it."""
    server = Server()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (local,) = listener.listeners
    port = local.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        url = f"http://127.0.0.1:{port}"
        async with AsyncClient(KEY, base_url=url, **options) as client:
            yield server, client
        group.cancel_scope.cancel()


async def timed_out(client: AsyncClient, timeout: float) -> tuple[str, float]:
    """The error of a wait that ends without the track, and how long it took."""
    began = anyio.current_time()
    with pytest.raises(WaitTimeoutError) as caught:
        await client.wait_for_completion("a", timeout=timeout)
    return str(caught.value), anyio.current_time() - began


async def test_a_timeout_of_0_is_one_look() -> None:
    async with served() as (server, client):
        text, took = await timed_out(client, 0)
        assert "still in progress" in text
        server.ends_at = 0.0
        assert (await client.wait_for_completion("a", timeout=0)).is_final
        assert len(server.asked) == 2
        assert took < 0.5


async def test_short_waits_in_a_row_get_a_look_each() -> None:
    async with served() as (server, client):
        for number in range(10):
            text, took = await timed_out(client, 0.1)
            assert "still in progress" in text
            assert took < 0.6
            assert len(server.asked) > number
        server.ends_at = 0.0
        assert (await client.wait_for_completion("a", timeout=0.3)).is_final


async def test_a_track_that_ends_just_before_the_deadline_is_returned() -> None:
    async def wait(before: float) -> None:
        async with served() as (server, client):
            server.ends_at = anyio.current_time() + 1.0 - before
            track = await client.wait_for_completion("a", timeout=1.0)
            assert track.is_final, before

    async with anyio.create_task_group() as group:
        for before in (0.02, 0.05, 0.1, 0.25):
            group.start_soon(wait, before)


async def test_a_look_at_the_deadline_gets_one_second() -> None:
    async def wait(drips: bool) -> None:
        async with served() as (server, client):
            server.drips = drips
            server.hangs = set() if drips else {1, 2, 3, 4}
            text, took = await timed_out(client, 0.3)
            assert "still in progress" not in text
            assert "has had no response" in text
            assert 1.2 < took < 1.7

    async with anyio.create_task_group() as group:
        for drips in (False, True):
            group.start_soon(wait, drips)


async def test_the_one_look_gets_the_whole_request_timeout() -> None:
    async with served(request_timeout=1.5) as (server, client):
        server.hangs = {1, 2, 3}
        text, took = await timed_out(client, 0)
        assert "still in progress" not in text
        assert 1.3 < took < 2.2


async def test_one_look_without_a_response_delays_no_other_wait() -> None:
    async with served() as (server, client):
        server.hangs = {2}
        began = anyio.current_time()
        server.ends_at = began + 1.0
        assert (await client.wait_for_completion("a")).is_final
        assert anyio.current_time() - began < 10


async def test_after_a_sleep_past_the_deadline_there_is_one_look() -> None:
    async with served() as (server, client):
        server.ends_at = anyio.current_time() + 0.6

        async def sleep() -> None:
            await anyio.sleep(0.2)
            time.sleep(1.5)  # noqa: ASYNC251 - as if the machine slept

        async with anyio.create_task_group() as group:
            group.start_soon(sleep)
            assert (await client.wait_for_completion("a", timeout=1.0)).is_final


async def test_a_wait_without_a_look_says_why() -> None:
    with_none = AsyncClient(KEY, base_url="http://127.0.0.1:9", max_retries=0)
    async with with_none as client:
        text, _ = await timed_out(client, 0.2)
        assert "still in progress" not in text
        assert "could not be read" in text
        assert "last read failed" in text


REFUSALS = (
    (403, b"<html><title>Attention Required! | Cloudflare</title></html>"),
    (404, b'{"error": {"code": "NOT_FOUND", "message": "Generation not found"}}'),
)


async def test_a_single_refusal_ends_no_wait() -> None:
    async def wait(refusal: tuple[int, bytes]) -> None:
        async with served() as (server, client):
            server.ends_at = anyio.current_time() + 1.0

            async def refuse() -> None:
                await anyio.sleep(0.5)
                server.refusals.append(refusal)

            async with anyio.create_task_group() as group:
                group.start_soon(refuse)
                assert (await client.wait_for_completion("a", timeout=20)).is_final
            assert not server.refusals

    async with anyio.create_task_group() as group:
        for refusal in REFUSALS:  # a gateway's, and the service's
            group.start_soon(wait, refusal)
