"""A server that does nothing but respond: bytes rendered beforehand, one process.

    python -m benchmarks.calls.server [--delay SECONDS]

It prints its port. ``GET /connections`` says how many connections were ever opened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from typing import Final

from benchmarks.calls.peers import PEERS, TRACK

GENERATION: Final = {
    "data": {
        "id": TRACK,
        "title": "slow choir over tape hiss",
        "prompt": "slow choir over tape hiss",
        "type": "music",
        "status": "completed",
        "audioUrl": "https://media.finetuning.ai/audio/5e0c7b1a.mp3",
        "duration": 60,
        "fileSize": None,
        "isPublic": False,
        "playCount": 3,
        "downloadCount": 1,
        "likeCount": 0,
        "parameters": {
            "bpm": 70,
            "duration": 60,
            "keyscale": "A minor",
            "timesignature": 3,
            "seed": 7,
        },
        "errorMessage": None,
        "generationTime": 21,
        "webhook": None,
        "createdAt": "2026-03-02 18:05:00",
        "completedAt": "2026-03-02T18:05:24.118Z",
    }
}


def _render(status: str, response: object = GENERATION) -> bytes:
    body = json.dumps(response).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        "Date: Mon, 02 Mar 2026 18:05:00 GMT\r\n"
        "X-RateLimit-Limit: 1000000\r\nX-RateLimit-Remaining: 999999\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


READ: Final = _render("200 OK")
OTHERS: Final = {
    peer.path.encode(): _render("200 OK", peer.response)
    for peer in PEERS
    if peer.response is not None
}
CREATED: Final = _render("202 Accepted")
FIRST_ID: Final = TRACK.encode()


class Responding(asyncio.Protocol):
    """Answers each request of a connection once its head and body are there.

    Attributes:
        delay: Seconds until it does.
        connections: How many there ever were.
        creates: Likewise; each is answered with an id of its own.
    """

    delay = 0.0
    connections = 0
    creates = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""
        Responding.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            length = _content_length(head) if found else 0
            if not found or len(rest) < length:
                return
            self._buffer = rest[length:]
            if head.startswith(b"GET /connections "):
                self._transport.write(_render("200 OK", Responding.connections))
                continue
            response = CREATED if head.startswith(b"POST") else READ
            if not head.startswith((b"GET /v1/generations", b"POST /v1/generations")):
                path = head.split(b" ", 2)[1].partition(b"?")[0]
                response = OTHERS.get(path, READ)
            if response is CREATED:
                Responding.creates += 1
                response = response.replace(FIRST_ID, b"%036d" % Responding.creates)
            if Responding.delay:
                loop = asyncio.get_running_loop()
                loop.call_later(Responding.delay, self._transport.write, response)
            else:
                self._transport.write(response)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def serve() -> None:
    """Serve on a free port, and print its number."""
    # Without the protocol named, asyncio leaves Nagle's algorithm on: 45 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Responding, sock=listener)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    Responding.delay = parser.parse_args().delay
    asyncio.run(serve())
