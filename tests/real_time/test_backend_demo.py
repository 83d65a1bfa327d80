"""``finetuning demo`` as a person runs it: started, opened, stopped by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import Process

pytestmark = pytest.mark.usefixtures("warm_programs")

pytest.importorskip("fastapi", reason="the extra demo is not installed")

JSON = {"content-type": "application/json"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@asynccontextmanager
async def demo(*options: str, **env: str) -> AsyncIterator[tuple[Process, str]]:
    command = [sys.executable, "-m", "finetuning_async", "demo", "--port", "0"]
    process = await anyio.open_process(
        [*command, *options], env={**os.environ, **env}, start_new_session=True
    )
    assert process.stdout is not None
    try:
        with anyio.fail_after(30):
            output = await process.stdout.receive()
        yield process, output.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def rest_of_stderr(process: Process) -> str:
    assert process.stderr is not None
    return b"".join([part async for part in process.stderr]).decode()


async def test_the_demo_serves_its_page_and_stops_with_a_page_open() -> None:
    async with demo("--speed", "20") as (process, url):
        async with httpx.AsyncClient(base_url=url) as browser:
            assert (await browser.get("/")).text.startswith("<!doctype html>")
            async with browser.stream("GET", "/api/events") as events:
                lines = events.aiter_lines()
                assert await anext(lines) == "event: songs"
                created = await browser.post("/api/songs", json={"tags": "x"})
                assert created.status_code == 202
                process.send_signal(signal.SIGINT)
                async for _ in lines:
                    pass
        with anyio.fail_after(10):
            said = await rest_of_stderr(process)
            assert await process.wait() == 0
    assert "tracks cost nothing" in said
    assert "its tracks are lost" in said
    assert "Traceback" not in said


async def test_the_demo_with_a_key_uses_the_configured_service() -> None:
    async with Emulator(speed=20, generation_time=(5, 5)) as emulator:
        async with serve(emulator) as service:
            env = {
                "FINETUNING_API_KEY": emulator.api_key,
                "FINETUNING_BASE_URL": service,
            }
            async with demo("--paid", **env) as (_, url):
                async with httpx.AsyncClient(base_url=url) as browser:
                    service_shown = (await browser.get("/api/service")).json()
                    await browser.post("/api/songs", json={"tags": "x"})
                    for _ in range(100):
                        if emulator.ledger:
                            break
                        await anyio.sleep(0.05)
    assert service_shown == {"service": service.removeprefix("http://")}
    assert len(emulator.ledger) == 1


async def test_a_port_in_use_is_reported_with_a_way_out() -> None:
    async with demo() as (_, url):
        port = url.rstrip("/").rpartition(":")[2]
        command = [sys.executable, "-m", "finetuning_async", "demo", "--port", port]
        done = await anyio.run_process(command, check=False)
    assert done.returncode == 1
    assert b"--port 0 picks a free one" in done.stderr
    assert b"Traceback" not in done.stderr
