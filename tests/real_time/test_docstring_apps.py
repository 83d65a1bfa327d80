"""Docstring examples that make an application: each is served, called, delivered to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from fastapi import FastAPI

from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator
from tests._app_on_port import on_a_port
from tests.release._examples import AUDIO, Example, evaluate, examples, namespace, wire

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALL: Final = examples()
APPS: Final = [pytest.param(e, id=e.where) for e in ALL if e.makes_an_app]
(DEMO,) = (example for example in ALL if example.where.endswith("demo-0"))
HOSTS: Final = {"https://me.example"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_SECRET", "a_secret_of_thirty_two_characters")


@pytest.mark.sampled(4)
@pytest.mark.parametrize("example", APPS)
async def test_an_application_of_an_example_does_what_it_shows(
    example: Example, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names: dict[str, Any] = {}

    async def deliver(url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post a webhook to the application that the example made."""
        place = urlsplit(url)
        assert f"{place.scheme}://{place.netloc}" in HOSTS
        async with on_a_port(names["app"]) as here, httpx.AsyncClient() as http:
            to = f"{here}{place.path}?{place.query}"
            return (await http.post(to, headers=headers, content=body)).status_code

    quick = Emulator(speed=100, audio=AUDIO, webhook_sender=deliver)
    async with quick as emulator:
        wire(emulator, monkeypatch)
        async with AsyncClient() as client:
            names |= namespace(client)
            await evaluate(example, names)
            await _all_delivered(emulator)
            track = await client.generations.create("rain")
            async with on_a_port(names["app"]) as url:
                called = await _call_all(names["app"], url, track.id)
    assert all(status < 400 for status in called.values()), called
    assert [hook.status for hook in emulator.webhooks] == [204] * (
        ".url(" in example.text
    )
    assert called or emulator.webhooks, "the application was not called"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def _all_delivered(emulator: Emulator) -> None:
    with anyio.fail_after(5):
        while any(h.status is None for h in emulator.webhooks):  # noqa: ASYNC110 - there is no event
            await anyio.sleep(0.01)


async def _call_all(app: Any, url: str, track_id: str) -> dict[str, int]:
    """The status of each operation of a FastAPI application, by its path."""
    if not isinstance(app, FastAPI):
        return {}
    found = {}
    async with httpx.AsyncClient(base_url=url, timeout=20) as browser:
        browser.cookies.set("user", "the-only-one")
        for path, operations in app.openapi()["paths"].items():
            for method in operations:
                filled = path.format(track_id=track_id, order="order-42", key="k")
                response = await browser.request(
                    method,
                    filled,
                    params={"tags": "rain"},
                    json={"tags": "rain"} if method == "post" else None,
                    headers={"Idempotency-Key": "k"},
                )
                found[f"{method} {path}"] = response.status_code
    return found


async def test_the_demo_of_its_docstring_serves_its_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ""
    async with Emulator(speed=100, audio=AUDIO) as emulator:
        wire(emulator, monkeypatch)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(evaluate, DEMO, namespace(AsyncClient()))
            with anyio.fail_after(10):
                while not shown.startswith("http"):
                    await anyio.sleep(0.01)
                    shown += capsys.readouterr().out
            async with httpx.AsyncClient() as browser:
                about = await browser.get(f"{shown.strip()}api/service")
            tasks.cancel_scope.cancel()
    assert about.json() == {"service": "pub.finetuning.ai"}
