"""Serves the demo on a port: uvicorn's server inside the running asyncio loop."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import sniffio
import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastapi import FastAPI


@asynccontextmanager
async def serve(
    app: FastAPI, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve the demo on a port while the block runs.

    No signal handler is installed. At the end open connections get 1 s to finish.

    Args:
        app: The application of `create_app`.
        host: An IPv4 address, or a name that resolves to one.
        port: 0 picks a free one.

    Yields:
        Its URL, such as ``http://127.0.0.1:8788``.

    Raises:
        RuntimeError: The loop is not asyncio's, or the application did not start.
        OSError: The address cannot be bound.
    """
    if sniffio.current_async_library() != "asyncio":
        raise RuntimeError(
            "serve() runs on asyncio only, because uvicorn does; run it on asyncio"
        )
    with _listen(host, port) as listener:
        server = _Server(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run_on, listener)
            try:
                await server.ready.wait()
                if not server.started:
                    raise RuntimeError("the demo could not start; its log says why")
                yield "http://{}:{}/".format(*listener.getsockname()[:2])
            finally:
                # First the event streams: uvicorn waits for open responses, and these
                # never end by themselves.
                app.state.close_streams()
                server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    It names IPPROTO_TCP, because asyncio turns Nagle's delay off only then.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers, and with an event for its start."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=1
            )
        )
        self.ready = anyio.Event()

    async def run_on(self, listener: socket.socket) -> None:
        """Serve until ``should_exit`` is set; shut down in order if cancelled."""
        try:
            with anyio.CancelScope(shield=True):
                await self.serve(sockets=[listener])
        finally:
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set `ready`."""
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the surrounding program."""
        yield
