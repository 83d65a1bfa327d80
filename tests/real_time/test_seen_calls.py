"""Tracers, hooks, mounted transports and proxies of the HTTP library see our calls.

A create and a read each, with our own client and with callers' of httpx and httpx2.
For mocks see `test_mocks`.
"""

from __future__ import annotations

import importlib
import json
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest
import trustme
from opentelemetry.instrumentation.httpx import (
    HTTPX2ClientInstrumentor,
    HTTPXClientInstrumentor,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.proofs._matrix import scaled_lookup
from finetuning_async import AsyncClient, RateLimitError, SubmissionUnknownError
from tests._raw_server import (
    KEY,
    Asked,
    Server,
    created,
    listed,
    response,
    row,
    serving,
)
from tests.real_time._clients import WHOSE, client_of, forget_proxies
from tests.real_time._http_proxy import LOGIN, http_proxy, tls_service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

pytestmark = [pytest.mark.usefixtures("warm_programs"), pytest.mark.sampled(2)]

GIVEN: Final = WHOSE[1:]
CALLS: Final = [("POST", "/v1/generations", 202), ("GET", "/v1/generations/gen_1", 200)]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@asynccontextmanager
async def service() -> AsyncGenerator[Server]:
    """A service with one track."""

    async def answer(asked: Asked) -> bytes:
        if asked.is_create:
            return created(row(asked, 1))
        return response(200, {"data": row(asked, 1)})

    async with serving(answer) as server:
        yield server


async def _use(client: AsyncClient) -> None:
    """A create and a read."""
    assert (await client.generations.create("x")).id == "gen_1"
    assert (await client.generations.get("gen_1")).id == "gen_1"


@contextmanager
def _traced(whose: str) -> Generator[InMemorySpanExporter]:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    is_new = whose == "httpx2"
    instrumentor = HTTPX2ClientInstrumentor() if is_new else HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=tracers)
    try:
        yield exporter
    finally:
        instrumentor.uninstrument()


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("whose", WHOSE)
async def test_opentelemetry_traces_each_call_and_propagates_its_context(
    whose: str, *, is_late: bool
) -> None:
    async with service() as server:
        if is_late:
            async with client_of(whose, server.url) as client:
                await client.generations.get("gen_1")
                with _traced(whose) as exporter:
                    await _use(client)
        else:
            with _traced(whose) as exporter:
                async with client_of(whose, server.url) as client:
                    await _use(client)
        spans = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
        seen = [(s["http.method"], s["http.url"], s["http.status_code"]) for s in spans]
        assert seen == [(m, server.url + path, status) for m, path, status in CALLS]


SENTRY = """
import importlib, json, sys
import anyio, sentry_sdk
from sentry_sdk.integrations.httpx import HttpxIntegration
from sentry_sdk.integrations.httpx2 import Httpx2Integration
from sentry_sdk.transport import Transport
from finetuning_async import AsyncClient

whose, url, key, moment, loop = sys.argv[1:]
events = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        events.append(envelope.get_transaction_event())

def watch():
    sentry_sdk.init(
        "https://key@sentry.example/1",
        transport=Kept(),
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[HttpxIntegration(), Httpx2Integration()],
    )

async def main():
    if moment == "before":
        watch()
    http = None if whose == "ours" else importlib.import_module(whose).AsyncClient()
    async with AsyncClient(key, base_url=url, http_client=http) as client:
        if moment == "after":
            await client.generations.get("gen_1")
            watch()
        with sentry_sdk.start_transaction(name="calls"):
            await client.generations.create("x")
            await client.generations.get("gen_1")
    if http is not None:
        await http.aclose()

anyio.run(main, backend=loop)
text = json.dumps(events)
assert key not in text
spans = [span for event in events for span in event["spans"]]
print(json.dumps([(span["op"], span["description"]) for span in spans]))
"""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("whose", WHOSE)
async def test_sentry_sees_each_call_and_no_key(
    whose: str, moment: str, anyio_backend: str
) -> None:
    """In a process of its own, since Sentry patches httpx for good."""
    async with service() as server:
        arguments = [whose, server.url, KEY, moment, anyio_backend]
        done = await anyio.run_process(
            [sys.executable, "-c", SENTRY, *arguments],
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0, done.stdout.decode()
    assert json.loads(done.stdout) == [
        ["http.client", f"{method} {server.url}{path}"] for method, path, _ in CALLS
    ]


@pytest.mark.parametrize("whose", GIVEN)
async def test_event_hooks_are_called_for_each_call(whose: str) -> None:
    seen: list[object] = []

    async def on_request(request: Any) -> None:
        seen.append((request.method, request.url.path))

    async def on_response(response: Any) -> None:
        await response.aread()
        seen.append(response.status_code)

    hooks = {"request": [on_request], "response": [on_response]}
    async with service() as server:
        async with client_of(whose, server.url, event_hooks=hooks) as client:
            await _use(client)
    assert seen == [part for m, path, status in CALLS for part in ((m, path), status)]


@pytest.mark.parametrize("whose", GIVEN)
async def test_a_hook_that_calls_raise_for_status_does_not_change_our_errors(
    whose: str,
) -> None:
    async def on_response(response: Any) -> None:
        await response.aread()  # otherwise httpx closes it, and the body is lost
        response.raise_for_status()

    async def answer(asked: Asked) -> bytes:
        code = "GENERATION_RATE_LIMITED" if asked.is_create else "RATE_LIMITED"
        error = {"code": code, "message": "slowly"}
        return response(429, {"error": error}, "Retry-After: 7")

    hooks = {"response": [on_response]}
    async with (
        serving(answer) as server,
        client_of(whose, server.url, event_hooks=hooks) as client,
    ):
        view = client.with_options(max_retries=0)
        for call in (view.generations.get("gen_1"), view.generations.create("x")):
            with pytest.raises(RateLimitError) as caught:
                await call
            assert caught.value.retry_after == 7
    assert len(server.asked) == 2


@pytest.mark.parametrize("whose", GIVEN)
async def test_a_create_whose_hook_fails_after_it_was_sent_is_not_sent_again(
    whose: str,
) -> None:
    library = importlib.import_module(whose)

    async def on_response(response: Any) -> None:
        if response.request.method == "POST":
            raise library.ReadTimeout("the hook's own")

    async def answer(asked: Asked) -> bytes:
        return created(row(asked, 1)) if asked.is_create else listed([])

    hooks = {"response": [on_response]}
    async with (
        serving(answer) as server,
        client_of(whose, server.url, event_hooks=hooks) as client,
    ):
        with scaled_lookup(), pytest.raises(SubmissionUnknownError):
            await client.generations.create("x")
    assert len(server.creates) == 1
    assert len(server.asked) > 3


@pytest.mark.parametrize("whose", GIVEN)
async def test_a_mounted_transport_gets_each_call(whose: str) -> None:
    library = importlib.import_module(whose)
    seen: list[object] = []

    def answer(request: Any) -> Any:
        status = 202 if request.method == "POST" else 200
        seen.append((request.method, request.url.path, status))
        return library.Response(status, json={"data": {"id": "gen_1", "status": "x"}})

    mounts = {"all://service.example": library.MockTransport(answer)}
    async with client_of(whose, "https://service.example", mounts=mounts) as client:
        await _use(client)
    assert seen == CALLS


@pytest.mark.parametrize("whose", [*WHOSE, "HTTP_PROXY"])
async def test_calls_go_through_the_proxy(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service() as server, http_proxy() as (proxy, place):
        login = f"http://{LOGIN}@{place}"
        if whose == "HTTP_PROXY":
            monkeypatch.setenv("HTTP_PROXY", login)
            around = client_of("ours", server.url)
        else:
            around = client_of(whose, server.url, proxy=login)
        async with around as client:
            await _use(client)
        assert proxy.asked == [f"{m} {server.url}{path}" for m, path, _ in CALLS]
        assert proxy.got_the_login()


@pytest.mark.parametrize("whose", [*WHOSE, "HTTPS_PROXY"])
async def test_calls_go_through_a_tunnel(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(theirs)
    trusts = ssl.create_default_context()
    authority.configure_trust(trusts)
    heads: list[bytes] = []
    async with tls_service(theirs, heads) as url, http_proxy() as (proxy, place):
        login = f"http://{LOGIN}@{place}"
        options: dict[str, Any] = {"verify": trusts}
        if whose == "HTTPS_PROXY":
            monkeypatch.setenv("HTTPS_PROXY", login)
        else:
            options["proxy"] = login
        ours = "ours" if whose == "HTTPS_PROXY" else whose
        async with client_of(ours, url, **options) as client:
            await client.health()
            await client.health()
    assert proxy.asked == [f"CONNECT {url.removeprefix('https://')}"]
    assert proxy.got_the_login()
    assert KEY not in "".join(proxy.heads)
    assert [head.split(b" ")[1] for head in heads] == [b"/health", b"/health"]


@pytest.mark.parametrize("whose", WHOSE)
async def test_a_create_whose_tunnel_is_refused_was_not_sent(whose: str) -> None:
    """CONNECT is a request of the library: it carries no byte of the create."""
    async with http_proxy() as (proxy, place):
        proxy.refuses = 503
        options = {"proxy": f"http://{place}"}
        async with client_of(whose, "https://service.example", **options) as client:
            with pytest.raises(Exception, match="was not sent") as caught:
                await client.with_options(max_retries=1).generations.create("x")
    assert type(caught.value).__name__ == "APIConnectionError"
    assert getattr(caught.value, "safe_to_retry", None) is True
    assert len(proxy.asked) == 2  # not sent, so it is retried
    assert {head.split(" ")[0] for head in proxy.asked} == {"CONNECT"}
