"""What goes over connections and comes back, and what is known when they fail.

Over a network in memory, by a client of our own, of httpx and of httpx2.
"""

from __future__ import annotations

import gzip
import ssl
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async._api._messages import Call
from finetuning_async._http import _connection_config
from finetuning_async._http._delivery import NoResponse, SendTracker
from tests._in_memory_network import STEP
from tests._in_memory_transport import GET, KEY, KINDS, POST, Wire, is_whole, wired

if TYPE_CHECKING:
    from finetuning_async._api._messages import Response


@pytest.fixture(params=KINDS)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wired(request.param, monkeypatch)


@pytest.fixture
def our_wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wired("our own", monkeypatch)


async def test_the_bytes_of_a_request_and_its_response(wire: Wire) -> None:
    wire.net.answer = (
        b"HTTP/1.1 202 Accepted\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\n{}"
    )
    transport = wire.transport()
    answer = await transport.send(GET)
    assert (answer.status, answer.content) == (202, b"{}")
    assert answer.headers == {"x-a": "1, 2", "content-length": "2"}
    head, _, body = wire.net.sent().partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "GET /api/v1/me?limit=5&status=a+b HTTP/1.1"
    assert "Host: service.example" in headers
    assert f"X-API-Key: {KEY}" in headers
    assert "Accept: application/json" in headers
    assert body == b""
    await wire.close(transport)
    assert not wire.net.open()


async def test_a_body_goes_out_as_json(wire: Wire) -> None:
    await wire.transport().send(POST)
    head, _, body = wire.net.sent().partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert b"Content-Length: %d" % len(body) in head
    assert body == rb'{"a": "\u00fc"}'


async def test_the_user_agent_names_package_python_and_library(wire: Wire) -> None:
    await wire.transport().send(GET)
    library = "httpx2" if wire.kind == "httpx2" else "httpx"
    line = next(
        line for line in wire.net.sent().decode().split("\r\n") if "User-Agent" in line
    )
    assert f" {library}/" in line
    assert "finetuning-async/" in line


async def test_a_call_that_needs_no_key_sends_none(wire: Wire) -> None:
    await wire.transport().send(Call(method="GET", path="/health", needs_key=False))
    assert KEY.encode() not in wire.net.sent()


async def test_a_compressed_response_is_decompressed(wire: Wire) -> None:
    packed = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    wire.net.answer = head % len(packed) + packed
    assert (await wire.transport().send(GET)).content == b'{"a": 1}'


@pytest.mark.parametrize("tls", [15.0, inf], ids=["slow", "hangs"])
async def test_connecting_for_the_whole_timeout_sends_nothing(
    wire: Wire, tls: float
) -> None:
    wire.net.handshake, wire.net.tls = 18.0, tls
    timeout = httpx.Timeout(5.0, connect=30.0)
    transport, began = wire.transport(timeout), anyio.current_time()
    with pytest.raises(NoResponse) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    assert 29 < anyio.current_time() - began <= 30
    assert wire.net.sent() == b""
    assert not wire.net.open()
    assert is_whole(transport)


async def test_a_hanging_write_ends_with_the_whole_timeout(
    wire: Wire,
) -> None:
    wire.net.handshake, wire.net.writing = 9.0, inf
    timeout = httpx.Timeout(5.0, connect=20.0, write=30.0)
    transport, began = wire.transport(timeout), anyio.current_time()
    with pytest.raises(NoResponse) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(30)
    assert not wire.net.open()
    assert is_whole(transport)


async def test_a_slow_body_ends_with_the_longest_step_timeout(
    wire: Wire,
) -> None:
    wire.net.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000
    wire.net.pause = 3.0
    transport, began = wire.transport(10.0), anyio.current_time()
    with pytest.raises(NoResponse, match="not complete within 10 s") as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(10, abs=0.001)
    assert not wire.net.open()
    assert is_whole(transport)


async def test_slow_headers_end_with_the_longest_step_timeout(wire: Wire) -> None:
    wire.net.answer = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000
    wire.net.pause = 3.0
    transport, began = wire.transport(10.0), anyio.current_time()
    with pytest.raises(NoResponse, match="not complete within 10 s") as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(10, abs=0.001)
    assert not wire.net.open()


async def test_silence_ends_with_the_read_timeout(wire: Wire) -> None:
    wire.net.pause = 11.0
    transport = wire.transport(httpx.Timeout(10.0, write=20.0))
    began = anyio.current_time()
    with pytest.raises(NoResponse, match="ReadTimeout") as caught:
        await transport.send(GET)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert 10 < anyio.current_time() - began < 11


async def test_connections_are_reused(wire: Wire) -> None:
    transport = wire.transport()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(transport.send, GET)
    assert len(wire.net.opened) == 5
    for call in (GET, POST, GET):
        await transport.send(call)
    assert len(wire.net.opened) == 5
    await wire.close(transport)
    assert not wire.net.open()


async def test_a_connection_that_the_service_closed_is_not_reused(wire: Wire) -> None:
    transport = wire.transport()
    await transport.send(GET)
    wire.net.hung_up = True
    await transport.send(GET)
    assert len(wire.net.opened) == 2
    assert wire.net.opened[0].is_closed
    await wire.close(transport)


async def test_idle_connections_are_closed_before_servers_close_them(
    our_wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _connection_config.KEPT < 5
    monkeypatch.setattr(
        _connection_config, "KEPT", 0.0
    )  # by a clock that does not jump
    transport = our_wire.transport()
    await transport.send(GET)
    await transport.send(GET)
    assert len(our_wire.net.opened) == 2
    assert our_wire.net.opened[0].is_closed
    await our_wire.close(transport)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "RemoteProtocolError"),
        (b"what?\r\n\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
    ids=["cut short", "no HTTP", "nothing"],
)
async def test_an_invalid_response_closes_the_connection(
    wire: Wire, answer: bytes, name: str
) -> None:
    wire.net.answer = answer
    transport = wire.transport()
    with pytest.raises(NoResponse, match=name) as caught:
        await transport.send(POST)
    assert caught.value.evidence == "unknown"
    assert not wire.net.open()
    assert is_whole(transport)


async def test_a_response_before_the_request_was_written_is_read(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(stream: Any, *_: Any, **__: Any) -> None:
        stream.to_come = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        raise wire.net.core.WriteError

    monkeypatch.setattr("tests._in_memory_network.Stream.write", write)
    transport = wire.transport()
    assert (await transport.send(POST)).status == 413
    assert is_whole(transport)
    await wire.close(transport)


async def test_connection_close_closes_the_connection(wire: Wire) -> None:
    wire.net.answer = (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
    transport = wire.transport()
    await transport.send(GET)
    assert not wire.net.open()
    assert is_whole(transport)


async def test_a_tracker_can_stop_a_create_before_its_first_byte(wire: Wire) -> None:
    transport = wire.transport()
    with pytest.raises(NoResponse) as caught:
        await transport.send(POST, tracker=SendTracker(lambda: False))
    assert caught.value.evidence == "not_sent"
    assert wire.net.sent() == b""
    assert is_whole(transport)


@pytest.mark.parametrize("step", ["connect_tcp", "start_tls"])
async def test_a_failed_connect_sends_nothing(
    wire: Wire, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise wire.net.core.ConnectError("the certificate is another's")

    owner = "Net" if step == "connect_tcp" else "Stream"
    monkeypatch.setattr(f"tests._in_memory_network.{owner}.{step}", fail)
    transport = wire.transport()
    with pytest.raises(NoResponse, match="ConnectError: the certificate") as caught:
        await transport.send(POST)
    assert caught.value.evidence == "not_sent"
    assert wire.net.sent() == b""
    assert is_whole(transport)


async def test_closing_during_a_request_leaves_no_connection(
    our_wire: Wire,
) -> None:
    transport = our_wire.transport()
    answers: list[Response] = []

    async def read() -> None:
        answers.append(await transport.send(GET))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(STEP / 2)
        await transport.pool.aclose()
    assert len(answers) == 1
    assert not our_wire.net.open()


async def test_certificates_and_host_names_are_checked(
    our_wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[Any] = []

    async def start_tls(stream: Any, ssl_context: Any, *_: Any, **__: Any) -> Any:
        contexts.append(ssl_context)
        return stream

    monkeypatch.setattr("tests._in_memory_network.Stream.start_tls", start_tls)
    transport = our_wire.transport()
    await transport.send(GET)
    assert contexts[0].verify_mode is ssl.CERT_REQUIRED
    assert contexts[0].check_hostname
    await our_wire.close(transport)
