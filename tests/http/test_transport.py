"""The evidence of a failed request: one row per exception class, traced and not."""

from __future__ import annotations

import inspect
import json
import random
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx
import httpx2
import pytest

from finetuning_async import ClientClosedError, InvalidRequestError
from finetuning_async._api._messages import Call
from finetuning_async._http._delivery import NoResponse, SendTracker
from finetuning_async._http._http_clients import ClientPool, check_base_url
from finetuning_async._http._timeouts import as_timeout
from finetuning_async._http._transport import KEY_HEADER, Transport
from finetuning_async._secrets import MASK, ApiKey
from finetuning_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._api._messages import Evidence

KEY = "ft_live_" + "c" * 32
POST = Call(method="POST", path="/v1/generations", body={"tags": "x"}, repeatable=False)
GET = Call(method="GET", path="/v1/me")

UNTRACED: dict[type[Exception], Evidence] = {
    httpx.ConnectError: "not_sent",
    httpx.ConnectTimeout: "not_sent",
    httpx.PoolTimeout: "not_sent",
    httpx.UnsupportedProtocol: "not_sent",
    httpx.InvalidURL: "not_sent",
    httpx.CloseError: "unknown",
    httpx.CookieConflict: "unknown",
    httpx.DecodingError: "unknown",
    httpx.HTTPError: "unknown",
    httpx.LocalProtocolError: "unknown",
    httpx.NetworkError: "unknown",
    httpx.ProtocolError: "unknown",
    httpx.ProxyError: "unknown",
    httpx.ReadError: "unknown",
    httpx.ReadTimeout: "unknown",
    httpx.RemoteProtocolError: "unknown",
    httpx.RequestError: "unknown",
    httpx.RequestNotRead: "unknown",
    httpx.ResponseNotRead: "unknown",
    httpx.StreamClosed: "unknown",
    httpx.StreamConsumed: "unknown",
    httpx.StreamError: "unknown",
    httpx.TimeoutException: "unknown",
    httpx.TooManyRedirects: "unknown",
    httpx.TransportError: "unknown",
    httpx.WriteError: "unknown",
    httpx.WriteTimeout: "unknown",
}
"""Without a trace only errors from before there is a connection prove anything."""

CLASSES = sorted(UNTRACED, key=lambda kind: kind.__name__)


def _make(kind: type[Exception]) -> Exception:
    try:
        return kind("what happened")
    except TypeError:
        return kind()


def _transport(
    http: httpx.AsyncClient | httpx2.AsyncClient,
    *,
    base_url: str = "https://service.example",
) -> Transport:
    return Transport(
        pool=ClientPool(http),
        base_url=base_url,
        key=ApiKey(KEY),
        timeout=as_timeout(30),
    )


async def _failure(
    handler: Callable[[httpx.Request], Any], call: Call = POST
) -> NoResponse:
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        with pytest.raises(NoResponse) as caught:
            await _transport(http).send(call)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return caught.value


def test_every_exception_class_of_httpx_has_a_row() -> None:
    public = {
        kind
        for _, kind in inspect.getmembers(httpx, inspect.isclass)
        if issubclass(kind, Exception)
    }
    # `raise_for_status` in a caller's hook is not a failure.
    assert public == {*UNTRACED, httpx.HTTPStatusError}


NEW_IN_HTTPX2 = {"SSEError"}


def test_the_exceptions_of_httpx2_are_those_of_httpx() -> None:
    public = {
        name
        for name, kind in inspect.getmembers(httpx2, inspect.isclass)
        if issubclass(kind, Exception)
    }
    ours = {kind.__name__ for kind in (*UNTRACED, httpx.HTTPStatusError)}
    assert public == ours | NEW_IN_HTTPX2


@pytest.mark.parametrize("traced", ["nothing", "connecting", "sent"])
async def test_a_failure_of_httpx2_proves_the_same_as_one_of_httpx(traced: str) -> None:
    async def handler(request: httpx2.Request) -> httpx2.Response:
        trace = request.extensions["trace"]
        if traced != "nothing":
            await trace("connection.connect_tcp.started", {})
        if traced == "sent":
            await trace("http11.send_request_headers.started", {})
        raise _make(getattr(httpx2, name))

    for name in sorted(kind.__name__ for kind in CLASSES):
        untraced = UNTRACED[getattr(httpx, name)]
        expected = {"nothing": untraced, "connecting": "not_sent", "sent": "unknown"}
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handler)) as http:
            with pytest.raises(NoResponse) as caught:
                await _transport(http).send(POST)
        assert caught.value.evidence == expected[traced], name
        assert caught.value.reason.startswith(name)
        assert caught.value.timed_out == issubclass(
            getattr(httpx2, name), httpx2.TimeoutException
        )


async def test_an_untraced_failure_is_judged_by_its_class() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise _make(kind)

    for kind in CLASSES:
        failure = await _failure(handler)
        assert failure.evidence == UNTRACED[kind], kind
        assert failure.reason.startswith(kind.__name__)
        assert failure.timed_out == issubclass(kind, httpx.TimeoutException)


@pytest.mark.parametrize("sent", [True, False])
async def test_a_traced_failure_is_judged_by_the_first_byte(*, sent: bool) -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        trace = request.extensions["trace"]
        await trace("connection.connect_tcp.started", {})
        if sent:
            await trace("http11.send_request_headers.started", {})
        raise _make(kind)

    for kind in CLASSES:
        failure = await _failure(handler)
        assert failure.evidence == ("unknown" if sent else "not_sent"), kind


async def test_an_http2_request_is_traced() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        await request.extensions["trace"]("http2.send_request_headers.started", {})
        raise httpx.ConnectError("not what it seems")

    assert (await _failure(handler)).evidence == "unknown"


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, AssertionError])
async def test_a_bug_in_a_transport_leaves_a_create_unknown(
    kind: type[Exception],
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise kind("a bug")

    assert (await _failure(handler)).evidence == "unknown"


async def test_a_bug_in_a_transport_is_raised_on_a_read() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise ValueError("a bug")

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        with pytest.raises(ValueError, match="a bug"):
            await _transport(http).send(GET)


@pytest.mark.parametrize(
    ("action", "evidence"),
    [
        ("connect_refused", "not_sent"),
        ("connect_hangs", "not_sent"),
        ("lost_before_commit", "unknown"),
        ("lost_after_commit", "unknown"),
        ("late_commit", "unknown"),
    ],
)
async def test_the_evidence_of_the_in_process_emulator(
    action: Any, evidence: str
) -> None:
    async with Emulator() as emulator:
        emulator.add_fault(Fault(action, "/v1/generations"))
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            transport = _transport(http, base_url=emulator.base_url)
            with pytest.raises(NoResponse) as caught:
                await transport.send(POST)
    assert caught.value.evidence == evidence


async def test_a_failure_that_would_repeat_itself_says_what_to_do() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("TLS") from ssl.SSLCertVerificationError(1, "own")

    failure = await _failure(handler)
    assert failure.is_permanent
    assert "ConnectError: TLS; the certificate was not accepted" in failure.reason


async def test_a_connection_that_is_refused_is_not_permanent() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    failure = await _failure(handler)
    assert not failure.is_permanent
    assert failure.reason == "ConnectError: refused"


async def test_nothing_is_sent_for_a_cancelled_caller() -> None:
    async with Emulator() as emulator:
        async with httpx.AsyncClient(transport=emulator.transport()) as http:
            transport = _transport(http, base_url=emulator.base_url)
            with pytest.raises(NoResponse) as caught:
                await transport.send(POST, tracker=SendTracker(lambda: False))
        assert caught.value.evidence == "not_sent"
        assert not emulator.requests


async def test_a_slow_response_ends() -> None:
    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                await anyio.sleep(4)
                yield b" "

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(202, stream=Drip())

    failure = await _failure(handler)
    assert failure.timed_out
    assert failure.evidence == "unknown"
    assert anyio.current_time() == pytest.approx(30)


@pytest.mark.parametrize("error", [httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_a_timeout_before_the_first_byte_proves_not_sent(error: Any) -> None:
    async def handler(_: httpx.Request) -> httpx.Response:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(35)
        raise error("too late")

    failure = await _failure(handler)
    assert (failure.timed_out, failure.evidence) == (True, "not_sent")
    assert "too late" in failure.reason


async def test_the_key_is_on_the_request_only_while_it_is_sent() -> None:
    seen: list[httpx.Request] = []
    keys: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        keys.append(request.headers.get(KEY_HEADER))
        if len(seen) > 1:
            raise httpx.ReadError("lost", request=request)
        return httpx.Response(200)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        transport = _transport(http)
        await transport.send(GET)
        with pytest.raises(NoResponse):
            await transport.send(GET)
    assert keys == [KEY, KEY]
    assert all(KEY_HEADER not in request.headers for request in seen)


class Signing(httpx.AsyncClient):
    """A caller's client that changes each request it builds."""

    def build_request(self, *args: Any, **options: Any) -> httpx.Request:
        request = super().build_request(*args, **options)
        request.headers["X-Signed"] = "1"
        return request


@pytest.mark.parametrize(
    ("kind", "options", "added"),
    [
        (Signing, {}, ("/v1/generations", "1", None)),
        (
            httpx.AsyncClient,
            {"params": {"tenant": "a"}},
            ("/v1/generations?tenant=a", None, None),
        ),
        (
            httpx.AsyncClient,
            {"cookies": {"session": "b"}},
            ("/v1/generations", None, "session=b"),
        ),
    ],
    ids=["signature", "parameters", "cookies"],
)
async def test_what_a_callers_client_adds_to_a_request_goes_with_a_create(
    kind: type[httpx.AsyncClient], options: dict[str, Any], added: tuple[str, ...]
) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202)

    async with kind(transport=httpx.MockTransport(handler), **options) as http:
        await _transport(http).send(POST)
    (request,) = seen
    headers = request.headers
    path = request.url.raw_path.decode()
    assert (path, headers.get("X-Signed"), headers.get("Cookie")) == added
    assert json.loads(request.content) == POST.body
    assert headers["Content-Length"] == str(len(request.content))


@pytest.mark.parametrize("key", [KEY, "a-key-of-another-form", None])
async def test_a_key_in_the_text_of_an_error_is_masked_whatever_its_form(
    key: str | None,
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        sent = request.headers.get(KEY_HEADER)
        raise httpx.LocalProtocolError(f"illegal header value {sent}!")

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        ours = ApiKey(key) if key is not None else None
        with pytest.raises(NoResponse) as caught:
            await attrs.evolve(_transport(http), key=ours).send(POST)
    shown = "None" if key is None else MASK
    assert caught.value.reason == f"LocalProtocolError: illegal header value {shown}!"


async def test_a_hook_of_a_callers_client_can_read_the_body_of_a_request() -> None:
    seen: list[bytes] = []

    async def hook(request: httpx.Request) -> None:
        seen.append(request.content)

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(202)),
        event_hooks={"request": [hook]},
    ) as http:
        await _transport(http).send(POST)
    assert seen == [b'{"tags": "x"}']


async def test_a_closed_client_refuses_a_call_before_it_is_awaited() -> None:
    nothing = httpx.MockTransport(lambda _: httpx.Response(202))
    async with httpx.AsyncClient(transport=nothing) as http:
        transport = _transport(http)
        await transport.pool.aclose()
        with pytest.raises(ClientClosedError):
            _ = transport.send(POST)


async def test_a_redirect_is_not_followed() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers={"Location": "https://elsewhere.example"})

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(handler), follow_redirects=True
    ) as http:
        assert (await _transport(http).send(GET)).status == 307


@pytest.mark.parametrize(
    "url",
    [
        "http://service.example",
        "ftp://service.example",
        "https://",
        "service.example",
        "https://user:pass@service.example",
        "https://:pass@service.example",
        "https://service.example?x=1",
        "https://service.example#x",
        "https://[::1",
        "https://exa mple.com:port",
        "https://service.example:99999999",
        "",
    ],
)
def test_a_bad_base_url_is_refused_and_shows_no_login(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="https://") as caught:
        check_base_url(url)
    assert "pass" not in str(caught.value)
    assert "without a login or query" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (" http://service.example/api ", "http://service.example/api"),
        ("https://service.example/?key=s3cret", "https://service.example/"),
    ],
)
def test_a_bad_base_url_is_shown_without_its_query(url: str, shown: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_base_url(url)
    assert f"got {shown!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://pub.finetuning.ai/", "https://pub.finetuning.ai"),
        (" https://service.example/api/ ", "https://service.example/api"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_good_base_url_is_normalised(url: str, kept: str) -> None:
    assert check_base_url(url) == kept


async def test_cancelled_reads_end_at_once_on_a_transport_without_trace() -> None:
    async def handler(_: httpx.Request) -> httpx.Response:
        await anyio.sleep(random.Random(1).uniform(50, 60))
        return httpx.Response(200)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        with anyio.move_on_after(2):
            await _transport(http).send(GET)
    assert anyio.current_time() == pytest.approx(2, abs=0.001)
