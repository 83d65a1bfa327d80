"""The emulator on a real port: uvicorn's server inside the running asyncio loop."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import sniffio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator, MutableMapping

    from finetuning_async.emulator._emulator import Emulator
    from finetuning_async.emulator._middleware import Receive, Send

    Address = tuple[str, int]


@asynccontextmanager
async def serve(
    emulator: Emulator, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve an entered emulator on a port for the length of the block.

    No signal handler is installed. Open connections get 1 s at the end.

    Args:
        emulator: Entered already.
        host: An IPv4 address or a name that has one.
        port: 0 takes a free one.

    Yields:
        The base URL, such as ``http://127.0.0.1:8000``.

    Raises:
        RuntimeError: The loop is not asyncio's, or the emulator was not entered.
        OSError: The address cannot be bound.

    Example:
        from finetuning_async.emulator import Emulator, serve

        async with Emulator(speed=100) as emulator, serve(emulator) as url:
            print(f"FINETUNING_BASE_URL={url} FINETUNING_API_KEY={emulator.api_key}")
    """
    if sniffio.current_async_library() != "asyncio":
        raise RuntimeError("serve() runs on asyncio only, because uvicorn does")
    with _listen(host, port) as listener:
        server = _Server(_Line(emulator), listener)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run_here)
            try:
                await server.ready.wait()
                yield "http://{}:{}".format(*listener.getsockname())
            finally:
                server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. With IPPROTO_TCP, or asyncio would leave Nagle's delay on."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


class _Line:
    """The app with the ``emulator`` extension: it can reset a client's connection."""

    def __init__(self, emulator: Emulator) -> None:
        self._app = emulator.app
        self.transports: dict[Address, asyncio.Transport] = {}

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        async def break_off(*, reset: bool) -> None:
            del reset  # a socket that is aborted always resets
            # What was sent before the break must be on the wire first.
            await anyio.sleep(0.05)
            transport = self.transports.get(tuple(scope["client"]))
            if transport is not None:
                _reset(transport)
            await anyio.sleep(0.05)  # uvicorn must notice, or it would answer 500

        scope["extensions"] = {"emulator": {"break_off": break_off}}
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers; tells when it listens."""

    def __init__(self, line: _Line, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                line,
                http=_protocol(line),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._listener = listener
        self.ready = anyio.Event()

    async def run_here(self) -> None:
        """Serve until ``should_exit``."""
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program around."""
        yield


def _protocol(line: _Line) -> type[asyncio.Protocol]:
    """The h11 protocol of uvicorn; it notes its transport by the client's address."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            self._address = transport.get_extra_info("peername")[:2]
            line.transports[self._address] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            line.transports.pop(self._address, None)
            super().connection_lost(exc)

    return Protocol


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN, as a peer that crashes."""
    found = transport.get_extra_info("socket")
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # on, 0 s
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
