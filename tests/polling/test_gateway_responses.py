"""Responses of a gateway end no wait, unless they last."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async import (
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    FinetuningError,
    NotFoundError,
    PermissionDeniedError,
)
from finetuning_async._polling._failure_tracker import BELIEVED_AFTER
from tests._scripted_service import (
    assert_nothing_left,
    refusal,
    scripted_service,
    wait_for_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests._scripted_service import ScriptedService

HTML = "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"


def html(status: int) -> httpx.Response:
    return httpx.Response(status, html=HTML)


RESPONSES: dict[str, tuple[type[FinetuningError], Callable[[], httpx.Response]]] = {
    "403 html": (PermissionDeniedError, lambda: html(403)),
    "401 html": (AuthenticationError, lambda: html(401)),
    "404 html": (NotFoundError, lambda: html(404)),
    "403 empty": (PermissionDeniedError, lambda: httpx.Response(403)),
    "403 amazon": (
        PermissionDeniedError,
        lambda: httpx.Response(403, json={"message": "Forbidden"}),
    ),
    "403 google": (
        PermissionDeniedError,
        lambda: httpx.Response(
            403, json={"error": {"code": 403, "status": "PERMISSION_DENIED"}}
        ),
    ),
    "403 cloudflare": (
        PermissionDeniedError,
        lambda: httpx.Response(403, json={"errors": [{"code": 1020}]}),
    ),
    "451": (APIStatusError, lambda: httpx.Response(451, text="not in your country")),
    "421": (APIStatusError, lambda: httpx.Response(421)),
    "302": (
        APIStatusError,
        lambda: httpx.Response(302, headers={"Location": "https://login.test/"}),
    ),
    "captive portal": (APIResponseError, lambda: html(200)),
}


def between(
    service: ScriptedService,
    response: Callable[[], httpx.Response],
    begin: float,
    end: float,
) -> None:
    """Let a gateway respond within a span."""

    async def intercept(request: httpx.Request) -> httpx.Response | None:
        return response() if begin <= anyio.current_time() < end else None

    service.intercept = intercept


@pytest.mark.sampled(3)
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", RESPONSES)
async def test_gateway_responses_for_a_minute_end_no_wait(
    name: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 100.0).id for n in range(count)]
        between(service, RESPONSES[name][1], 10, 70)
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        warning, end = caplog.messages
        assert "a gateway may have responded" in warning
        assert "reading tracks works again" in end


async def test_a_single_gateway_response_is_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(5)]
        calls = 0

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            return html(403) if calls % 4 == 0 else None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(caplog.messages) == 1
        assert "403" in caplog.messages[0]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", RESPONSES)
async def test_lasting_gateway_responses_end_all_waits(name: str) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 500.0).id for n in range(5)]
        kind, response = RESPONSES[name]
        between(service, response, 10, 10_000)
        errors = await wait_for_all(client, *ids)
        assert {type(error) for error in errors} == {kind}
        assert {error.generation_id for error in errors} == set(ids)
        assert 10 + BELIEVED_AFTER <= anyio.current_time() < 10 + BELIEVED_AFTER + 30
        assert_nothing_left(client)


async def test_lasting_gateway_responses_for_one_track_end_its_wait_only() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 150.0, is_listed=False).id for n in range(3)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return html(403) if request.url.path.endswith("t0") else None

        service.intercept = intercept
        blocked, *states = await wait_for_all(client, *ids)
        assert isinstance(blocked, PermissionDeniedError)
        assert {state.status for state in states} == {"completed"}


async def test_errors_of_the_service_itself_never_end_a_wait() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 400.0)
        between(service, lambda: html(502), 10, 390)
        done = await client.wait_for_completion("a", timeout=None)
        assert done.status == "completed"


async def test_a_list_that_a_gateway_blocks_is_replaced_by_gets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(4)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return html(403) if "limit" in request.url.params else None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(service.pages) <= 6
        assert len(caplog.messages) == 1


@pytest.mark.parametrize("code", ["INVALID_API_KEY", "ACCOUNT_SUSPENDED"])
async def test_a_refusal_of_the_service_itself_ends_all_waits_at_once(
    code: str,
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 500.0).id for n in range(5)]
        between(service, lambda: refusal(403, code), 10, 10_000)
        errors = await wait_for_all(client, *ids)
        assert {type(error) for error in errors} == {PermissionDeniedError}
        assert anyio.current_time() < 13
