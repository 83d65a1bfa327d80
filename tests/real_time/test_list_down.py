"""Waits on a real socket whose list closes the connection; a ``GET`` by id works."""

from __future__ import annotations

import json

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from finetuning_async import AsyncClient

pytestmark = pytest.mark.sampled(2)

KEY = "ft_live_" + "0" * 32


async def serve(stream: SocketStream) -> None:
    """Respond to a read of one track; close the connection on a read of the list."""
    async with stream:
        while True:
            request = b""
            while b"\r\n\r\n" not in request:
                try:
                    request += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
            path = request.split()[1].decode()
            if "?" in path:
                return
            track = {
                "id": path.rpartition("/")[2],
                "status": "completed",
                "audioUrl": "https://media.finetuning.ai/a.mp3",
            }
            body = json.dumps({"data": track}).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            await stream.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)


async def test_a_list_that_closes_its_connections_delays_no_wait_for_long() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (local,) = listener.listeners
    port = local.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
    ended = []
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        url = f"http://127.0.0.1:{port}"
        async with AsyncClient(KEY, base_url=url) as client:

            async def wait(track_id: str) -> None:
                track = await client.wait_for_completion(track_id, timeout=15)
                ended.append(track.id)

            async with anyio.create_task_group() as waits:
                for track_id in ("a", "b", "c"):
                    waits.start_soon(wait, track_id)
        group.cancel_scope.cancel()
    assert sorted(ended) == ["a", "b", "c"]
