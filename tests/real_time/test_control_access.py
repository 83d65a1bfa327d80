"""Who may control an emulator on a port; told over raw HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from finetuning_async.emulator import Emulator, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "let-me-in"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn supports no other loop


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with Emulator() as emulator, serve(emulator) as url:
        yield url


@pytest.fixture
async def guarded() -> AsyncIterator[str]:
    async with Emulator() as emulator, serve(emulator, admin_token=TOKEN) as url:
        yield url


async def status(url: str, **headers: str) -> int:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{url}/_emulator/state", headers=headers)
    return answer.status_code


async def test_this_machine_needs_no_token(url: str, guarded: str) -> None:
    for base in (url, guarded, url.replace("127.0.0.1", "localhost")):
        assert await status(base) == 200


async def test_a_page_of_another_site_is_refused(url: str, guarded: str) -> None:
    assert await status(url, Origin="https://evil.example") == 403
    assert await status(url, Origin="null") == 403
    assert await status(url, Origin=url.replace("http:", "https:")) == 200
    assert await status(url, Origin="http://127.0.0.1:1") == 403
    assert await status(guarded, **BEARER, Origin="https://evil.example") == 403


async def test_its_own_page_is_let_in(url: str) -> None:
    assert await status(url, Origin=url) == 200


async def test_a_name_that_leads_here_is_not_this_machine(url: str) -> None:
    port = url.rpartition(":")[2]
    assert await status(url, Host=f"evil.example:{port}") == 403
    assert await status(url, Host=f"127.0.0.1.evil.example:{port}") == 403
    assert await status(url, Host="") == 403


async def test_the_token_opens_any_host(guarded: str) -> None:
    assert await status(guarded, Host="emulator:8787") == 401
    assert await status(guarded, Host="emulator:8787", **BEARER) == 200
    wrong = {"Authorization": "Bearer wrong"}
    assert await status(guarded, Host="emulator:8787", **wrong) == 401
    assert await status(guarded, **wrong) == 401


async def test_a_token_that_nobody_set_opens_nothing(url: str) -> None:
    assert await status(url, Host="emulator:8787", **BEARER) == 403


async def test_the_address_it_listens_on_is_a_host() -> None:
    async with Emulator() as emulator, serve(emulator, host="0.0.0.0") as url:  # noqa: S104 - is the point
        port = url.rpartition(":")[2]
        here = f"http://127.0.0.1:{port}"
        assert await status(here, Host=f"0.0.0.0:{port}") == 200
        assert await status(here, Host=f"10.0.0.1:{port}") == 403


async def test_a_refusal_says_what_to_do(url: str, guarded: str) -> None:
    async with httpx.AsyncClient(headers={"Host": "emulator"}) as http:
        answer = await http.post(f"{url}/_emulator/reset")
        assert "--admin-token" in answer.json()["error"]["message"]
        answer = await http.post(f"{guarded}/_emulator/reset")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "Authorization: Bearer" in answer.json()["error"]["message"]
