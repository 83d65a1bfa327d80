"""A server that counts creates by itself and prints at the end what it saw.

It imports nothing of the package. It runs until its standard input ends, then prints a
line of JSON: for each request its time, its key, and whether it was refused.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from typing import Any, Final

LIMIT: Final = 10
PER: Final = 2.0
"""Seconds."""

seen: list[tuple[float, str, bool]] = []
window: deque[float] = deque()


def respond(head: str, body: bytes) -> bytes:
    """Count a create, or list the tracks, all of which have ended."""
    if head.startswith("GET"):
        rows = [_track(number, "completed") for number in range(len(seen), 0, -1)]
        page = {"generations": rows[:99], "hasMore": False}
        return _response("200 OK", "", {"data": page})
    now = time.monotonic()
    key = head.partition("ft_live_")[2][:1]
    while window and window[0] <= now - PER:
        window.popleft()
    is_refused = len(window) >= LIMIT
    if not is_refused:
        window.append(now)
    seen.append((now, key, is_refused))
    headers = f"X-RateLimit-Limit: {LIMIT}\r\n"
    headers += f"X-RateLimit-Remaining: {LIMIT - len(window)}\r\n"
    if is_refused:
        headers += "Retry-After: 1\r\n"
        return _response("429 Too Many", headers, _refusal())
    return _response("201 Created", headers, _accepted(json.loads(body)))


def _refusal() -> dict[str, Any]:
    code = "GENERATION_RATE_LIMITED"
    return {"error": {"code": code, "message": "too many"}}


def _accepted(asked: dict[str, Any]) -> dict[str, Any]:
    track = _track(len(seen), "processing")
    return {"data": track | {"parameters": {"seed": asked["seed"]}}}


def _track(number: int, status: str) -> dict[str, Any]:
    return {"id": f"gen_{number}", "status": status, "type": "music", "prompt": "song"}


def _response(status: str, headers: str, value: dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            low = head.lower()
            length = int(low.partition("content-length:")[2].split("\r\n")[0] or 0)
            body = await reader.readexactly(length)
            writer.write(respond(head, body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Print the port, serve until input ends, print what was seen."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
