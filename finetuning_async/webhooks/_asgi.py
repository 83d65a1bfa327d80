"""The few lines of ASGI that a receiver needs, so that it needs no framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class BadBodyError(Exception):
    """A body that is not taken.

    Attributes:
        status: What to answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def read_body(scope: Scope, receive: Receive, longest: int) -> bytes:
    """Read a body, and no further than its limit.

    Raises:
        BadBodyError: It is too long (413), or its sender has left (400).
    """
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and _is_above(value, longest):
            raise BadBodyError(413)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BadBodyError(400)
        body += message.get("body", b"")
        if len(body) > longest:
            raise BadBodyError(413)
        if not message.get("more_body", False):
            return bytes(body)


def _is_above(value: bytes, longest: int) -> bool:
    # A number so long that Python would not read it is too large in any case.
    digits = value.strip()
    return digits.isdigit() and (len(digits) > 18 or int(digits) > longest)


async def respond(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    """Answer without a body."""
    length = [] if status == 204 else [(b"content-length", b"0")]
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [*length, *headers]})
    await send({"type": "http.response.body", "body": b""})


async def lifespan(receive: Receive, send: Send) -> None:
    """Take part in a server's start and end, where there is nothing to do."""
    while True:
        message = await receive()
        phase = message["type"].rpartition(".")[2]
        await send({"type": f"lifespan.{phase}.complete"})
        if phase == "shutdown":
            return
