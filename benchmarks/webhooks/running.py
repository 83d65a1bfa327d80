"""uvicorn with the application, in processes of its own."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "a secret of the benchmark, 32 or more"  # noqa: S105 - of the benchmark only


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@asynccontextmanager
async def backend(
    key: str, service: str, port: int, *, workers: int = 1, per: float = 60.0
) -> AsyncIterator[str]:
    """The application on a port; gives its URL."""
    url = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "FINETUNING_API_KEY": key,
        "FINETUNING_BASE_URL": service,
        "SECRETS": SECRET,
        "PUBLIC_URL": url,
        "SHARE": str(workers),
        "PER": str(per),
    }
    command = [sys.executable, "-m", "uvicorn", "benchmarks.webhooks.app:app"]
    options = ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    process = await anyio.open_process(
        [*command, *options, "--log-level", "warning"],
        env=env,
        stdout=None,
        stderr=None,
    )
    try:
        await _started(url)
        yield url
    finally:
        process.terminate()
        with anyio.CancelScope(shield=True):
            await process.wait()


async def _started(url: str) -> None:
    with anyio.fail_after(30):
        async with httpx.AsyncClient() as http:
            while True:
                try:
                    await http.get(f"{url}/bare/")
                except httpx.TransportError:
                    await anyio.sleep(0.1)
                else:
                    return
