"""How many requests of an account may be on the wire at a time; the rest wait.

Hung reads do not block creates, accounts do not block each other, and views of a client
share its slots.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async import APITimeoutError, AsyncClient
from finetuning_async._http._concurrency import CREATES, READS
from finetuning_async._http._delivery import NoResponse
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
    from collections.abc import Awaitable, Callable

    from finetuning_async._api._messages import Call

pytestmark = pytest.mark.sampled(2)

UP = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'
CREATED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Length: 46\r\n\r\n"
    b'{"data": {"id": "gen_1", "status": "pending"}}'
)


@pytest.fixture(params=KINDS)
def wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wire_in_memory(request.param, monkeypatch)


@pytest.fixture
def our_wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return wire_in_memory("our own", monkeypatch)


async def test_hung_reads_do_not_block_creates_nor_hung_creates_reads(
    wire: Wire,
) -> None:
    for hung, other, most in ((GET, POST, wire.reads), (POST, GET, CREATES)):
        net, transport = wire.net, wire.transport(httpx.Timeout(None))
        net.read_delay = inf
        async with anyio.create_task_group() as group:
            for _ in range(most + 5):
                group.start_soon(transport.send, hung)
            await anyio.sleep(10 * STEP)
            net.read_delay, began = STEP, anyio.current_time()
            assert (await transport.send(other)).status == 200
            assert anyio.current_time() - began < 10 * STEP
            heads = net.sent().count(hung.method.encode() + b" ")
            assert heads == most
            group.cancel_scope.cancel()
        assert has_all_slots(transport)
        await wire.close(transport)
        net.streams.clear()


@pytest.mark.sampled(2)
async def test_slots_are_given_in_order(wire: Wire) -> None:
    net, transport = wire.net, wire.transport()
    ends: list[int] = []

    async def one(number: int) -> None:
        await transport.send(GET)
        ends.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3 * wire.reads):
            group.start_soon(one, number)
            await anyio.sleep(STEP / wire.reads)
    assert ends == list(range(3 * wire.reads))
    assert len(net.streams) <= wire.reads
    await wire.close(transport)


@pytest.mark.parametrize("call", [GET, POST], ids=["read", "create"])
async def test_a_timeout_while_waiting_for_a_slot_sends_nothing(
    wire: Wire, call: Call
) -> None:
    most = wire.reads if call is GET else CREATES
    transport = wire.transport(httpx.Timeout(30, pool=STEP))
    async with anyio.create_task_group() as group:
        for _ in range(most):
            group.start_soon(transport.send, call)
        await anyio.sleep(STEP / 2)
        with pytest.raises(
            NoResponse, match=r"after 0\.1 s waiting for another request"
        ) as it:
            await transport.send(call)
    assert (it.value.evidence, it.value.timed_out) == ("not_sent", True)
    assert wire.net.sent().count(call.method.encode() + b" ") == most
    assert has_all_slots(transport)
    await wire.close(transport)


@pytest.mark.sampled(2)
async def test_200_concurrent_reads_need_no_more_connections_than_slots(
    wire: Wire,
) -> None:
    transport = wire.transport()
    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(transport.send, GET)
    assert wire.net.most_open <= wire.reads
    if not wire.callers_clients:  # a caller's client keeps 20, and may reopen others
        assert len(wire.net.streams) == wire.net.most_open
    assert wire.net.sent().count(b"GET ") == 200
    await wire.close(transport)
    assert not wire.net.open()


@pytest.mark.long
async def test_each_account_has_its_own_slots(our_wire: Wire) -> None:
    """A thousand accounts, each with a slot of its own, take no longer than one."""
    our_wire.net.response = UP
    async with AsyncClient(KEY, rate_limits=None) as client:
        accounts = [
            client.with_options(api_key=f"ft_live_{number:032}")
            for number in range(1000)
        ]
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for account in accounts:
                group.start_soon(account.health)
        assert anyio.current_time() - began < 20 * STEP
    assert not our_wire.net.open()


async def test_hung_reads_of_one_account_do_not_block_another(
    our_wire: Wire,
) -> None:
    net = our_wire.net
    net.response, net.read_delay = UP, inf
    options = httpx.Timeout(None)
    async with AsyncClient(KEY, rate_limits=None, request_timeout=options) as client:
        view = client.with_options(headers={"X-View": "1"})
        other = client.with_options(api_key=KEY[::-1])
        async with anyio.create_task_group() as group:
            await _hang(group.start_soon, client.health, READS - 1)
            net.read_delay = STEP
            await view.health()  # the last slot of the account
            net.read_delay = inf
            await _hang(group.start_soon, view.health, 1)
            net.read_delay = STEP
            await other.health()
            for one in (client, view):
                with pytest.raises(APITimeoutError):
                    await one.health(timeout=5)
            group.cancel_scope.cancel()
        await client.health()
        await view.health()
    assert not net.open()


async def _hang(
    start: Callable[..., object], call: Callable[[], Awaitable[object]], number: int
) -> None:
    for _ in range(number):
        start(call)
    await anyio.sleep(10 * STEP)


async def test_hung_reads_of_a_client_do_not_block_its_create(
    our_wire: Wire,
) -> None:
    net = our_wire.net
    net.read_delay = inf
    options = httpx.Timeout(None)
    async with AsyncClient(KEY, rate_limits=None, request_timeout=options) as client:
        async with anyio.create_task_group() as group:
            await _hang(group.start_soon, client.health, READS + 3)
            net.response, net.read_delay = CREATED, STEP
            began = anyio.current_time()
            track = await client.generations.create("x")
            assert track.id == "gen_1"
            assert anyio.current_time() - began < 20 * STEP
            group.cancel_scope.cancel()
