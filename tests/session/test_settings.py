"""A client's options: headers, proxy, certificates, and those of each call."""

from __future__ import annotations

import math
import re
import ssl
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from hypothesis import given, strategies as st

from finetuning_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    FinetuningError,
    InvalidRequestError,
    LocalRateLimiter,
    RateLimitError,
    __version__,
)
from finetuning_async._api._requests import GenerationRequest
from finetuning_async._http._connection_config import ConnectionConfig
from finetuning_async._http._headers import read_headers
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._secret_canary import KEY, assert_clean, everything_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = KEY[8:]  # the canary looks for it
MEDIA = "https://media.finetuning.ai/a.mp3"


def _listening(
    seen: list[httpx.Request], **options: Any
) -> tuple[httpx.AsyncClient, AsyncClient]:
    def respond(request: httpx.Request) -> httpx.Response:
        # A copy: the client removes its headers from the request afterwards.
        seen.append(httpx.Request("GET", request.url, headers=request.headers))
        if request.url.host == "media.finetuning.ai":
            return httpx.Response(200, content=b"mp3")
        return httpx.Response(200, json={"status": "ok"})

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    return http, AsyncClient(KEY, http_client=http, **options)


async def test_the_user_agent_names_the_library_python_and_httpx() -> None:
    seen: list[httpx.Request] = []
    http, client = _listening(seen)
    async with http, client:
        await client.health()
    python = ".".join(map(str, sys.version_info[:3]))
    agent = f"finetuning-async/{__version__} python/{python} httpx/{httpx.__version__}"
    assert seen[0].headers["user-agent"] == agent


async def test_the_callers_headers_go_to_the_service_and_not_to_the_media_host(
    tmp_path: Path,
) -> None:
    seen: list[httpx.Request] = []
    http, client = _listening(seen, headers={"X-Gateway": "a", "user-agent": "mine"})
    async with http, client:
        await client.health()
        await client.with_options(headers={"X-Gateway": "b"}).health()
        await client.with_options(headers=None).health()
        await client.download(MEDIA, tmp_path / "a.mp3")
    assert [request.headers.get("x-gateway") for request in seen] == [
        "a",
        "b",
        None,
        None,
    ]
    assert seen[0].headers.get_list("user-agent") == ["mine"]
    assert "mine" not in seen[-1].headers["user-agent"]


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"X-API-Key": SECRET}, "pass api_key="),
        ({"content-type": "text/plain"}, "only the client sets"),
        ({"Content-Length": "7"}, "only the client sets"),
        ({"Host": "far.example"}, "only the client sets"),
        ({"Transfer-Encoding": "chunked"}, "only the client sets"),
        ({"X-A": f"{SECRET}\r\nX-API-Key: mine"}, "line breaks"),
        ({"X-A": f"{SECRET}\n"}, "line breaks"),
        ({"X-A": f"{SECRET}\0"}, "printable"),
        ({"X-A": f"{SECRET}é"}, "ASCII"),
        ({"X-A": f" {SECRET}"}, "ends"),
        ({"X-A": ""}, "printable"),
        ({"X-A": 7}, "printable"),
        ({"X-A": SECRET.encode()}, "printable"),
        ({f"X-A: {SECRET}\r\nB": "c"}, "header names"),
        ({"": SECRET}, "header names"),
        ({7: SECRET}, "header names"),
        ({"X-A": "a", "x-a": SECRET}, "twice"),
        ([("X-A", SECRET)], "a mapping"),
        (SECRET, "a mapping"),
    ],
)
def test_invalid_headers_are_refused_and_not_shown(headers: Any, why: str) -> None:
    client = AsyncClient(KEY)
    for make in (AsyncClient, client.with_options):
        with pytest.raises(InvalidRequestError, match=why) as caught:
            make(api_key=KEY, headers=headers)
        assert caught.value.field == "headers"
        assert_clean("the error", *everything_of(caught.value))


@pytest.mark.parametrize(
    "proxy",
    [
        f"ftp://me:{SECRET}@proxy.example",
        f"me:{SECRET}@proxy.example",
        f"http://me:{SECRET}@proxy.example:port",
        f"http://me:{SECRET}@",
        "socks5://proxy.example",
        "",
        7,
        b"http://proxy.example",
    ],
)
def test_an_invalid_proxy_is_refused_and_not_shown(proxy: Any) -> None:
    with pytest.raises(InvalidRequestError, match="proxy must be") as caught:
        AsyncClient(KEY, proxy=proxy)
    assert_clean("the error", *everything_of(caught.value))


@pytest.mark.parametrize(
    "options", [{"verify": 7}, {"verify": "/no/such/file"}, {"trust_env": "yes"}]
)
def test_the_error_of_an_invalid_option_does_not_show_secret_options(
    options: dict[str, Any],
) -> None:
    secrets: dict[str, Any] = {
        "headers": {"X-A": SECRET},
        "proxy": f"http://me:{SECRET}@proxy.example",
    }
    with pytest.raises(InvalidRequestError) as caught:
        AsyncClient(KEY, **{**secrets, **options})
    assert caught.value.field in options
    assert_clean("the error", *everything_of(caught.value))


def test_secret_options_are_in_no_repr() -> None:
    client = AsyncClient(
        KEY, headers={"X-A": SECRET}, proxy=f"http://me:{SECRET}@proxy.example"
    )
    for part in (client, client._settings.headers, client._pool, client._settings):
        assert_clean("a repr", repr(part), str(part))
    assert_clean("the client", repr(vars(client)), repr(vars(client._pool)))
    assert "X-A" in repr(client._settings.headers)


@pytest.mark.parametrize(
    "options",
    [{"proxy": "http://proxy.example"}, {"verify": False}, {"trust_env": False}],
)
async def test_connection_options_are_refused_with_the_callers_http_client(
    options: dict[str, Any],
) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(InvalidRequestError, match="on the client itself"):
            AsyncClient(KEY, http_client=http, **options)
        async with AsyncClient(KEY) as client:
            with pytest.raises(InvalidRequestError, match="shared by all views"):
                client.with_options(**options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("api_key", SECRET.encode()),
        ("base_url", 3),
        ("request_timeout", -1),
        ("request_timeout", 0),
        ("request_timeout", math.nan),
        ("request_timeout", "30"),
        ("rate_limiter", 3),
        ("rate_limiter", LocalRateLimiter),  # the class, not an instance
        ("http_client", "an httpx client, but not an async one"),
        ("proxy", f"http://me:{SECRET}@proxy.example:99999"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_by_its_name(
    option: str, value: Any
) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{option}") as caught:
        AsyncClient(**{"api_key": KEY, option: value})
    assert SECRET not in str(caught.value)


async def test_an_invalid_proxy_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"ftp://me:{SECRET}@proxy.example")
    async with AsyncClient(KEY) as client:
        with pytest.raises(InvalidRequestError, match="ALL_PROXY") as caught:
            await client.generations.create("x")
        assert_clean("the error", *everything_of(caught.value))
        assert client.is_closed is False
        monkeypatch.delenv("ALL_PROXY")
        assert client.rate_limit_status().creates.available == 10


def test_default_certificates_are_loaded_once_and_the_environment_is_respected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual, other = ConnectionConfig(), ConnectionConfig()
    assert usual.tls() is other.tls()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(InvalidRequestError, match="SSL_CERT_FILE"):
        usual.tls()
    assert ConnectionConfig(trust_env=False).tls().verify_mode == ssl.CERT_REQUIRED
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert usual.tls().get_ca_certs() == []


def test_verifying_no_certificate_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = ConnectionConfig(verify=False).tls()
    assert context.verify_mode == ssl.CERT_NONE
    assert "verify=False" in caplog.text
    mine = ssl.create_default_context()
    assert ConnectionConfig(verify=mine).tls() is mine


CALLS: dict[str, Callable[[AsyncClient, Path], Callable[..., Any]]] = {
    "me": lambda c, _: c.me,
    "health": lambda c, _: c.health,
    "generate": lambda c, _: lambda **o: c.generate("x", **o),
    "create": lambda c, _: lambda **o: c.generations.create("x", **o),
    "get": lambda c, _: lambda **o: c.generations.get("x", **o),
    "list": lambda c, _: lambda **o: _first(c.generations.list(**o)),
    "delete": lambda c, _: lambda **o: c.generations.delete(["x"], **o),
    "instrumental": lambda c, _: lambda **o: c.instrumentals.create("x", **o),
    "effect": lambda c, _: lambda **o: c.sound_effects.create("x", **o),
    "get effect": lambda c, _: lambda **o: c.sound_effects.get("x", **o),
    "list effects": lambda c, _: lambda **o: _first(c.sound_effects.list(**o)),
    "playlists": lambda c, _: lambda **o: _first(c.playlists.list(**o)),
    "playlist": lambda c, _: lambda **o: c.playlists.get("x", **o),
    "add": lambda c, _: lambda **o: c.playlists.add_tracks("x", ["y"], **o),
    "remove": lambda c, _: lambda **o: c.playlists.remove_tracks("x", ["y"], **o),
    "move": lambda c, _: lambda **o: c.playlists.move_tracks("x", "y", ["z"], **o),
    "generate_many": lambda c, _: lambda **o: _many(c, **o),
    "download": lambda c, folder: lambda **o: c.download(MEDIA, folder / "a.mp3", **o),
}


async def _first(listing: Any) -> Any:
    return await listing


async def _many(client: AsyncClient, **options: Any) -> None:
    many = client.generate_many([GenerationRequest("x")], **options)
    async with many as outcomes:
        async for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_takes_its_own_retries_and_timeout(
    name: str, tmp_path: Path
) -> None:
    async with emulated(max_retries=7) as (emulator, client):
        call = CALLS[name](client, tmp_path)
        for retries in (0, 2):
            fault = emulator.add_fault(Fault("connect_refused", times=None))
            with pytest.raises(APIConnectionError):
                await call(max_retries=retries)
            assert fault.hits == retries + 1
            emulator.clear_faults()
        with pytest.raises(InvalidRequestError, match=r"max_retries .* got -1"):
            await call(max_retries=-1)
        emulator.add_fault(Fault("connect_hangs", times=None, seconds=900))
        begun = anyio.current_time()
        with pytest.raises(APITimeoutError) as caught:
            await call(timeout=2.5, max_retries=0)
        # A create that is connecting is given up only once connecting has failed.
        assert 2.4 < anyio.current_time() - begun < 5.1
        assert caught.value.safe_to_retry
        with pytest.raises(InvalidRequestError, match=r"timeout .* got -1"):
            await call(timeout=-1)


async def test_a_create_without_retries_raises_a_429_at_once() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(
            Fault("status", status=429, code="GENERATION_RATE_LIMITED", times=1)
        )
        with pytest.raises(RateLimitError):
            await client.generations.create("x", max_retries=0)


async def test_a_create_without_retries_does_not_wait_for_a_full_queue() -> None:
    async with emulated(Emulator(queue_size=1)) as (_, client):
        await client.generations.create("x")
        with pytest.raises(FinetuningError, match=re.compile("queue", re.IGNORECASE)):
            await client.generations.create("y", max_retries=0)


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_an_accepted_header_cannot_start_another_header(pairs: dict[str, str]) -> None:
    headers, problem = read_headers(pairs)
    assert (headers is None) == bool(problem)
    for name, value in headers.reveal().items() if headers is not None else ():
        assert name.isascii()
        assert value.isascii()
        assert name.strip() == name != ""
        assert not {*"\r\n\0: "} & {*name}
        assert not {*"\r\n\0"} & {*value}
