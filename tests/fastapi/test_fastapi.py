"""A FastAPI application with our client and routers, called without a socket."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    CapacityError,
    ClientClosedError,
    FinetuningError,
    Generation,
    GenerationFailedError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    QueueFullError,
    RateLimitError,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async.emulator import Emulator
from finetuning_async.fastapi import (
    Client,
    WebhookReceiver,
    add_exception_handlers,
    answer_to,
    client_lifespan,
    events_router,
    public,
    webhook_router,
)
from tests._emulated_client import emulated
from tests.webhooks._webhook_calls import SECRET, UNUSED_KEY, body_of, query_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp

FAILED = Generation(id="a", status="failed", prompt="x")


@asynccontextmanager
async def browser_of(
    app: ASGIApp, state: dict[str, Any]
) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser of an application; each request has the lifespan's state."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://me") as browser:
        yield browser


@asynccontextmanager
async def running(
    app: FastAPI, client: AsyncClient
) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_lifespan(lambda: client)(app) as state:
        async with browser_of(app, state) as browser:
            yield browser


def events_of(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def new_app(**options: Any) -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.include_router(events_router(lambda request, _: "user" in request.cookies))

    @app.post("/tracks", status_code=202)
    async def create(tags: str, client: Client) -> dict[str, Any]:
        return public(await client.generations.create(tags, **options))

    return app


async def test_a_listener_gets_each_state_and_the_end() -> None:
    service = Emulator(pending_time=(5, 5))
    async with emulated(service) as (_, client), running(new_app(), client) as browser:
        track = (await browser.post("/tracks", params={"tags": "x"})).json()
        assert track["status"] == "pending"
        browser.cookies.set("user", "1")
        response = await browser.get(f"/tracks/{track['id']}/events")
        assert response.headers["content-type"].startswith("text/event-stream")
        events = events_of(response.text)
        assert [name for name, _ in events] == ["state"] * 3
        states = [data["status"] for _, data in events]
        assert states == ["pending", "processing", "completed"]
        expected = [
            data["progress"] and data["progress"]["expected"] for _, data in events
        ]
        assert expected == [70.0, 70.0, None]
        assert 4 < events[1][1]["progress"]["elapsed"] < 8
        assert events[-1][1]["is_final"]
        assert events[-1][1]["audio_url"]
        assert "webhook" not in response.text


async def test_an_unauthorized_user_gets_404_and_nothing_is_sent() -> None:
    async with emulated() as (emulator, client), running(new_app(), client) as browser:
        assert (await browser.get("/tracks/a/events")).status_code == 404
        assert emulator.requests == []


async def test_authorize_may_be_async_and_must_return_true_itself() -> None:
    results = iter([None, "yes", True])

    async def may_see(request: object, track_id: str) -> Any:
        await anyio.sleep(1)
        return next(results)

    app = FastAPI()
    app.include_router(events_router(may_see, timeout=1))
    async with emulated() as (_, client), running(app, client) as browser:
        codes = [(await browser.get("/tracks/a/events")).status_code for _ in "123"]
    assert codes == [404, 404, 200]


async def test_a_browser_that_has_seen_the_end_gets_204() -> None:
    async with emulated() as (_, client), running(new_app(), client) as browser:
        browser.cookies.set("user", "1")
        for status, code in (("completed", 204), ("failed", 204)):
            headers = {"Last-Event-ID": status}
            response = await browser.get("/tracks/a/events", headers=headers)
            assert response.status_code == code


async def test_a_missing_track_is_a_problem_event() -> None:
    async with emulated() as (_, client), running(new_app(), client) as browser:
        browser.cookies.set("user", "1")
        response = await browser.get("/tracks/nothing/events")
        ((name, data),) = events_of(response.text)
        assert (name, data["code"]) == ("problem", "not_found")


async def test_a_rate_limited_create_is_a_503_with_retry_after() -> None:
    service = Emulator(queue_size=100, creates_per_minute=2)
    app = new_app(timeout=5)
    async with emulated(service) as (_, client), running(app, client) as browser:
        codes = []
        for _ in range(3):
            response = await browser.post("/tracks", params={"tags": "x"})
            codes.append(response.status_code)
        assert codes == [202, 202, 503]
        assert 40 <= int(response.headers["retry-after"]) <= 61
        assert response.json()["error"]["code"] == "busy"


async def test_a_wrong_parameter_is_a_422_that_names_it() -> None:
    async with emulated() as (_, client), running(new_app(), client) as browser:
        response = await browser.post("/tracks", params={"tags": ""})
        assert response.status_code == 422
        assert response.json()["error"]["field"] == "tags"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RateLimitError("", status_code=429, retry_after=7.2), 503),
        (QueueFullError("", status_code=429), 503),
        (CapacityError("", retry_after=7.2, safe_to_retry=True), 503),
        (BudgetExceededError("5 of 5 credits", retry_after=7.2), 402),
        (APITimeoutError("", safe_to_retry=True), 503),
        (APITimeoutError(""), 504),
        (ClientClosedError(""), 503),
        (InvalidRequestError("bpm", 1, "60 to 200"), 422),
        (BadRequestError("bpm is bad", status_code=400), 422),
        (NotFoundError("", status_code=404), 404),
        (AuthenticationError("the key ft_", status_code=401), 500),
        (InsufficientCreditsError("the account", status_code=402), 500),
        (PermissionDeniedError("the plan", status_code=403), 500),
        (InternalServerError("a stack trace", status_code=500), 502),
        (APIConnectionError("no route"), 502),
        (APIResponseError("not JSON"), 502),
        (SubmissionUnknownError("x", prompt="y", seed=1), 502),
        (GenerationFailedError("x", generation=FAILED), 502),
        (WaitTimeoutError("x", generation_id="a"), 504),
        (FinetuningError("x"), 502),
    ],
)
def test_each_error_has_its_response(error: FinetuningError, status: int) -> None:
    response = answer_to(error)
    body = json.loads(bytes(response.body))["error"]
    assert response.status_code == status
    assert body["message"]
    assert ("retry-after" in response.headers) == (body["code"] == "busy")
    if status in (500, 502) and not isinstance(error, GenerationFailedError):
        assert error.message not in body["message"]


@pytest.mark.parametrize(
    ("of_service", "of_limiter", "sent"),
    [
        (7.2, 3.0, "8"),
        (None, 3.0, "3"),
        (None, float("inf"), "10"),
        (1e9, None, "3600"),
    ],
)
def test_retry_after_is_the_services_else_the_queues(
    of_service: float | None, of_limiter: float | None, sent: str
) -> None:
    error = RateLimitError("", status_code=429, retry_after=of_service)
    assert answer_to(error, turn_in=of_limiter).headers["retry-after"] == sent


async def test_an_application_without_a_client_raises() -> None:
    app = new_app()
    async with browser_of(app, {}) as browser:
        with pytest.raises(RuntimeError, match="client_lifespan"):
            await browser.post("/tracks", params={"tags": "x"})


async def test_the_client_ends_with_the_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FINETUNING_API_KEY", UNUSED_KEY)
    app = FastAPI()
    async with client_lifespan()(app) as state:
        (client,) = state.values()
        assert not client.is_closed
    assert client.is_closed


async def test_the_receiver_mounts_in_fastapi_and_starlette() -> None:
    client = AsyncClient(UNUSED_KEY)
    receiver = WebhookReceiver(client, secrets=[SECRET])
    routed = FastAPI()
    routed.include_router(webhook_router(receiver), prefix="/hooks")
    mounted = Starlette(routes=[Mount("/hooks/finetuning", app=receiver)])
    for app in (routed, mounted):
        async with browser_of(app, {}) as browser:
            url = httpx.URL("/hooks/finetuning")
            if app is mounted:
                url = httpx.URL("/hooks/finetuning/")
            url = url.copy_with(query=query_of(receiver.url("https://me.example")))
            assert (await browser.post(url, content=body_of("a"))).status_code == 204
            assert (await browser.get(url)).status_code == 405
            wrong = url.copy_with(query=b"token=1")
            response = await browser.post(wrong, content=body_of("a"))
            assert (response.status_code, response.content) == (404, b"")
    assert "/hooks/finetuning" not in routed.openapi()["paths"]


async def test_the_receiver_mounts_in_litestar() -> None:
    litestar = pytest.importorskip("litestar", reason="litestar is not installed")
    receiver = WebhookReceiver(AsyncClient(UNUSED_KEY), secrets=[SECRET])
    handler = litestar.asgi("/hooks", is_mount=True, copy_scope=True)(receiver.__call__)
    app = litestar.Litestar([handler], openapi_config=None, logging_config=None)
    async with browser_of(app, {}) as browser:
        url = httpx.URL("/hooks", query=query_of(receiver.url("https://me.example")))
        assert (await browser.post(url, content=body_of("a"))).status_code == 204
        assert (await browser.post("/hooks?token=1")).status_code == 404
