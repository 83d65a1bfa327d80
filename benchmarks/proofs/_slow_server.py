"""A server that responds in slow steps, on a port that it prints; ends with stdin."""

from __future__ import annotations

import asyncio
import random
import sys

STEP = 0.003
"""Seconds before the headers, and again before the body."""

BODY = b'{"data":{"id":"user"}}'
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: %s\r\n"
    b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n"
)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond; close every third connection, so that new ones are opened."""
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(STEP)
            last = random.random() < 1 / 3
            writer.write(HEAD % (b"close" if last else b"keep-alive"))
            await asyncio.sleep(STEP)
            writer.write(BODY)
            if last:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until stdin is closed."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
