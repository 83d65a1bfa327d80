"""A TCP proxy that breaks connections at any byte.

It passes bytes both ways until a `Cut` says otherwise. It counts the bytes of one
direction from the connection's first, so a cut may fall into a request's line, headers
or body, or into those of the response.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Way: TypeAlias = Literal["to service", "to client"]
How: TypeAlias = Literal["reset", "close", "hang", "delay"]


@attrs.frozen
class Cut:
    """What happens to a connection.

    Attributes:
        way: The direction whose bytes are counted.
        after: How many pass before it happens.
        how: ``reset`` and ``close`` end the connection on both sides; ``hang`` passes
            nothing more in that direction; ``delay`` goes on after `seconds`.
        seconds: For ``delay``.
    """

    way: Way
    after: int
    how: How
    seconds: float = 0.0


class Proxy:
    """Listens on a port of loopback, in front of another.

    Attributes:
        cuts: What happens to the next connections, one each, in order; later ones
            are left whole.
        passed: Bytes passed so far by direction, over all connections.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.cuts: list[Cut] = []
        self.passed: dict[Way, int] = {"to service": 0, "to client": 0}
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        cut = self.cuts.pop(0) if self.cuts else None
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        both = (writer, far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    self._pass("to service", reader, far_writer, cut, both)
                )
                group.create_task(
                    self._pass("to client", far_reader, writer, cut, both)
                )
        except* (OSError, asyncio.CancelledError):
            pass  # cut, or the proxy closes
        finally:
            self._tasks.discard(task)
            for each in both:
                each.close()

    async def _pass(
        self,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        cut: Cut | None,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        left = cut.after if cut is not None and cut.way == way else None
        while data := await reader.read(65536):
            if left is not None and cut is not None and len(data) > left:
                await self._write(way, writer, data[:left])
                await self._happen(cut, both)
                data, left = data[left:], None
            elif left is not None:
                left -= len(data)
            await self._write(way, writer, data)
        with suppress(OSError):
            writer.write_eof()

    async def _write(self, way: Way, writer: asyncio.StreamWriter, data: bytes) -> None:
        if data:
            writer.write(data)
            await writer.drain()
            self.passed[way] += len(data)

    async def _happen(
        self, cut: Cut, both: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    ) -> None:
        if cut.how == "delay":
            await asyncio.sleep(cut.seconds)
            return
        if cut.how == "hang":
            await asyncio.sleep(3600)
        for writer in both:
            if cut.how == "reset":
                _reset(writer)
            else:
                writer.close()
        raise ConnectionResetError("cut")

    async def aclose(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    found = writer.get_extra_info("socket")
    with suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxy(url: str) -> AsyncGenerator[tuple[Proxy, str]]:
    """A proxy in front of a base URL; yields it and its own base URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    carrier = Proxy(host, int(port))
    server = await asyncio.start_server(carrier.accept, "127.0.0.1", 0)
    name, number = server.sockets[0].getsockname()[:2]
    try:
        yield carrier, f"http://{name}:{number}"
    finally:
        server.close()
        await carrier.aclose()
