"""A media host: one file of so many bytes, from memory, in a process of its own."""

from __future__ import annotations

import asyncio
import sys


class Sending(asyncio.Protocol):
    """Answers every request with the file."""

    def __init__(self, size: int) -> None:
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n"
            f'Content-Length: {size}\r\nETag: "1"\r\n\r\n'
        )
        self._answer = head.encode() + bytes(size)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer; a head comes in one piece here, without a body."""
        self._transport.write(self._answer)


async def serve(size: int) -> None:
    """Serve on a free port, and print its number."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sending(size), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
