"""A server on a real port that sends the bytes that a test gives it, valid or not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import attrs
from anyio.streams.buffered import BufferedByteReceiveStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import SocketStream


@attrs.define(eq=False)
class Asked:
    """One received request.

    Attributes:
        method: The HTTP method.
        target: Path and query.
        body: What was sent as JSON; empty if nothing was.
        connection: The number of its connection, from 0.
        stream: That connection.
        is_last: Whether it asks the server to close the connection.
    """

    method: str
    target: str
    body: dict[str, Any]
    connection: int
    stream: SocketStream
    is_last: bool = False

    @property
    def is_create(self) -> bool:
        """Whether it is a create."""
        return self.method == "POST"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


Answer: TypeAlias = Callable[[Asked], Awaitable[bytes]]


def response(
    status: int, body: object = None, *headers: str, html: str | None = None
) -> bytes:
    """The bytes of a response."""
    content = (json.dumps(body) if html is None else html).encode()
    kind = "application/json" if html is None else "text/html"
    lines = [
        f"HTTP/1.1 {status} Said",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def row(asked: Asked, number: int, **more: Any) -> dict[str, Any]:
    """The track that a create makes, as JSON."""
    body = asked.body
    return {
        "id": f"gen_{number}",
        "status": "processing",
        "type": "music",
        "prompt": body.get("tags", body.get("prompt")),
        "parameters": {"duration": 60, "seed": body.get("seed")},
        "createdAt": "2026-03-02T18:04:09Z",
        **more,
    }


def created(track: dict[str, Any], status: int = 202) -> bytes:
    """The response to a create."""
    return response(status, {"data": track})


def listed(rows: list[dict[str, Any]]) -> bytes:
    """The response with the whole list, newest first."""
    page = {
        "generations": rows[::-1],
        "hasMore": False,
        "nextOffset": len(rows),
    }
    return response(200, {"data": page})


@attrs.define(eq=False)
class Server:
    """The server, as a test sees it.

    Attributes:
        url: Its base URL.
        asked: All requests, in order.
    """

    url: str
    asked: list[Asked] = attrs.field(factory=list)

    @property
    def creates(self) -> list[Asked]:
        """The creates, in order."""
        return [one for one in self.asked if one.is_create]


KEY: Final = "ft_live_" + "c" * 32


@asynccontextmanager
async def serving(answer: Answer) -> AsyncGenerator[Server]:
    """Serve on a free port until the block ends.

    Args:
        answer: Returns the bytes to send for a request; none close the connection.
    """
    numbers = itertools.count()

    async def serve(stream: SocketStream) -> None:
        number = next(numbers)
        reader = BufferedByteReceiveStream(stream)
        try:
            async with stream:
                while True:
                    asked = await _read(reader, stream, number)
                    server.asked.append(asked)
                    reply = await answer(asked)
                    if not reply:
                        return
                    await stream.send(reply)
                    if asked.is_last:
                        return
        except (
            anyio.IncompleteRead,
            anyio.EndOfStream,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ):
            return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django
    server = Server(f"http://127.0.0.1:{port}")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield server
        tasks.cancel_scope.cancel()


async def _read(
    reader: BufferedByteReceiveStream, stream: SocketStream, number: int
) -> Asked:
    head = (await reader.receive_until(b"\r\n\r\n", 65536)).decode()
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
    length = int(headers.get("content-length", 0))
    body = json.loads(await reader.receive_exactly(length)) if length else {}
    is_last = headers.get("connection") == "close"
    return Asked(method, target, body, number, stream, is_last)
