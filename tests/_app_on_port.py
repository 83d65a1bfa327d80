"""Serves an ASGI application on a port, with uvicorn's logs unchanged."""

from __future__ import annotations

import contextlib
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers: the test has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def on_a_port(app: Any, **options: Any) -> AsyncGenerator[str]:
    """Serve an application in the running asyncio loop; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        quick = {"log_config": None, "timeout_graceful_shutdown": 1, "lifespan": "on"}
        server = _Server(uvicorn.Config(app, **{**quick, **options}))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            with anyio.fail_after(10):
                while not server.started:  # noqa: ASYNC110 - there is no event
                    await anyio.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
