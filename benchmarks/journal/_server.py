"""A service that accepts every create at once, as completed; a process of its own.

``python -m benchmarks.journal._server SECONDS`` prints its port, and responds to each
request after that time. A create is echoed with its prompt and seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT: Final = {
    "data": {
        "id": "account",
        "email": "a@example.com",
        "tier": "pro",
        "credits": {"monthly": 1000, "remaining": 1000, "total": 1000},
    }
}
EMPTY: Final = {"data": {"generations": [], "hasMore": False, "nextOffset": None}}


class Service(asyncio.Protocol):
    """Answers each request of a connection once its head and body are there."""

    delay: ClassVar[float] = 0.0
    ids: ClassVar[Iterator[int]] = count(1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            length = _content_length(head) if found else 0
            if not found or len(rest) < length:
                return
            self._buffer = rest[length:]
            response = _response(head, rest[:length], Service.ids)
            loop = asyncio.get_running_loop()
            loop.call_later(Service.delay, self._transport.write, response)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _response(head: bytes, body: bytes, ids: Iterator[int]) -> bytes:
    if head.startswith(b"POST"):
        asked = json.loads(body)
        return _render("202 Accepted", _track(str(next(ids)), asked))
    path = head.split(b" ", 2)[1].partition(b"?")[0]
    if path == b"/v1/me":
        return _render("200 OK", ACCOUNT)
    if path == b"/v1/generations":
        return _render("200 OK", EMPTY)
    return _render("200 OK", _track(path.rpartition(b"/")[2].decode(), {}))


def _track(ident: str, asked: dict[str, Any]) -> dict[str, Any]:
    track = {
        "id": ident,
        "title": "rain",
        "prompt": asked.get("prompt", asked.get("tags", "rain")),
        "type": "music",
        "status": "completed",
        "audioUrl": f"https://media.finetuning.ai/audio/{ident}.mp3",
        "parameters": {"duration": 60, "seed": asked.get("seed")},
        "createdAt": "2026-03-02T18:05:00.000Z",
        "completedAt": "2026-03-02T18:05:24.118Z",
    }
    return {"data": track}


def _render(status: str, response: object) -> bytes:
    body = json.dumps(response).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        "Date: Mon, 02 Mar 2026 18:05:00 GMT\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextlib.contextmanager
def serving(delay: float) -> Iterator[str]:
    """Run it in a process of its own, and give its URL."""
    command = [sys.executable, "-m", "benchmarks.journal._server", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own module
        try:
            line = server.stdout.readline() if server.stdout else ""
            yield f"http://127.0.0.1:{line.strip()}"
        finally:
            server.terminate()


async def _serve() -> None:
    # Without the protocol named, asyncio leaves Nagle's algorithm on: 45 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, sock=listener)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    Service.delay = float(sys.argv[1])
    asyncio.run(_serve())
