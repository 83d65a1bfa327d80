"""The emulator on a real port: a uvicorn server inside the running asyncio loop."""

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
    emulator: Emulator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    admin_token: str | None = None,
) -> AsyncIterator[str]:
    """Serve an entered emulator on a port while the block runs.

    Installs no signal handlers. At the end open connections get 1 s to finish.

    Args:
        emulator: The emulator, already entered.
        host: An IPv4 address or a name that has one.
        port: 0 to 65535; 0 chooses a free one.
        admin_token: Lets others than programs of this machine use the control API
            under ``/_emulator/``; they send it as ``Authorization: Bearer``.

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
        raise RuntimeError(
            "serve() runs on asyncio only, because uvicorn does; run it on asyncio"
        )
    with _listen(host, port) as listener:
        server = _Server(_ResettingApp(emulator, host, admin_token), listener)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run_here)
            try:
                await server.ready.wait()
                yield "http://{}:{}".format(*listener.getsockname())
            finally:
                server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. asyncio sets TCP_NODELAY only with IPPROTO_TCP given."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


class _ResettingApp:
    """The app with the ``emulator`` extension, which can reset a connection."""

    def __init__(self, emulator: Emulator, host: str, admin_token: str | None) -> None:
        self._app = emulator.app
        self._access = {"bound_to": host, "admin_token": admin_token}
        self.transports: dict[Address, asyncio.Transport] = {}

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        async def break_off(*, reset: bool) -> None:
            del reset  # aborting a socket always resets the connection
            # What was sent before the break must be on the wire first.
            await anyio.sleep(0.05)
            transport = self.transports.get(tuple(scope["client"]))
            if transport is not None:
                _reset(transport)
            await anyio.sleep(0.05)  # until uvicorn notices; else it would send a 500

        scope["extensions"] = {"emulator": {"break_off": break_off, **self._access}}
        await self._app(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers; ``ready`` is set once it listens."""

    def __init__(self, app: _ResettingApp, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol(app),
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
        """Start, then set ``ready``."""
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield


def _protocol(app: _ResettingApp) -> type[asyncio.Protocol]:
    """Uvicorn's h11 protocol; it registers its transport by the client's address."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            self._address = transport.get_extra_info("peername")[:2]
            app.transports[self._address] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            app.transports.pop(self._address, None)
            super().connection_lost(exc)

    return Protocol


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN, as a peer that crashes does."""
    found = transport.get_extra_info("socket")
    linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # on, 0 s
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()
