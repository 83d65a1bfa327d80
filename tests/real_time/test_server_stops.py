"""A server that is asked to stop while its requests wait for tracks."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx
import pytest

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import Process

pytestmark = pytest.mark.usefixtures("warm_programs")

SLOW: Final = (25.0, 25.0)
"""Seconds that a track takes: longer than any of these tests."""

README: Final = "tests.programs.fastapi_app:app"
WHOLE: Final = "tests.programs.backend_example:app"
SLOW_STREAM: Final = "tests.programs.slow_stream:app"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@asynccontextmanager
async def backend(
    emulator: Emulator, app: str, log: Path, *options: str
) -> AsyncGenerator[tuple[Process, httpx.AsyncClient]]:
    """An application under `python -m uvicorn`; gives its process and a browser."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with serve(emulator) as service:
        env = {
            **os.environ,
            "FINETUNING_API_KEY": emulator.api_key,
            "FINETUNING_BASE_URL": service,
            "HOOK_SECRETS": "a_secret_of_thirty_two_characters",
            "PUBLIC_URL": "http://127.0.0.1:1",
        }
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options]
        with log.open("wb") as out:
            process = await anyio.open_process(command, env=env, stdout=out, stderr=out)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=20) as browser:
            try:
                await _started(browser)
                yield process, browser
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def _started(browser: httpx.AsyncClient) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                await browser.get("/openapi.json")
            except httpx.ConnectError:
                await anyio.sleep(0.05)
            else:
                return


async def _until_tracks(emulator: Emulator, number: int) -> None:
    with anyio.fail_after(10):
        while len(emulator.tracks) < number:  # noqa: ASYNC110 - there is no event
            await anyio.sleep(0.02)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("number", "options", "within"),
    [
        (signal.SIGTERM, (), 3),
        (signal.SIGINT, (), 3),
        (signal.SIGTERM, ("--workers", "2"), 6),  # uvicorn's supervisor stops later
        (signal.SIGINT, ("--workers", "2"), 6),
    ],
)
async def test_a_waiting_request_gets_the_id_and_the_server_stops(
    number: signal.Signals, options: tuple[str, ...], within: float, tmp_path: Path
) -> None:
    responses: list[httpx.Response] = []
    responded_at: list[float] = []
    async with Emulator(generation_time=SLOW) as emulator:
        async with backend(emulator, README, tmp_path / "log", *options) as (
            process,
            browser,
        ):

            async def create() -> None:
                responses.append(await browser.post("/tracks", params={"tags": "rain"}))
                responded_at.append(anyio.current_time())

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(create)
                await _until_tracks(emulator, 3)
                await anyio.sleep(0.5)  # now all of them wait for their tracks
                stopped_at = anyio.current_time()
                process.send_signal(number)
                await process.wait()
            took = anyio.current_time() - stopped_at
    assert max(responded_at) - stopped_at < 3
    assert took < within
    errors = [response.json()["error"] for response in responses]
    assert [response.status_code for response in responses] == [503] * 3
    assert {error["code"] for error in errors} == {"closing"}
    assert {error["generation_id"] for error in errors} == set(emulator.tracks)
    assert all("wait for it by its id" in error["message"] for error in errors)
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_create_in_flight_gets_its_grace_and_its_id_is_sent(
    tmp_path: Path,
) -> None:
    responses: list[httpx.Response] = []
    async with Emulator(generation_time=SLOW) as emulator:
        slow = Fault("slow_answer", "/v1/generations", method="POST", seconds=3)
        emulator.add_fault(slow)
        async with backend(emulator, README, tmp_path / "log") as (process, browser):

            async def create() -> None:
                responses.append(await browser.post("/tracks", params={"tags": "rain"}))

            async with anyio.create_task_group() as group:
                group.start_soon(create)
                await _until_tracks(emulator, 1)
                process.terminate()
                with anyio.fail_after(6):
                    await process.wait()
    (track_id,) = emulator.tracks
    (response,) = responses
    assert (response.status_code, response.json()["error"]["generation_id"]) == (
        503,
        track_id,
    )


async def test_a_hanging_poll_does_not_keep_the_server_from_stopping(
    tmp_path: Path,
) -> None:
    responses: list[httpx.Response] = []
    async with Emulator(generation_time=SLOW) as emulator:
        emulator.add_fault(Fault("delay", method="GET", seconds=25, times=None))
        async with backend(emulator, README, tmp_path / "log") as (process, browser):

            async def create() -> None:
                responses.append(await browser.post("/tracks", params={"tags": "rain"}))

            async with anyio.create_task_group() as group:
                group.start_soon(create)
                await _until_tracks(emulator, 1)
                with anyio.fail_after(15):
                    while not emulator.count(method="GET"):  # noqa: ASYNC110 - no event
                        await anyio.sleep(0.1)
                stopped_at = anyio.current_time()
                process.terminate()
                await process.wait()
            assert anyio.current_time() - stopped_at < 3
    assert responses[0].json()["error"]["generation_id"] in emulator.tracks


@pytest.mark.sampled(2)
@pytest.mark.parametrize("app", [WHOLE, SLOW_STREAM])
async def test_a_stream_of_states_ends_with_the_server(
    tmp_path: Path, app: str
) -> None:
    lines: list[str] = []
    async with Emulator(generation_time=SLOW) as emulator:
        async with backend(emulator, app, tmp_path / "log") as (process, browser):
            browser.cookies.set("user", "alice")
            made = await browser.post("/tracks", params={"tags": "rain"})
            path = f"/tracks/{made.json()['id']}/events"

            async def listen() -> None:
                async with browser.stream("GET", path) as stream:
                    async for line in stream.aiter_lines():
                        lines.append(line)  # noqa: PERF401 - as they arrive

            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                with anyio.fail_after(10):
                    while "event: state" not in lines:  # noqa: ASYNC110 - no event
                        await anyio.sleep(0.05)
                stopped_at = anyio.current_time()
                process.terminate()
                await process.wait()
            assert anyio.current_time() - stopped_at < 3
    assert "event: problem" in lines
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_read_in_flight_gets_its_response(tmp_path: Path) -> None:
    found: list[Any] = []
    async with Emulator() as emulator, serve(emulator) as url:
        emulator.add_fault(Fault("delay", "/v1/me", seconds=0.5))
        async with AsyncClient(emulator.api_key, base_url=url) as client:

            async def read() -> None:
                found.append(await client.me())

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.sleep(0.2)
                await client._end_calls(1.0)
    assert found[0].total_remaining == 2000
