"""A model of ours as a FastAPI response: refused clearly, and nothing leaks."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from finetuning_async import (
    Account,
    BulkResult,
    Generation,
    GenerationRequest,
    Outcome,
    Page,
    Playlist,
    SoundEffect,
)
from finetuning_async.fastapi import (
    SoundEffectResponse,
    TrackPageResponse,
    TrackResponse,
    public,
)

HOOK = "https://me.example/hooks?token=s3cr3t"
RAW = {"webhook": HOOK}
TRACK = Generation(id="a", status="completed", webhook=HOOK, raw=RAW)
EFFECT = SoundEffect(id="a", status="completed", webhook=HOOK, raw=RAW)
MADE = Generation(
    id="b",
    status="completed",
    kind="instrumental",
    prompt="wind",
    duration=30.5,
    audio_url="https://media.example/b.mp3",
    webhook=HOOK,
    raw=RAW,
    created_at=dt.datetime(2026, 3, 1, 20, 15, tzinfo=dt.UTC),
    completed_at=dt.datetime(2026, 3, 1, 20, 15, 30, 123000, tzinfo=dt.UTC),
)
MODELS: list[Any] = [
    TRACK,
    EFFECT,
    Page(items=(TRACK,), has_more=False, next_offset=1, raw={"items": [RAW]}),
    Outcome(request=GenerationRequest("x", webhook=HOOK), generation=TRACK),
    Account(id="a"),
    BulkResult(),
    Playlist(id="a"),
]


@pytest.mark.parametrize("form", ["model", "list", "optional"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_as_a_return_annotation_is_refused_with_a_helpful_error(
    model: Any, form: str
) -> None:
    async def read() -> Any:
        return model

    kind = type(model)
    made: Any = Page[Generation] if kind is Page else kind
    forms = {"model": made, "list": list[made], "optional": made | None}
    read.__annotations__["return"] = forms[form]
    with pytest.raises(TypeError, match=r"finetuning_async\.fastapi\.public") as caught:
        FastAPI().get("/")(read)
    assert kind.__name__ in str(caught.value)


@pytest.mark.parametrize("inside", ["nothing", "a list", "an object"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
async def test_a_returned_model_is_refused_with_the_same_error(
    model: Any, inside: str
) -> None:
    bodies = {"nothing": model, "a list": [model], "an object": {"model": model}}
    app = FastAPI()

    @app.get("/")
    async def read():  # type: ignore[no-untyped-def]  # noqa: ANN202 - this is what is tested
        return bodies[inside]

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://me") as browser:
        with pytest.raises(TypeError, match=r"finetuning_async\.fastapi\.public"):
            await browser.get("/")


ALONE = """
import anyio, httpx
from fastapi import FastAPI
from finetuning_async import Generation

app = FastAPI()
hook = "https://me.example/hooks?token=s3cr3t"

@app.get("/")
async def read():
    return Generation(id="a", status="completed", webhook=hook)

async def main():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://me") as browser:
        await browser.get("/")

anyio.run(main)
"""


def test_a_returned_model_is_refused_even_without_our_fastapi_module() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=False
    )
    assert "finetuning_async.fastapi.public" in ran.stderr.splitlines()[-1]
    assert "s3cr3t" not in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("annotation", [None, Any, dict[str, Any], object])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
async def test_neither_a_response_nor_an_error_shows_a_webhooks_query(
    model: Any, annotation: Any
) -> None:
    app = FastAPI()

    async def read() -> Any:
        return model

    read.__annotations__.clear()
    if annotation is not None:
        read.__annotations__["return"] = annotation
    app.get("/")(read)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://me") as browser:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - any error will do
            await browser.get("/")
    assert "s3cr3t" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize("track", [TRACK, EFFECT], ids=["track", "effect"])
async def test_the_result_of_public_can_be_returned(track: Any) -> None:
    app = FastAPI()

    @app.get("/")
    async def read() -> dict[str, Any]:
        return public(track)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://me") as browser:
        response = await browser.get("/")
    assert response.json()["id"] == "a"
    assert "s3cr3t" not in response.text


@pytest.mark.parametrize("track", [TRACK, EFFECT, MADE], ids=["a", "effect", "made"])
def test_the_response_of_a_track_is_what_public_returns(track: Any) -> None:
    response = TrackResponse.of(track)
    assert json.loads(response.model_dump_json()) == public(track)
    assert response.model_dump(mode="json") == public(track)
    assert TrackResponse.model_validate(public(track)) == response
    assert "s3cr3t" not in response.model_dump_json()


def test_a_response_model_sends_no_secret_and_documents_itself() -> None:
    app = FastAPI()

    @app.get("/one")
    def one() -> TrackResponse:
        return TrackResponse.of(MADE)

    @app.get("/effect")
    def effect() -> SoundEffectResponse:
        return SoundEffectResponse.of(EFFECT)

    @app.get("/page")
    def page() -> TrackPageResponse:
        return TrackPageResponse.of(MODELS[2])

    with TestClient(app) as browser:
        assert browser.get("/one").json() == public(MADE)
        assert browser.get("/effect").json() == public(EFFECT)
        found = browser.get("/page")
        assert found.json()["items"] == [public(TRACK)]
        assert "s3cr3t" not in found.text
        schemas = browser.get("/openapi.json").json()["components"]["schemas"]
    for name in ("TrackResponse", "SoundEffectResponse", "TrackPageResponse"):
        assert schemas[name]["examples"]
    assert "webhook" not in str(schemas)
