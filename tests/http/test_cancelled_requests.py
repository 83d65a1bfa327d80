"""A request that is cancelled at any step loses no slot, connection or evidence.

httpcore 1.0 loses a connection that is cancelled while it connects. So our own client
is retired then: new requests use fresh connections, and it is closed when its last
request has ended.
"""

from __future__ import annotations

import contextlib
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async._http._concurrency import Concurrency, Slots
from finetuning_async._http._delivery import NoResponse, SendTracker
from tests._cancellations import STEP_CANCELLERS, StepCanceller, cancel_at_step
from tests._in_memory_network import STEP
from tests._in_memory_transport import (
    GET,
    KINDS,
    POST,
    Wire,
    has_all_slots,
    wire_in_memory,
)

if TYPE_CHECKING:
    from finetuning_async._api._messages import Call

pytestmark = pytest.mark.sampled(2)


LEFT_OPEN = "ignore:Async generator 'httpx._content.ByteStream:ResourceWarning"
"""What trio warns of when a caller's client of httpx is cancelled while it writes."""


@pytest.fixture(
    params=[
        "our own",
        pytest.param("httpx", marks=pytest.mark.filterwarnings(LEFT_OPEN)),
        "httpx2",
    ]
)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wire_in_memory(request.param, monkeypatch)


@pytest.fixture
def our_wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wire_in_memory("our own", monkeypatch)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("warm", [False, True], ids=["new", "used before"])
@pytest.mark.parametrize("call", [GET, POST], ids=["read", "create"])
def test_a_request_cancelled_at_any_step_loses_nothing(
    wire: Wire, canceller: StepCanceller, call: Call, *, warm: bool
) -> None:
    async def main(run_cancelled: Any) -> None:
        wire.net.streams.clear()
        transport = wire.transport()
        if warm:
            await transport.send(call)
        sent = len(wire.net.sent())
        calls: list[str] = []

        async def work() -> None:
            calls.append("begun")
            await transport.send(call, on_unsent=lambda: calls.append("unsent"))

        outcome = await run_cancelled(work)
        if "begun" in calls:  # else it was cancelled before its first step
            was_sent = len(wire.net.sent()) > sent
            is_known = transport.pool.is_traced  # not before the first trace event
            is_unsent = outcome.cancelled and not was_sent and is_known
            assert calls[1:] == ["unsent"] * is_unsent
        assert has_all_slots(transport)
        assert (await transport.send(call)).status == 200
        assert has_all_slots(transport)
        await wire.close(transport)
        assert not wire.net.open()

    step = 1
    while cancel_at_step(canceller, step, main):
        step += 1
    assert step > 5


@pytest.mark.sampled(2)
@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("call", [GET, POST], ids=["read", "create"])
def test_a_request_cancelled_at_any_step_of_its_wait_takes_no_slot(
    our_wire: Wire, canceller: StepCanceller, call: Call
) -> None:
    async def main(run_cancelled: Any) -> None:
        our_wire.net.streams.clear()
        slots = Concurrency()
        slots.reads = slots.creates = Slots(1)
        transport = our_wire.transport(concurrency=slots)
        calls: list[str] = []

        async def work() -> None:
            calls.append("begun")
            await transport.send(call, on_unsent=lambda: calls.append("unsent"))

        async with anyio.create_task_group() as group:
            group.start_soon(transport.send, call)
            await anyio.sleep(STEP / 2)
            outcome = await run_cancelled(work)
        heads = our_wire.net.sent().count(call.method.encode())
        if "begun" in calls:
            assert calls[1:] == ["unsent"] * (outcome.cancelled and heads == 1)
        assert slots.reads.free == 1
        await transport.send(call)
        await our_wire.close(transport)
        assert not our_wire.net.open()

    step = 1
    while cancel_at_step(canceller, step, main):
        step += 1
    assert step > 5


async def test_it_is_known_that_nothing_left_before_connections_are_closed(
    our_wire: Wire,
) -> None:
    """A cancellation there takes the place of the error that says so."""
    transport, calls = our_wire.transport(), list[str]()

    def is_cancelled_now() -> bool:
        scope.cancel()
        return False

    with anyio.CancelScope() as scope:
        # Retired meanwhile, as when a request beside it was cancelled.
        tracker = SendTracker(is_cancelled_now, transport.pool.retire)
        await transport.send(
            POST, tracker=tracker, on_unsent=lambda: calls.append("unsent")
        )
    assert scope.cancelled_caught
    assert not our_wire.net.sent()
    assert calls == ["unsent"]
    assert not our_wire.net.open()


@pytest.mark.parametrize("call", [GET, POST], ids=["read", "create"])
async def test_a_response_is_kept_while_connections_are_closed_if_it_was_paid_for(
    our_wire: Wire, call: Call
) -> None:
    transport = our_wire.transport()
    await transport.send(GET)
    client = transport.pool._open[0].client
    close = client.aclose

    async def close_while_cancelled() -> None:
        scope.cancel()
        await anyio.sleep(STEP)
        await close()

    client.aclose = close_while_cancelled
    responses = []
    with anyio.CancelScope() as scope:
        # Retired while it was sent, as when a request beside it was cancelled.
        tracker = SendTracker(lambda: True, on_first_byte=transport.pool.retire)
        responses.append(await transport.send(call, tracker=tracker))
    assert scope.cancel_called
    assert [each.status for each in responses] == [200] * (call is POST)
    assert not our_wire.net.open()


async def test_a_cancelled_connect_retires_the_client(
    our_wire: Wire,
) -> None:
    net, transport = our_wire.net, our_wire.transport()
    net.response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    await transport.send(GET)
    async with anyio.create_task_group() as group:
        net.read_delay = 20.0
        group.start_soon(transport.send, GET)  # over the first connection, for 60 s
        await anyio.sleep(5 * STEP)  # until the request is written
        net.read_delay = STEP
        with anyio.move_on_after(STEP / 2):
            await transport.send(GET)
        await transport.send(GET)
        assert [stream.is_closed for stream in net.streams] == [False, False]
    assert [stream.is_closed for stream in net.streams] == [True, False]
    await transport.send(GET)
    assert [stream.sent.count(b"GET ") for stream in net.streams] == [2, 2]
    await our_wire.close(transport)
    assert not net.open()


async def test_retiring_a_client_closes_its_idle_connections(
    our_wire: Wire,
) -> None:
    net, transport = our_wire.net, our_wire.transport()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(transport.send, GET)
    net.peer_closed, net.connect_delay = (
        True,
        inf,
    )  # so that the next one has to connect
    with anyio.move_on_after(1):
        await transport.send(GET)
    assert not net.open()
    net.peer_closed, net.connect_delay = False, STEP
    await transport.send(GET)
    assert len(net.open()) == 1
    await our_wire.close(transport)


async def test_a_connect_timeout_retires_nothing(wire: Wire) -> None:
    net, transport = wire.net, wire.transport(httpx.Timeout(30, connect=1))
    async with anyio.create_task_group() as group:
        group.start_soon(transport.send, GET)
        await anyio.sleep(3 * STEP)
        net.connect_delay, began = inf, anyio.current_time()
        with pytest.raises(NoResponse, match="ConnectTimeout") as caught:
            await transport.send(POST)
        assert anyio.current_time() - began == pytest.approx(1, abs=0.001)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    await transport.send(GET)
    assert [stream.sent.count(b"GET ") for stream in net.streams] == [2]
    assert len(net.open()) == 1
    await wire.close(transport)


async def test_connecting_for_the_whole_timeout_retires_nothing(
    our_wire: Wire,
) -> None:
    """The library's own timeout is over a little earlier, and it cleans up."""
    net, transport = our_wire.net, our_wire.transport(10.0)
    async with anyio.create_task_group() as group:
        group.start_soon(transport.send, GET)
        await anyio.sleep(5 * STEP)
        net.connect_delay, net.tls_delay = 9.0, inf
        with pytest.raises(NoResponse, match="ConnectTimeout") as caught:
            await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    await transport.send(GET)
    assert [stream.sent.count(b"GET ") for stream in net.streams] == [2, 0]
    await our_wire.close(transport)


async def test_a_handshake_that_heeds_no_timeout_ends_with_its_attempt(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start_tls(*_: Any, **__: Any) -> None:
        await anyio.sleep(inf)

    net, transport = wire.net, wire.transport(10.0)
    with monkeypatch.context() as patch:
        patch.setattr("tests._in_memory_network.Stream.start_tls", start_tls)
        began = anyio.current_time()
        with pytest.raises(NoResponse) as caught:
            await transport.send(POST)
    assert (caught.value.timed_out, caught.value.evidence) == (True, "not_sent")
    assert anyio.current_time() - began == pytest.approx(10, abs=0.001)
    assert not net.open()
    assert has_all_slots(transport)
    await transport.send(POST)
    await wire.close(transport)
    assert not net.open()


async def test_a_request_cancelled_after_it_was_sent_retires_nothing(
    our_wire: Wire,
) -> None:
    net, transport = our_wire.net, our_wire.transport()
    async with anyio.create_task_group() as group:
        group.start_soon(transport.send, GET)
        await anyio.sleep(STEP / 2)
        with anyio.move_on_after(4.5 * STEP):
            await transport.send(GET)
    assert [stream.is_closed for stream in net.streams] == [False, True]
    await transport.send(GET)
    assert len(net.streams) == 2
    await our_wire.close(transport)


async def test_retire_replaces_all_connections(
    our_wire: Wire,
) -> None:
    net, transport = our_wire.net, our_wire.transport()
    async with anyio.create_task_group() as group:
        group.start_soon(transport.send, GET)
        group.start_soon(transport.send, GET)
        await anyio.sleep(STEP / 2)
        await transport.retire()
        await transport.send(GET)
        assert len(net.open()) == 1  # the others were closed with their client
    assert len(net.streams) == 3
    await transport.retire()
    assert not net.open()  # at once, since no request uses them
    await our_wire.close(transport)
    assert not net.open()


async def test_a_callers_client_is_neither_retired_nor_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in KINDS[1:]:
        wire = wire_in_memory(kind, monkeypatch)
        transport = wire.transport()
        await transport.send(GET)
        await transport.retire()
        await transport.send(GET)
        await transport.pool.aclose()
        assert len(wire.net.streams) == len(wire.net.open()) == 1
        await wire.close(transport)
        assert not wire.net.open()


async def test_a_tracker_is_called_when_connecting_and_before_the_first_byte(
    wire: Wire,
) -> None:
    calls: list[tuple[str, float, bytes]] = []

    def note(event: str) -> None:
        calls.append((event, anyio.current_time() - began, wire.net.sent()))

    began = anyio.current_time()
    tracker = SendTracker(
        lambda: True, partial(note, "connecting"), partial(note, "first byte")
    )
    await wire.transport().send(POST, tracker=tracker)
    assert [event for event, *_ in calls] == [
        "connecting",
        "connecting",
        "first byte",
    ]
    assert calls[-1][1] == pytest.approx(2 * STEP, abs=0.001)
    assert calls[-1][2] == b""


@pytest.mark.parametrize("moment", ["tcp", "tls"])
async def test_the_stream_of_a_request_cancelled_while_connecting_is_closed(
    wire: Wire, moment: str
) -> None:
    transport = wire.transport()
    with anyio.move_on_after((0.5 if moment == "tcp" else 1.5) * STEP) as scope:
        await transport.send(GET)
    assert scope.cancelled_caught
    assert len(wire.net.streams) == (moment == "tls")
    assert not wire.net.open()
    with contextlib.suppress(NoResponse):
        await transport.send(GET)
    await wire.close(transport)
    assert not wire.net.open()
