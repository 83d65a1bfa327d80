"""Reads requests and sends responses in plain ASGI, so that no framework is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class BadBodyError(Exception):
    """A body that is refused.

    Attributes:
        status: Of the response.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Read a body up to a limit, whatever its announced length.

    Raises:
        BadBodyError: It is too long (413), or its sender has disconnected (400).
    """
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and _is_above(value, max_bytes):
            raise BadBodyError(413)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BadBodyError(400)
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise BadBodyError(413)
        if not message.get("more_body", False):
            return bytes(body)


def _is_above(value: bytes, limit: int) -> bool:
    # The length is checked first: `int` raises for a number of thousands of digits.
    digits = value.strip()
    return digits.isdigit() and (len(digits) > 18 or int(digits) > limit)


async def respond(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    """Send a response without a body."""
    length = [] if status == 204 else [(b"content-length", b"0")]
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [*length, *headers]})
    await send({"type": "http.response.body", "body": b""})


async def lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge the server's startup and shutdown; nothing is done there."""
    while True:
        message = await receive()
        phase = message["type"].rpartition(".")[2]
        await send({"type": f"lifespan.{phase}.complete"})
        if phase == "shutdown":
            return
