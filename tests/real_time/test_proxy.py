"""Calls through a proxy, and to a service with a private certificate authority.

The proxy is named by the environment or by `proxy=`.
"""

from __future__ import annotations

import os
import ssl
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import trustme
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from finetuning_async import (
    APIConnectionError,
    APIResponseError,
    AsyncClient,
    InvalidRequestError,
)
from finetuning_async.emulator import Emulator, serve
from finetuning_async.otel import OpenTelemetry
from tests._secret_canary import KEY, assert_clean, everything_of
from tests.real_time._http_proxy import LOGIN, http_proxy, tls_service

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("warm_programs")

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on asyncio only


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def _client(url: str, **options: Any) -> AsyncClient:
    options = {"max_retries": 0, "request_timeout": 2.0, **options}
    return AsyncClient(KEY, base_url=url, rate_limits=None, **options)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy", "proxy="])
async def test_plain_requests_go_through_the_proxy(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator() as emulator, serve(emulator) as url:
        emulator.add_key(KEY)
        async with http_proxy() as (proxy, place):
            login, options = f"http://{LOGIN}@{place}", {}
            if name == "proxy=":
                options["proxy"] = login
            else:
                monkeypatch.setenv(name, login)
            async with _client(url, **options) as client:
                track = await client.generations.create("x")
                await client.generations.get(track.id)
            assert proxy.asked == [
                f"POST {url}/v1/generations",
                f"GET {url}/v1/generations/{track.id}",
            ]
            assert proxy.got_the_login()


@pytest.mark.parametrize("how", ["NO_PROXY", "trust_env"])
async def test_a_proxy_can_be_disabled(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Emulator() as emulator,
        serve(emulator) as url,
        http_proxy() as (
            proxy,
            place,
        ),
    ):
        monkeypatch.setenv("ALL_PROXY", f"http://{place}")
        if how == "NO_PROXY":
            monkeypatch.setenv(how, "127.0.0.1")
        async with _client(url, trust_env=how == "NO_PROXY") as client:
            assert (await client.health()).status == "ok"
        assert proxy.heads == []


async def test_a_tunnel_shows_the_proxy_neither_key_nor_path(
    server_tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_service(server_tls) as url, http_proxy() as (proxy, place):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{LOGIN}@{place}")
        async with _client(url, verify=bundle, headers={"X-Gateway": KEY}) as client:
            assert (await client.health()).status == "ok"
            with pytest.raises(APIResponseError):  # the service has one fixed response
                await client.me()
        assert proxy.asked == [f"CONNECT {url.removeprefix('https://')}"]
        assert_clean("the proxy", *proxy.heads)


@pytest.mark.parametrize(("status", "hangs"), [(407, False), (502, False), (0, True)])
async def test_a_create_that_the_proxy_refuses_was_not_sent(
    status: int,
    *,
    hangs: bool,
    server_tls: ssl.SSLContext,
    bundle: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tls_service(server_tls) as url, http_proxy() as (proxy, place):
        proxy.refuses, proxy.hangs = status or None, hangs
        login = f"http://{LOGIN}@{place}"
        async with _client(
            url, verify=bundle, proxy=login, request_timeout=0.3
        ) as client:
            with pytest.raises(APIConnectionError, match="was not sent") as caught:
                await client.generations.create("x")
    assert caught.value.safe_to_retry == (status != 407)  # a wrong login stays wrong
    shown = [caplog.text, *map(str, everything_of(caught.value))]
    assert not any(LOGIN.partition(":")[2] in text for text in shown)


async def test_certificates_of_a_private_authority(
    server_tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_service(server_tls) as url:
        async with _client(url) as client:
            with pytest.raises(APIConnectionError, match="was not sent"):
                await client.generations.create("x")
        mine = ssl.create_default_context(cafile=bundle)
        for verify in (bundle, mine, False):
            async with _client(url, verify=verify) as client:
                assert (await client.health()).status == "ok"
        monkeypatch.setenv("SSL_CERT_FILE", bundle)
        async with _client(url) as client:
            assert (await client.health()).status == "ok"
        async with _client(url, trust_env=False) as client:
            with pytest.raises(APIConnectionError):
                await client.health()
        monkeypatch.setenv("SSL_CERT_FILE", __file__)
        async with _client(url) as client:
            with pytest.raises(InvalidRequestError, match="SSL_CERT_FILE"):
                await client.health()
        async with httpx.AsyncClient(verify=mine) as http:
            async with _client(url, http_client=http) as client:
                assert (await client.health()).status == "ok"


async def test_the_callers_headers_reach_a_service_behind_tls(
    server_tls: ssl.SSLContext, bundle: str
) -> None:
    heads: list[bytes] = []
    own = {"X-Gateway": "open", "User-Agent": "mine"}
    async with tls_service(server_tls, heads) as url:
        async with _client(url, verify=bundle, headers=own) as client:
            for _ in range(2):
                assert (await client.health()).status == "ok"
    for head in heads:
        assert head.count(b"\r\nX-Gateway: open") == 1
        assert head.lower().count(b"user-agent: ") == head.count(b"mine") == 1


async def test_the_cli_uses_the_proxy_of_the_environment() -> None:
    async with (
        Emulator() as emulator,
        serve(emulator) as url,
        http_proxy() as (
            proxy,
            place,
        ),
    ):
        environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith("FINETUNING")},
            "HTTP_PROXY": f"http://{LOGIN}@{place}",
            "FINETUNING_BASE_URL": url,
            "FINETUNING_CONFIG_HOME": os.devnull,
            "FINETUNING_LOG": "debug",
        }
        done = await anyio.run_process(
            [sys.executable, "-m", "finetuning_async", "health"], env=environment
        )
    assert done.stdout.split() == [b"ok"]
    assert done.stderr.count(b"GET /health: 200 in ") == 1
    assert proxy.asked == [f"GET {url}/health"]
    assert LOGIN.partition(":")[2].encode() not in done.stdout + done.stderr


async def test_requests_are_traced_once_where_httpx_is_instrumented() -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=tracers)
    try:
        async with Emulator() as emulator, serve(emulator) as url:
            emulator.add_key(KEY)
            callback = OpenTelemetry(tracer_provider=tracers)
            async with _client(url, on_event=callback) as client:
                await client.generations.create("x")
    finally:
        instrumentor.uninstrument()
    request, create = exporter.get_finished_spans()
    assert (request.name, create.name) == ("POST", "finetuning.create")
    assert request.parent == create.context
    assert create.events == ()  # it did not wait for the rate limit
    assert_clean("the spans", request.to_json(), create.to_json())
