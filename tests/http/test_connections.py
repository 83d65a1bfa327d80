"""What is sent and received over connections, and the evidence when they fail.

Over an in-memory network, with our own client and with callers' of httpx and httpx2.
"""

from __future__ import annotations

import gc
import gzip
import re
import ssl
import weakref
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async._api._messages import Call
from finetuning_async._http import _connection_config
from finetuning_async._http._delivery import NoResponse, SendTracker
from finetuning_async._http._http_clients import ClientPool, RecentIds
from tests._in_memory_network import STEP
from tests._in_memory_transport import (
    GET,
    KEY,
    KINDS,
    POST,
    Wire,
    has_all_slots,
    wire_in_memory,
)

if TYPE_CHECKING:
    from finetuning_async._api._messages import Response


@pytest.fixture(params=KINDS)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wire_in_memory(request.param, monkeypatch)


@pytest.fixture
def our_wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wire_in_memory("our own", monkeypatch)


async def test_the_bytes_of_a_request_and_its_response(wire: Wire) -> None:
    wire.net.response = (
        b"HTTP/1.1 202 Accepted\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\n{}"
    )
    transport = wire.transport()
    response = await transport.send(GET)
    assert (response.status, response.content) == (202, b"{}")
    assert response.headers == {"x-a": "1, 2", "content-length": "2"}
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
    compressed = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    wire.net.response = head % len(compressed) + compressed
    assert (await wire.transport().send(GET)).content == b'{"a": 1}'


@pytest.mark.parametrize("tls", [15.0, inf], ids=["slow", "hangs"])
async def test_connecting_for_the_whole_timeout_sends_nothing(
    wire: Wire, tls: float
) -> None:
    wire.net.connect_delay, wire.net.tls_delay = 18.0, tls
    timeout = httpx.Timeout(5.0, connect=30.0)
    transport, began = wire.transport(timeout), anyio.current_time()
    with pytest.raises(NoResponse) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    assert 29 < anyio.current_time() - began <= 30
    assert wire.net.sent() == b""
    assert not wire.net.open()
    assert has_all_slots(transport)


async def test_a_hanging_write_ends_with_the_whole_timeout(
    wire: Wire,
) -> None:
    wire.net.connect_delay, wire.net.write_delay = 9.0, inf
    timeout = httpx.Timeout(5.0, connect=20.0, write=30.0)
    transport, began = wire.transport(timeout), anyio.current_time()
    with pytest.raises(NoResponse) as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(30)
    assert not wire.net.open()
    assert has_all_slots(transport)


async def test_a_slow_body_ends_with_the_longest_step_timeout(
    wire: Wire,
) -> None:
    wire.net.response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000
    wire.net.read_delay = 3.0
    transport, began = wire.transport(10.0), anyio.current_time()
    with pytest.raises(NoResponse, match="not complete within 10 s") as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(10, abs=0.001)
    assert not wire.net.open()
    assert has_all_slots(transport)


async def test_slow_headers_end_with_the_longest_step_timeout(wire: Wire) -> None:
    wire.net.response = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000
    wire.net.read_delay = 3.0
    transport, began = wire.transport(10.0), anyio.current_time()
    with pytest.raises(NoResponse, match="not complete within 10 s") as caught:
        await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "unknown")
    assert anyio.current_time() - began == pytest.approx(10, abs=0.001)
    assert not wire.net.open()


async def test_silence_ends_with_the_read_timeout(wire: Wire) -> None:
    wire.net.read_delay = 11.0
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
    assert len(wire.net.streams) == 5
    for call in (GET, POST, GET):
        await transport.send(call)
    assert len(wire.net.streams) == 5
    await wire.close(transport)
    assert not wire.net.open()


async def test_a_connection_that_the_service_closed_is_not_reused(wire: Wire) -> None:
    transport = wire.transport()
    await transport.send(GET)
    wire.net.peer_closed = True
    await transport.send(GET)
    assert len(wire.net.streams) == 2
    assert wire.net.streams[0].is_closed
    await wire.close(transport)


async def test_idle_connections_are_closed_before_servers_close_them(
    our_wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _connection_config.KEPT < 5
    monkeypatch.setattr(
        _connection_config, "KEPT", 0.0
    )  # httpcore reads the real clock
    transport = our_wire.transport()
    await transport.send(GET)
    await transport.send(GET)
    assert len(our_wire.net.streams) == 2
    assert our_wire.net.streams[0].is_closed
    await our_wire.close(transport)


@pytest.mark.parametrize(
    ("response", "name"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "RemoteProtocolError"),
        (b"what?\r\n\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
    ids=["cut short", "not HTTP", "nothing"],
)
async def test_an_invalid_response_closes_the_connection(
    wire: Wire, response: bytes, name: str
) -> None:
    wire.net.response = response
    transport = wire.transport()
    with pytest.raises(NoResponse, match=name) as caught:
        await transport.send(POST)
    assert caught.value.evidence == "unknown"
    assert not wire.net.open()
    assert has_all_slots(transport)


async def test_a_response_before_the_request_was_written_is_read(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(stream: Any, *_: Any, **__: Any) -> None:
        stream.unread = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        raise wire.net.core.WriteError

    monkeypatch.setattr("tests._in_memory_network.Stream.write", write)
    transport = wire.transport()
    assert (await transport.send(POST)).status == 413
    assert has_all_slots(transport)
    await wire.close(transport)


async def test_connection_close_closes_the_connection(wire: Wire) -> None:
    wire.net.response = (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    )
    transport = wire.transport()
    await transport.send(GET)
    assert not wire.net.open()
    assert has_all_slots(transport)


async def test_a_tracker_can_stop_a_create_before_its_first_byte(wire: Wire) -> None:
    transport = wire.transport()
    with pytest.raises(NoResponse) as caught:
        await transport.send(POST, tracker=SendTracker(lambda: False))
    assert caught.value.evidence == "not_sent"
    assert wire.net.sent() == b""
    assert has_all_slots(transport)


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
    assert has_all_slots(transport)


async def test_closing_during_a_request_leaves_no_connection(
    our_wire: Wire,
) -> None:
    transport = our_wire.transport()
    responses: list[Response] = []

    async def read() -> None:
        responses.append(await transport.send(GET))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(STEP / 2)
        await transport.pool.aclose()
    assert len(responses) == 1
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


async def test_each_request_goes_through_the_proxy_of_its_host_if_there_is_one(
    our_wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    monkeypatch.setenv("http_proxy", "http://other-proxy.example")
    monkeypatch.setenv("no_proxy", "media.example")
    net = our_wire.net
    net.response, net.next_responses = b"HTTP/1.1 200 OK\r\n\r\n", [net.response] * 9
    config = _connection_config.ConnectionConfig()
    async with config.new_client(config.tls()) as client:
        for url in (
            "https://service.example/1",
            "https://media.example/2",
            "http://service.example/3",
            "https://service.example/4",
            "https://media.example/5",
        ):
            await client.get(url)
    seen = [
        re.findall(rb"^(?:CONNECT|GET) \S+", s.sent, re.MULTILINE) for s in net.streams
    ]
    assert seen == [
        [b"CONNECT service.example:443", b"GET /1", b"GET /4"],
        [b"GET /2", b"GET /5"],
        [b"GET http://service.example/3"],
    ]
    assert not net.open()


def test_the_ids_that_were_added_last_are_remembered() -> None:
    recent = RecentIds(2)
    for track_id in ("a", "b"):
        recent.add(track_id)
    assert ["a" in recent, "b" in recent] == [True, True]
    recent.add("a")  # again, so that "b" is the oldest
    recent.add("c")
    assert [track_id in recent for track_id in ("a", "b", "c")] == [True, False, True]


async def _used(pool: ClientPool) -> Any:
    """A client of the pool that sent a request."""
    pool.enter_loop("https://service.example")
    async with pool.lease() as pooled:
        return pooled.client


def test_connections_stay_with_the_loop_that_opened_them() -> None:
    async def twice() -> Any:
        first = await _used(pool)
        assert await _used(pool) is first
        return first

    pool = ClientPool(None)
    first = anyio.run(twice)
    assert anyio.run(twice) is not first


@pytest.mark.parametrize("forked", [False, True])
def test_the_connections_of_a_parent_are_kept_in_its_child_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch, *, forked: bool
) -> None:
    pool = ClientPool(None)
    first = weakref.ref(anyio.run(_used, pool))
    if forked:
        monkeypatch.setattr("os.getpid", lambda: -1)
    anyio.run(_used, pool)
    gc.collect()
    assert (first() is not None) == forked
