"""Deliveries: valid, invalid, repeated, early, about another track, and lost."""

from __future__ import annotations

import json
from itertools import repeat
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import APIResponseError, AsyncClient
from finetuning_async.emulator import Emulator
from finetuning_async.webhooks import (
    WebhookReceiver,
    WebhookVerificationError,
    _receiver as module,
)
from tests._emulated_client import emulated
from tests.webhooks._webhook_calls import (
    BASE,
    SECRET,
    UNUSED_KEY,
    body_of,
    deliver,
    query_of,
    sender_to,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

MEGABYTE = 2**20


class RecordingClient(AsyncClient):
    """A client that records the tracks that were marked as changed."""

    def __init__(self) -> None:
        super().__init__(UNUSED_KEY)
        self.marked: list[str] = []

    def mark_changed(self, generation_id: str) -> None:
        self.marked.append(generation_id)


def new_receiver() -> tuple[RecordingClient, WebhookReceiver, bytes]:
    client = RecordingClient()
    receiver = WebhookReceiver(client, secrets=[SECRET])
    return client, receiver, query_of(receiver.url(BASE))


async def test_a_valid_delivery_gets_204_and_marks_its_track() -> None:
    client, receiver, query = new_receiver()
    assert await deliver(receiver, query, body_of("a")) == 204
    assert client.marked == ["a"]


async def test_an_invalid_token_gets_an_empty_404_and_its_body_is_not_read() -> None:
    client, receiver, _ = new_receiver()
    body = iter([body_of("a")])
    for query in (b"", b"token=x", b"token=\xff"):
        assert await deliver(receiver, query, body) == 404
        assert await deliver(receiver, query, method="GET") == 404
    assert next(body) == body_of("a")
    assert client.marked == []


async def test_methods_other_than_post_get_405() -> None:
    _, receiver, query = new_receiver()
    assert await deliver(receiver, query, method="GET") == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"null",
        b'"id"',
        b"{}",
        b'{"id": null}',
        b'{"id": {}}',
        b"[" * 100_000,
        b'{"id": ' + b"9" * 5000 + b"}",
        b"\xff\xfe\x00",
        "{'id': 'a'}".encode("utf-16"),
    ],
)
async def test_an_invalid_body_gets_400_and_marks_nothing(body: bytes) -> None:
    client, receiver, query = new_receiver()
    assert await deliver(receiver, query, body) == 400
    assert client.marked == []
    assert await deliver(receiver, query, body_of("a")) == 204


async def test_unknown_fields_and_statuses_are_accepted() -> None:
    client, receiver, query = new_receiver()
    strange = {
        "id": "a",
        "status": "Done?",
        "parameters": 7,
        "new": [1],
        "duration": {},
    }
    assert await deliver(receiver, query, json.dumps(strange).encode()) == 204
    assert await deliver(receiver, query, json.dumps({"data": strange}).encode()) == 204
    assert client.marked == ["a", "a"]


async def test_a_body_of_10_mb_is_refused_before_it_is_read() -> None:
    client, receiver, query = new_receiver()
    size = {b"content-length": b"%d" % (10 * MEGABYTE)}
    never: Iterable[bytes] = iter(())
    assert await deliver(receiver, query, never, headers=size) == 413
    huge = {b"content-length": b"9" * 5000}
    assert await deliver(receiver, query, never, headers=huge) == 413
    assert client.marked == []


async def test_a_body_of_10_mb_that_hides_its_size_is_cut_off_at_the_limit() -> None:
    _, receiver, query = new_receiver()
    chunks = iter([b" " * 65_536] * 160)
    assert await deliver(receiver, query, chunks) == 413
    assert len(list(chunks)) == 160 - 5


async def test_a_slow_body_times_out_with_408() -> None:
    _, receiver, query = new_receiver()
    started = anyio.current_time()
    assert await deliver(receiver, query, repeat(b" "), chunk_delay=1.0) == 408
    assert anyio.current_time() - started == pytest.approx(10)


async def test_a_sender_that_disconnects_in_the_body_marks_nothing() -> None:
    client, receiver, query = new_receiver()
    sent: list[object] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [], "query_string": query}
    await receiver(scope, receive, send)
    assert client.marked == []


async def test_a_sender_that_disconnects_early_still_marks_its_track() -> None:
    client, receiver, query = new_receiver()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body_of("a")}

    async def send(message: object) -> None:
        raise OSError("disconnected")

    scope = {"type": "http", "method": "POST", "headers": [], "query_string": query}
    with pytest.raises(OSError, match="disconnected"):
        await receiver(scope, receive, send)
    assert client.marked == ["a"]


async def test_replays_get_the_same_response_and_soon_mark_nothing() -> None:
    client, receiver, query = new_receiver()
    for _ in range(100):
        assert await deliver(receiver, query, body_of("a")) == 204
    assert client.marked == ["a"] * module.HINTS_PER_TOKEN


async def test_remembered_tokens_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "NONCES_KEPT", 10)
    client, receiver, _ = new_receiver()
    for number in range(50):
        query = query_of(receiver.url(BASE))
        assert await deliver(receiver, query, body_of(str(number))) == 204
    assert len(receiver._hints_by_nonce) == 10
    assert len(client.marked) == 50


async def test_receive_returns_the_track_or_raises() -> None:
    client, receiver, query = new_receiver()
    track = receiver.receive(query, body_of("a", "failed"))
    assert (track.id, track.status, client.marked) == ("a", "failed", ["a"])
    with pytest.raises(APIResponseError):
        receiver.receive(query, b"no json")
    with pytest.raises(WebhookVerificationError):
        receiver.receive(b"token=x", body_of("a"))


async def test_a_server_can_run_the_receiver_as_its_whole_application() -> None:
    _, receiver, _ = new_receiver()
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return next(messages)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await receiver({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    await receiver({"type": "websocket"}, receive, send)
    assert sent[-1] == "websocket.close"


async def test_a_delivery_of_the_emulator_ends_the_wait() -> None:
    receivers: list[WebhookReceiver] = []
    service = Emulator(webhook_sender=sender_to(receivers))
    async with emulated(service) as (emulator, client):
        receivers.append(WebhookReceiver(client, secrets=[SECRET]))
        track = await client.generate("x", webhook=receivers[0].url(BASE))
        assert track.status == "completed"
        await anyio.sleep(1)
        (sent,) = emulator.webhooks
        assert sent.status == 204


async def test_a_delivery_about_another_track_costs_one_read_and_changes_nothing() -> (
    None
):
    async with emulated() as (emulator, client):
        receiver = WebhookReceiver(client, secrets=[SECRET])
        other = await client.generations.create("other")
        with anyio.move_on_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(client.wait_for_completion, other)
                await anyio.sleep(0.1)
                before = emulator.count(method="GET")
                query = query_of(receiver.url(BASE))
                assert await deliver(receiver, query, body_of(other.id)) == 204
                await anyio.sleep(0.1)
                assert emulator.count(method="GET") == before + 1
                group.cancel_scope.cancel()
        final = await client.wait_for_completion(other)
        assert final.status == "completed"


async def test_deliveries_about_tracks_without_waiters_cost_nothing() -> None:
    async with emulated() as (emulator, client):
        receiver = WebhookReceiver(client, secrets=[SECRET])
        for number in range(1000):
            query = query_of(receiver.url(BASE))
            assert await deliver(receiver, query, body_of(f"unknown {number}")) == 204
        await anyio.sleep(100)
        assert emulator.requests == []


async def test_a_lost_delivery_is_found_by_polling() -> None:
    async def lose(url: str, headers: object, body: bytes) -> int:
        return 0

    async with emulated(Emulator(webhook_sender=lose)) as (_, client):
        receiver = WebhookReceiver(client, secrets=[SECRET])
        track = await client.generate("x", webhook=receiver.url(BASE))
        assert track.status == "completed"
