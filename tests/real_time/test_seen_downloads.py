"""Tools that observe or replace httpx see each of our downloads.

Each is tested with our own client, with the caller's httpx client, and with an httpx2
client if the tool supports it. The media host is a real port that records its requests.
"""

from __future__ import annotations

import importlib
import json
import random
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest
import respx
import trustme
import vcr
from opentelemetry.instrumentation.httpx import (
    HTTPX2ClientInstrumentor,
    HTTPXClientInstrumentor,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from finetuning_async import APIResponseError, AsyncClient, NotFoundError
from tests._raw_server import KEY, Asked, Server, serving
from tests.real_time._clients import WHOSE, client_of, forget_proxies
from tests.real_time._http_proxy import LOGIN, http_proxy, tls_service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from pytest_httpx import HTTPXMock

pytestmark = [pytest.mark.usefixtures("warm_programs"), pytest.mark.sampled(2)]

SONG = random.Random(19).randbytes(300_000)
LIBRARIES = ["httpx", "httpx2"]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


def raw_response(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def media_host() -> AsyncGenerator[Server]:
    """A host with a file, a redirect to it, and a page; anything else is a 404."""

    async def respond(asked: Asked) -> bytes:
        return {
            "/a.mp3": raw_response(200, SONG, "Content-Type: audio/mpeg", 'ETag: "1"'),
            "/moved.mp3": raw_response(302, b"", "Location: /a.mp3"),
            "/page.mp3": raw_response(200, b"<html>", "Content-Type: text/html"),
        }.get(asked.path, raw_response(404))

    async with serving(respond) as server:
        yield server


@pytest.mark.parametrize("using", ["httpx", "httpcore"])
@pytest.mark.parametrize("way", ["ours", "httpx"])
async def test_respx_answers_a_download(way: str, using: str, tmp_path: Path) -> None:
    async with media_host() as server, client_of(way, server.url) as client:
        with respx.mock(using=using) as router:
            route = router.get(f"{server.url}/b.mp3").respond(200, content=SONG)
            path = await client.download(f"{server.url}/b.mp3", tmp_path / "b.mp3")
    assert path.read_bytes() == SONG
    assert route.call_count == 1
    assert not server.asked


@pytest.mark.parametrize("way", ["ours", "httpx"])
async def test_pytest_httpx_answers_a_download(
    way: str, tmp_path: Path, httpx_mock: HTTPXMock
) -> None:
    async with media_host() as server, client_of(way, server.url) as client:
        httpx_mock.add_response(url=f"{server.url}/b.mp3", content=SONG)
        path = await client.download(f"{server.url}/b.mp3", tmp_path / "b.mp3")
    assert path.read_bytes() == SONG
    (request,) = httpx_mock.get_requests()
    assert "x-api-key" not in request.headers
    assert not server.asked


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", WHOSE)
async def test_vcr_records_a_download_and_plays_it(way: str, tmp_path: Path) -> None:
    cassette = str(tmp_path / "cassette.yaml")
    async with media_host() as server:
        for name in ("recorded", "played"):
            async with client_of(way, server.url) as client:
                with vcr.use_cassette(cassette):
                    path = await client.download(
                        f"{server.url}/moved.mp3", tmp_path / f"{name}.mp3"
                    )
            assert path.read_bytes() == SONG
    assert [asked.path for asked in server.asked] == ["/moved.mp3", "/a.mp3"]


@pytest.mark.parametrize("way", WHOSE)
async def test_opentelemetry_sees_each_request_of_a_download(
    way: str, tmp_path: Path
) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    is_new = way == "httpx2"
    instrumentor = HTTPX2ClientInstrumentor() if is_new else HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=tracers)
    try:
        async with media_host() as server, client_of(way, server.url) as client:
            path = await client.download(f"{server.url}/moved.mp3", tmp_path / "a.mp3")
    finally:
        instrumentor.uninstrument()
    assert path.read_bytes() == SONG
    spans = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    assert [(span["http.url"], span["http.status_code"]) for span in spans] == [
        (f"{server.url}/moved.mp3", 302),
        (f"{server.url}/a.mp3", 200),
    ]


SENTRY = """
import importlib, json, sys
import anyio, sentry_sdk
from sentry_sdk.integrations.httpx import HttpxIntegration
from sentry_sdk.integrations.httpx2 import Httpx2Integration
from sentry_sdk.transport import Transport
from finetuning_async import AsyncClient

way, url, folder, key = sys.argv[1:]
events = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        events.append(envelope.get_transaction_event())

sentry_sdk.init(
    "https://key@sentry.example/1",
    transport=Kept(),
    traces_sample_rate=1.0,
    default_integrations=False,
    auto_enabling_integrations=False,
    integrations=[HttpxIntegration(), Httpx2Integration()],
)

async def main():
    http = None if way == "ours" else importlib.import_module(way).AsyncClient()
    async with AsyncClient(key, base_url=url, http_client=http) as client:
        with sentry_sdk.start_transaction(name="download"):
            await client.download(url + "/moved.mp3", folder + "/a.mp3")
    if http is not None:
        await http.aclose()

anyio.run(main)
spans = [span for event in events for span in event["spans"]]
print(json.dumps([(span["op"], span["description"]) for span in spans]))
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("way", WHOSE)
async def test_sentry_sees_each_request_of_a_download(way: str, tmp_path: Path) -> None:
    """In a separate process, because Sentry patches httpx for good."""
    async with media_host() as server:
        done = await anyio.run_process(
            [sys.executable, "-c", SENTRY, way, server.url, str(tmp_path), KEY],
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0, done.stdout.decode()
    assert json.loads(done.stdout) == [
        ["http.client", f"GET {server.url}/moved.mp3"],
        ["http.client", f"GET {server.url}/a.mp3"],
    ]
    assert (tmp_path / "a.mp3").read_bytes() == SONG


@pytest.mark.parametrize("library", LIBRARIES)
async def test_event_hooks_see_each_request_of_a_download(
    library: str, tmp_path: Path
) -> None:
    seen: list[object] = []

    async def on_request(request: Any) -> None:
        seen.append(request.url.path)

    async def on_response(response: Any) -> None:
        seen.append(response.status_code)

    hooks = {"request": [on_request], "response": [on_response]}
    async with media_host() as server:
        async with client_of(library, server.url, event_hooks=hooks) as client:
            path = await client.download(f"{server.url}/moved.mp3", tmp_path / "a.mp3")
    assert path.read_bytes() == SONG
    assert seen == ["/moved.mp3", 302, "/a.mp3", 200]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_hook_may_read_the_file_itself(library: str, tmp_path: Path) -> None:
    read: list[int] = []

    async def on_response(response: Any) -> None:
        read.append(len(await response.aread()))

    hooks = {"response": [on_response]}
    async with media_host() as server:
        async with client_of(library, server.url, event_hooks=hooks) as client:
            path = await client.download(f"{server.url}/moved.mp3", tmp_path / "a.mp3")
    assert path.read_bytes() == SONG
    assert read == [0, len(SONG)]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_an_event_hook_may_raise_for_an_error_status(
    library: str, tmp_path: Path
) -> None:
    async def on_response(response: Any) -> None:
        if not response.has_redirect_location:
            response.raise_for_status()

    hooks = {"response": [on_response]}
    async with media_host() as server:
        async with client_of(library, server.url, event_hooks=hooks) as client:
            path = await client.download(f"{server.url}/moved.mp3", tmp_path / "a.mp3")
            assert path.read_bytes() == SONG
            with pytest.raises(NotFoundError):
                await client.download(f"{server.url}/b.mp3", tmp_path / "b.mp3")
    assert [asked.path for asked in server.asked] == ["/moved.mp3", "/a.mp3", "/b.mp3"]


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_transport_mounted_for_the_media_host_is_used(
    library: str, tmp_path: Path
) -> None:
    module = importlib.import_module(library)
    seen: list[str] = []

    def respond(request: Any) -> Any:
        seen.append(str(request.url))
        return module.Response(200, content=SONG)

    mounts = {"all://media.example": module.MockTransport(respond)}
    async with media_host() as server:
        async with client_of(library, server.url, mounts=mounts) as client:
            url = "https://media.example/b.mp3"
            path = await client.download(url, tmp_path / "b.mp3")
            assert path.read_bytes() == SONG
            path = await client.download(f"{server.url}/a.mp3", tmp_path / "a.mp3")
            assert path.read_bytes() == SONG
    assert seen == [url]
    assert [asked.path for asked in server.asked] == ["/a.mp3"]


@pytest.mark.parametrize("way", [*WHOSE, "HTTP_PROXY"])
async def test_a_download_goes_through_the_proxy(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with media_host() as server, http_proxy() as (proxy, place):
        login = f"http://{LOGIN}@{place}"
        if way == "HTTP_PROXY":
            monkeypatch.setenv("HTTP_PROXY", login)
            around = client_of("ours", server.url)
        else:
            around = client_of(way, server.url, proxy=login)
        async with around as client:
            path = await client.download(f"{server.url}/moved.mp3", tmp_path / "a.mp3")
        assert path.read_bytes() == SONG
        assert proxy.asked == [
            f"GET {server.url}/moved.mp3",
            f"GET {server.url}/a.mp3",
        ]
        assert proxy.got_the_login()


@pytest.mark.parametrize("way", WHOSE)
async def test_a_download_goes_through_a_tunnel_of_https_proxy(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    file = raw_response(200, SONG, "Content-Type: audio/mpeg")
    async with tls_service(theirs, says=file) as url, http_proxy() as (proxy, place):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{LOGIN}@{place}")
        async with client_of(way, url, verify=ours) as client:
            path = await client.download(f"{url}/a.mp3", tmp_path / "a.mp3")
    assert path.read_bytes() == SONG
    assert proxy.asked == [f"CONNECT {url.removeprefix('https://')}"]
    assert proxy.got_the_login()


@pytest.mark.parametrize("way", WHOSE)
async def test_a_page_instead_of_a_track_raises_with_any_client(
    way: str, tmp_path: Path
) -> None:
    async with media_host() as server, client_of(way, server.url) as client:
        with pytest.raises(APIResponseError, match="sent text/html"):
            await client.download(f"{server.url}/page.mp3", tmp_path / "a.mp3")
    assert not (tmp_path / "a.mp3").exists()


@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_the_callers_client_stays_open_after_a_download(
    module: Any, tmp_path: Path
) -> None:
    async with media_host() as server, module.AsyncClient() as http:
        async with AsyncClient(KEY, base_url=server.url, http_client=http) as client:
            await client.download(f"{server.url}/a.mp3", tmp_path / "a.mp3")
        assert (await http.get(f"{server.url}/a.mp3")).content == SONG
    connections = {asked.connection for asked in server.asked}
    assert connections == {0}
