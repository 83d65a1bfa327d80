"""Connections of our own: whatever happens, none is lost, and no place."""

from __future__ import annotations

import functools
import gzip
import ssl
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
import httpx
import pytest

from finetuning_async._evidence import NoAnswer
from finetuning_async._secrets import ApiKey
from finetuning_async._transport import Pool, Transport, _connections, as_timeout
from finetuning_async._wire import Answer, Call
from tests._cancelling import STEPS, StepMeans, strike
from tests._wire_net import STEP, Net

if TYPE_CHECKING:
    from finetuning_async._transport._connections import Connections

KEY = "ft_live_" + "d" * 32
GET = Call(method="GET", path="/v1/me", query={"limit": 5, "status": "a b"})
POST = Call(method="POST", path="/v1/generations", body={"a": "ü"}, repeatable=False)


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Net()
    monkeypatch.setattr(httpcore, "AnyIOBackend", made)
    return made


def _transport(timeout: float | httpx.Timeout = 30.0) -> Transport:
    return Transport(
        pool=Pool(None),
        base_url="https://service.example/api",
        key=ApiKey(KEY),
        timeout=as_timeout(timeout),
    )


def _connections_of(transport: Transport) -> Connections:
    direct = transport.pool.direct(transport.base_url)
    assert direct is not None
    return direct._connections


def _assert_whole(transport: Transport, net: Net) -> None:
    """Every place is free, and what is open is idle."""
    connections = _connections_of(transport)
    assert connections._places.value == _connections.AT_MOST
    assert len(connections._idle) == len(net.open())
    assert all(c.http.is_idle() for c in connections._idle)


async def test_what_goes_out_and_what_comes_back(net: Net) -> None:
    net.answer = (
        b"HTTP/1.1 202 Accepted\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\n{}"
    )
    transport = _transport()
    answer = await transport.send(GET)
    assert (answer.status, answer.content) == (202, b"{}")
    assert answer.headers == {"x-a": "1, 2", "content-length": "2"}
    head, _, body = net.sent().partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "GET /api/v1/me?limit=5&status=a+b HTTP/1.1"
    assert "Host: service.example" in headers
    assert f"X-API-Key: {KEY}" in headers
    assert "Accept: application/json" in headers
    assert body == b""
    await transport.pool.aclose()
    assert not net.open()


async def test_a_body_goes_out_as_json(net: Net) -> None:
    await _transport().send(POST)
    head, _, body = net.sent().partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert net.opened[0].writes == 1
    assert body == rb'{"a": "\u00fc"}'


async def test_a_call_without_key_shows_none(net: Net) -> None:
    await _transport().send(Call(method="GET", path="/health", needs_key=False))
    assert KEY.encode() not in net.sent()


async def test_an_answer_that_was_packed_is_unpacked(net: Net) -> None:
    packed = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    net.answer = head % len(packed) + packed
    assert (await _transport().send(GET)).content == b'{"a": 1}'


@pytest.mark.parametrize("tls", [15.0, inf], ids=["slow", "hangs"])
async def test_connecting_that_uses_up_the_time_of_all_sends_nothing(
    net: Net, tls: float
) -> None:
    net.handshake, net.tls = 18.0, tls
    timeout = httpx.Timeout(5.0, connect=30.0)
    transport, began = _transport(timeout), anyio.current_time()
    with pytest.raises(NoAnswer) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    assert anyio.current_time() - began == pytest.approx(30)
    assert net.sent() == b""
    _assert_whole(transport, net)


async def test_a_write_that_hangs_has_what_is_left_of_the_time_of_all(net: Net) -> None:
    net.handshake, net.writing = 9.0, inf
    timeout = httpx.Timeout(5.0, connect=20.0, write=30.0)
    transport, began = _transport(timeout), anyio.current_time()
    with pytest.raises(NoAnswer) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(30)
    _assert_whole(transport, net)


async def test_what_is_to_be_sent_when_time_is_over_is_not_sent(net: Net) -> None:
    net.handshake = 10.0  # twice: as long as the longest step
    transport = _transport(httpx.Timeout(0.0, connect=20.0))
    with pytest.raises(NoAnswer) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    assert net.sent() == b""
    _assert_whole(transport, net)


async def test_an_answer_that_drips_has_as_long_as_the_longest_step(net: Net) -> None:
    net.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000
    net.pause = 3.0
    transport, began = _transport(10.0), anyio.current_time()
    with pytest.raises(NoAnswer, match="did not end within 10 s") as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(10, abs=0.001)
    _assert_whole(transport, net)
    net.pause = 11.0
    transport = _transport(httpx.Timeout(10.0, write=20.0))
    began = anyio.current_time()
    with pytest.raises(NoAnswer, match="ReadTimeout") as caught:
        await transport.send(POST)
    assert caught.value.timed_out
    assert anyio.current_time() - began == pytest.approx(10 + 3 * STEP, abs=0.001)


@pytest.mark.parametrize("means", STEPS)
@pytest.mark.parametrize("warm", [False, True], ids=["new", "used before"])
@pytest.mark.parametrize("call", [GET, POST], ids=["read", "create"])
def test_cancelled_at_every_step_it_loses_nothing(
    net: Net, means: StepMeans, call: Call, *, warm: bool
) -> None:
    async def main(struck: Any) -> None:
        net.opened.clear()
        transport = _transport()
        if warm:
            await transport.send(call)
        await struck(partial(transport.send, call))
        _assert_whole(transport, net)
        await transport.send(call)
        _assert_whole(transport, net)
        await transport.pool.aclose()
        assert not net.open()

    step = 1
    while strike(means, step, main):
        step += 1
    assert step > 5


@pytest.mark.parametrize("means", STEPS)
def test_cancelled_at_every_step_of_its_wait_it_takes_no_place(
    net: Net, means: StepMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "AT_MOST", 1)

    async def main(struck: Any) -> None:
        net.opened.clear()
        transport = _transport()
        async with anyio.create_task_group() as group:
            group.start_soon(transport.send, GET)
            await anyio.sleep(STEP / 2)
            await struck(partial(transport.send, GET))
        _assert_whole(transport, net)
        await transport.send(GET)
        await transport.pool.aclose()

    step = 1
    while strike(means, step, main):
        step += 1
    assert step > 5


async def test_connections_are_used_again_the_last_one_first(net: Net) -> None:
    transport = _transport()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(transport.send, GET)
    assert len(net.opened) == 5
    for _ in range(3):
        await transport.send(GET)
    assert len(net.opened) == 5
    assert sorted(s.sent.count(b"GET") for s in net.opened) == [1, 1, 1, 1, 4]
    await transport.pool.aclose()


async def test_those_who_wait_for_a_connection_come_in_their_order(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "AT_MOST", 2)
    transport = _transport()
    ends: list[int] = []

    async def one(number: int) -> None:
        await transport.send(GET)
        ends.append(number)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(one, number)
            await anyio.sleep(STEP / 10)
    assert ends == list(range(8))
    assert len(net.opened) == 2
    await transport.pool.aclose()


async def test_a_wait_for_a_connection_that_is_too_long_has_sent_nothing(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "AT_MOST", 1)
    transport = _transport(httpx.Timeout(30, pool=STEP))
    async with anyio.create_task_group() as group:
        group.start_soon(transport.send, GET)
        await anyio.sleep(STEP / 2)
        with pytest.raises(NoAnswer, match="PoolTimeout") as caught:
            await transport.send(POST)
    assert caught.value.evidence == "not_sent"
    assert caught.value.timed_out
    assert b"POST" not in net.sent()
    _assert_whole(transport, net)
    await transport.pool.aclose()


async def test_a_connection_that_the_service_closed_is_not_used(net: Net) -> None:
    transport = _transport()
    await transport.send(GET)
    net.hung_up = True
    await transport.send(GET)
    assert [stream.is_closed for stream in net.opened] == [True, False]
    await transport.pool.aclose()


async def test_connections_that_nobody_uses_are_closed(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "KEPT", 0.0)
    transport = _transport()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(transport.send, GET)
        await anyio.sleep(2.5 * STEP)  # they are connected
        monkeypatch.setattr(_connections, "KEPT", 60.0)
        group.start_soon(transport.send, GET)  # ends last; the others' time is over
    assert [stream.is_closed for stream in net.opened] == 5 * [True] + [False]
    await transport.send(GET)
    assert len(net.opened) == 6
    _assert_whole(transport, net)
    await transport.pool.aclose()


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "RemoteProtocolError"),
        (b"what?\r\n\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
    ids=["cut short", "no HTTP", "nothing"],
)
async def test_an_answer_that_is_none_closes_the_connection(
    net: Net, answer: bytes, name: str
) -> None:
    net.answer = answer
    transport = _transport()
    with pytest.raises(NoAnswer, match=name) as caught:
        await transport.send(POST)
    assert caught.value.evidence == "unknown"
    assert not net.open()
    _assert_whole(transport, net)


async def test_an_answer_that_came_before_all_was_written_is_read(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(stream: Any, *_: Any, **__: Any) -> None:
        stream.to_come = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        raise httpcore.WriteError

    monkeypatch.setattr("tests._wire_net.Stream.write", write)
    transport = _transport()
    assert (await transport.send(POST)).status == 413
    _assert_whole(transport, net)
    await transport.pool.aclose()


async def test_a_connection_that_is_not_to_be_kept_is_closed(net: Net) -> None:
    net.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    transport = _transport()
    await transport.send(GET)
    assert not net.open()
    _assert_whole(transport, net)


async def test_a_create_that_is_not_wanted_any_more_does_not_leave(net: Net) -> None:
    transport = _transport()
    with pytest.raises(NoAnswer) as caught:
        await transport.send(POST, still_wanted=lambda: False)
    assert caught.value.evidence == "not_sent"
    assert net.sent() == b""
    _assert_whole(transport, net)


async def test_a_handshake_that_fails_has_sent_nothing(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start_tls(*_: Any, **__: Any) -> None:
        raise httpcore.ConnectError("the certificate is another's")

    monkeypatch.setattr("tests._wire_net.Stream.start_tls", start_tls)
    transport = _transport()
    with pytest.raises(NoAnswer, match="ConnectError: the certificate") as caught:
        await transport.send(POST)
    assert caught.value.evidence == "not_sent"
    assert not net.open()
    _assert_whole(transport, net)


async def test_a_client_that_closes_meanwhile_keeps_no_connection(net: Net) -> None:
    transport = _transport()
    answers: list[Answer] = []

    async def read() -> None:
        answers.append(await transport.send(GET))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(STEP / 2)
        await transport.pool.aclose()
    assert len(answers) == 1
    assert not net.open()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_behind_a_proxy_httpx_sends(
    net: Net, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    pool = Pool(None)
    assert pool.direct("https://service.example") is None
    await pool.aclose()


async def test_a_proxy_for_another_scheme_is_none(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    pool = Pool(None)
    assert pool.direct("https://service.example") is not None
    await pool.aclose()


@pytest.mark.parametrize(
    ("watched", "method"),
    [
        (httpx.AsyncClient, "send"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
        (httpcore.AsyncConnectionPool, "handle_async_request"),
    ],
)
async def test_what_others_put_in_httpx_sees_the_requests(
    watched: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(None)
    url = "https://service.example"
    before = pool.direct(url)
    whole = vars(watched)[method]

    @functools.wraps(whole)
    async def tracer(*args: Any) -> Any:
        return await whole(*args)

    monkeypatch.setattr(watched, method, tracer)
    assert pool.direct(url) is None
    monkeypatch.undo()
    assert before is not None
    assert pool.direct(url) is before


async def test_a_client_of_the_callers_is_not_passed_by() -> None:
    async with httpx.AsyncClient() as http:
        assert Pool(http).direct("https://service.example") is None


def test_tls_contexts_are_those_of_httpx() -> None:
    direct = None

    async def main() -> None:
        nonlocal direct
        direct = Pool(None).direct("https://service.example")

    anyio.run(main)
    assert direct is not None
    tls = direct._connections._tls
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname
