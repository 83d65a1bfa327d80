"""A webhook receiver wherever it can be mounted, served by uvicorn on a port."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from finetuning_async import AsyncClient
from finetuning_async.fastapi import webhook_router
from finetuning_async.webhooks import WebhookReceiver
from tests._app_on_port import on_a_port
from tests.webhooks._webhook_calls import SECRET, UNUSED_KEY, body_of

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLIC = "https://me.example"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


def routed(receiver: WebhookReceiver) -> Any:
    return Starlette(routes=[Route("/hooks", receiver)])


def mounted(receiver: WebhookReceiver) -> Any:
    return Starlette(routes=[Mount("/hooks", app=receiver)])


def mounted_in_fastapi(receiver: WebhookReceiver) -> Any:
    app = FastAPI()
    app.mount("/hooks", receiver)
    return app


def with_a_router(receiver: WebhookReceiver) -> Any:
    app = FastAPI()
    app.include_router(webhook_router(receiver, path="/hooks"))
    return app


def with_a_router_and_a_slash(receiver: WebhookReceiver) -> Any:
    app = FastAPI()
    app.include_router(webhook_router(receiver, path="/"), prefix="/hooks")
    return app


def in_litestar(receiver: WebhookReceiver) -> Any:
    import litestar  # takes long to load

    handler = litestar.asgi("/hooks", is_mount=True, copy_scope=True)(receiver.__call__)
    return litestar.Litestar([handler], openapi_config=None, logging_config=None)


def alone(receiver: WebhookReceiver) -> Any:
    return receiver


@pytest.mark.sampled(3)
@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize(
    ("place", "path"),
    [
        (routed, "/hooks"),
        (mounted, "/hooks/"),
        (mounted, "/hooks/deeper"),
        (mounted_in_fastapi, "/hooks/"),
        (with_a_router, "/hooks"),
        (with_a_router, "/hooks/"),
        (with_a_router_and_a_slash, "/hooks/"),
        (in_litestar, "/hooks"),
        (in_litestar, "/hooks/"),
        (alone, "/hooks"),
        (alone, "/"),
    ],
)
async def test_a_delivery_is_received_wherever_the_receiver_is_mounted(
    place: Callable[[WebhookReceiver], Any],
    path: str,
    root_path: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = WebhookReceiver(AsyncClient(UNUSED_KEY), secrets=[SECRET])
    target = receiver.url(PUBLIC + path).removeprefix(PUBLIC)
    async with on_a_port(place(receiver), root_path=root_path) as url:
        async with httpx.AsyncClient(base_url=url) as sender:
            response = await sender.post(target, content=body_of("a"))
    assert response.status_code == 204
    assert "?token=**** HTTP" in caplog.text
    assert target.partition("token=")[2] not in caplog.text


@pytest.mark.parametrize("place", [mounted, mounted_in_fastapi])
async def test_a_redirect_logs_no_token_and_leads_to_the_receiver(
    place: Callable[[WebhookReceiver], Any], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = WebhookReceiver(AsyncClient(UNUSED_KEY), secrets=[SECRET])
    target = receiver.url(PUBLIC + "/hooks").removeprefix(PUBLIC)
    async with on_a_port(place(receiver)) as url:
        async with httpx.AsyncClient(base_url=url, follow_redirects=True) as sender:
            response = await sender.post(target, content=body_of("a"))
    assert [hop.status_code for hop in (*response.history, response)] == [307, 204]
    lines = [r.getMessage() for r in caplog.records if r.name == "uvicorn.access"]
    assert [line.partition("token=")[2][:4] for line in lines] == ["****", "****"]
    assert target.partition("token=")[2] not in "".join(lines)


async def test_invalid_bodies_are_refused_over_a_port(
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver = WebhookReceiver(AsyncClient(UNUSED_KEY), secrets=[SECRET])
    target = receiver.url(PUBLIC + "/hooks").removeprefix(PUBLIC)
    bodies = {
        b"[" * 200_000: 400,
        b'{"id":' * 40_000: 400,
        b"\xff\xfe{}": 400,
        b'{"id": "\\ud800"}': 400,
        b" " * 10_000_000: 413,
    }
    async with on_a_port(routed(receiver)) as url:
        async with httpx.AsyncClient(base_url=url) as sender:
            got = {
                b: (await sender.post(target, content=b)).status_code for b in bodies
            }
    assert list(got.values()) == list(bodies.values())
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
