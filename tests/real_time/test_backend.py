"""The example backends under uvicorn, with an emulator on a port."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from finetuning_async.emulator import WebhookRecord

pytestmark = pytest.mark.usefixtures("warm_programs")

pytest.importorskip("fastapi", reason="the extra fastapi is not installed")

SECRET = "a secret for tests, of 32 or more"
ALICE = {"cookie": "user=alice"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@asynccontextmanager
async def backend(
    emulator: Emulator, log: Path, app: str = "tests.programs.backend_example:app"
) -> AsyncGenerator[tuple[httpx.AsyncClient, str]]:
    """The example in its own process; gives a browser and its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    async with serve(emulator) as service:
        env = {
            **os.environ,
            "FINETUNING_API_KEY": emulator.api_key,
            "FINETUNING_BASE_URL": service,
            "HOOK_SECRETS": SECRET.replace(" ", "_"),
            "PUBLIC_URL": url,
        }
        command = [sys.executable, "-m", "uvicorn", app]
        port = url.rpartition(":")[2]
        with log.open("wb") as out:
            process = await anyio.open_process(
                [*command, "--port", port], env=env, stdout=out, stderr=out
            )
        try:
            async with httpx.AsyncClient(base_url=url) as browser:
                await _started(browser)
                yield browser, url
        finally:
            process.terminate()
            with anyio.CancelScope(shield=True):
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


async def final_state(browser: httpx.AsyncClient, track_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    path = f"/tracks/{track_id}/events"
    async with browser.stream("GET", path, headers=ALICE, timeout=30) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                found = json.loads(line.removeprefix("data: "))
    return found


async def delivered_webhook(emulator: Emulator) -> WebhookRecord:
    for _ in range(100):
        if emulator.webhooks and emulator.webhooks[0].status:
            break
        await anyio.sleep(0.05)
    (hook,) = emulator.webhooks
    return hook


async def test_the_example_backend_makes_a_track_and_logs_no_token(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    async with Emulator(generation_time=(1.5, 1.5)) as emulator:
        async with backend(emulator, log) as (browser, url):
            response = await browser.post(
                "/tracks", params={"tags": "rain"}, headers=ALICE
            )
            assert response.status_code == 202, response.text
            track = response.json()
            final = await final_state(browser, track["id"])
            assert final["status"] == "completed"
            hook = await delivered_webhook(emulator)
            assert hook.status == 204
            assert hook.url.startswith(f"{url}/hooks/finetuning?token=")
            token = hook.url.partition("=")[2]
            wrong = await browser.post("/hooks/finetuning?token=wr0ng")
            assert (wrong.status_code, wrong.content) == (404, b"")
            stranger = await browser.get(f"/tracks/{track['id']}/events")
            assert stranger.status_code == 404
    text = log.read_text()
    assert re.search(r"POST /hooks/finetuning\?token=\*{4} HTTP/1.1\" 204", text), text
    assert token not in text
    assert "wr0ng" not in text
    assert "Traceback" not in text
    assert len(emulator.ledger) == 1


async def test_the_backend_of_the_readme_waits_for_a_track(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Emulator(speed=100, generation_time=(20, 30)) as emulator:
        app = "tests.programs.fastapi_app:app"
        async with backend(emulator, log, app) as (browser, _):
            made = await browser.post("/tracks", params={"tags": "rain"}, timeout=30)
            assert (made.status_code, made.json()["status"]) == (200, "completed")
            refused = await browser.post("/tracks", params={"tags": ""})
            assert refused.status_code == 422, refused.text
    assert "Traceback" not in log.read_text()
    assert len(emulator.ledger) == 1
