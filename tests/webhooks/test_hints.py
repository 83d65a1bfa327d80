"""Hints of webhooks change when the poll loop reads a track, and nothing else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async._polling._schedule import (
    WEBHOOK_GRACE,
    WEBHOOK_PAUSE,
    DurationEstimator,
    Expectation,
)
from finetuning_async._polling._webhook_hints import (
    KEPT,
    REMEMBERED,
    TRUSTED_AFTER,
    WebhookHints,
)
from finetuning_async.emulator import Emulator
from finetuning_async.webhooks import WebhookReceiver
from tests._emulated_client import emulated
from tests.webhooks._webhook_calls import (
    BASE,
    SECRET,
    body_of,
    deliver,
    query_of,
    sender_to,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async import AsyncClient
    from finetuning_async.emulator._settings import WebhookSender

pytestmark = pytest.mark.sampled(2)

EXPECTED = Expectation(20, 100)


def reads(emulator: Emulator) -> int:
    return emulator.count(method="GET")


@asynccontextmanager
async def emulated_with_webhooks(
    **settings: Any,
) -> AsyncGenerator[tuple[Emulator, AsyncClient, WebhookReceiver]]:
    """An emulator whose deliveries reach a receiver."""
    receivers: list[WebhookReceiver] = []
    sender: WebhookSender = sender_to(receivers)
    service = Emulator(webhook_sender=sender, **settings)
    async with emulated(service) as (emulator, client):
        receivers.append(WebhookReceiver(client, secrets=[SECRET]))
        yield emulator, client, receivers[0]


def test_a_hint_about_an_unknown_track_is_kept_for_a_minute_and_used_once() -> None:
    hints = WebhookHints()
    hints.remember("a", 0.0)
    hints.remember("b", 0.0)
    assert hints.take("a", REMEMBERED)
    assert not hints.take("a", REMEMBERED)
    assert not hints.take("b", REMEMBERED + 1)
    assert not hints.take("c", 0.0)


def test_hints_about_unknown_tracks_take_bounded_memory_and_the_newest_stay() -> None:
    hints = WebhookHints()
    for number in range(10 * KEPT):
        hints.remember(str(number), 0.0)
        hints.record_end(f"ended {number}", announced=False)
    assert repr(hints) == f"<Hints early={KEPT} hooks_arrive=False>"
    assert len(hints._ends) == TRUSTED_AFTER
    assert hints.take(str(10 * KEPT - 1), 0.0)


def test_webhooks_are_trusted_after_five_deliveries_in_a_row() -> None:
    hints = WebhookHints()
    for number in range(TRUSTED_AFTER):
        assert not hints.hooks_arrive
        hints.record_end(str(number), announced=True)
    assert hints.hooks_arrive
    hints.record_end("b", announced=False)
    assert not hints.hooks_arrive
    hints.remember("b", 2.0)  # polling saw the end a moment before
    assert hints.hooks_arrive
    assert not hints.take("b", 2.0)


def test_reads_are_15_s_apart_until_30_s_after_the_expected_end() -> None:
    estimator = DurationEstimator()
    pauses = {
        0: 20,
        10: WEBHOOK_PAUSE,
        20: WEBHOOK_PAUSE,
        99: WEBHOOK_PAUSE,
        120: 10,
        129.5: 0.5,
        100 + WEBHOOK_GRACE: 0,
    }
    for age, pause in pauses.items():
        assert estimator.pause_for_hook(EXPECTED, age=age) == pause, age


def test_reads_come_at_full_pace_before_durations_are_known() -> None:
    assert DurationEstimator().pause_for_hook(Expectation(2, inf), age=5) == 0


def test_the_pauses_scale_with_an_accelerated_emulator() -> None:
    assert (
        DurationEstimator(scale=0.1).pause_for_hook(EXPECTED, age=20)
        == WEBHOOK_PAUSE / 10
    )


async def test_a_delivery_before_the_create_returns_is_used_by_the_first_wait() -> None:
    async with emulated(Emulator(generation_time=(60, 60))) as (emulator, client):
        receiver = WebhookReceiver(client, secrets=[SECRET])
        for _ in range(4):
            await client.generate("x")  # so the end of the next is expected at 60 s
        track = await client.generations.create("x")
        query = query_of(receiver.url(BASE))
        assert await deliver(receiver, query, body_of(track.id)) == 204
        before = reads(emulator)
        with anyio.move_on_after(0.5):
            await client.wait_for_completion(track)
        assert reads(emulator) == before + 1
        with anyio.move_on_after(20):
            await client.wait_for_completion(track)
        assert reads(emulator) == before + 1


async def test_with_webhooks_polling_slows_and_ends_are_noticed_as_soon() -> None:
    async def last_reads_and_delay(*, with_hook: bool) -> tuple[int, float]:
        async with emulated_with_webhooks(generation_time=(30, 90)) as (
            emulator,
            client,
            receiver,
        ):
            for _ in range(8):
                webhook = receiver.url(BASE) if with_hook else None
                before = reads(emulator)
                track = await client.generate("x", webhook=webhook)
                noticed_at = anyio.current_time()
            ended_at = emulator.tracks[track.id].ends_at
            return reads(emulator) - before, noticed_at - ended_at

    slow, late = await last_reads_and_delay(with_hook=True)
    fast, _ = await last_reads_and_delay(with_hook=False)
    assert slow <= 5 < fast
    assert late < 1.5


async def test_when_webhooks_stop_arriving_polling_returns_to_full_pace() -> None:
    async with emulated_with_webhooks(generation_time=(30, 90)) as (
        emulator,
        client,
        receiver,
    ):
        hints = client._session().account.poller._watch_list.hints
        for _ in range(5):
            await client.generate("x", webhook=receiver.url(BASE))
        assert hints.hooks_arrive
        lost = await client.generate("x", webhook=BASE)
        assert lost.status == "completed"
        await anyio.sleep(1)
        assert not hints.hooks_arrive
        before = reads(emulator)
        await client.generate("x", webhook=BASE)
        assert reads(emulator) - before > 5


async def test_a_track_without_a_webhook_is_polled_at_full_pace() -> None:
    async with emulated_with_webhooks(generation_time=(30, 90)) as (
        emulator,
        client,
        receiver,
    ):
        for _ in range(5):
            await client.generate("x", webhook=receiver.url(BASE))
        before = reads(emulator)
        await client.generate("x")
        assert reads(emulator) - before > 5


async def test_an_early_delivery_brings_the_track_back_to_full_pace() -> None:
    async with emulated_with_webhooks(generation_time=(80, 90)) as (
        emulator,
        client,
        receiver,
    ):
        for _ in range(5):
            await client.generate("x", webhook=receiver.url(BASE))
        track = await client.generations.create("x", webhook=BASE)
        async with anyio.create_task_group() as group:
            group.start_soon(client.wait_for_completion, track)
            await anyio.sleep(5)
            query = query_of(receiver.url(BASE))
            assert await deliver(receiver, query, body_of(track.id)) == 204
        assert anyio.current_time() - emulator.tracks[track.id].ends_at < 2


async def test_a_flood_of_hints_leaves_reads_for_the_caller() -> None:
    async with emulated(Emulator(generation_time=(240, 240))) as (emulator, client):
        tracks = [await client.generations.create("x") for _ in range(5)]
        async with anyio.create_task_group() as group:
            for track in tracks:
                group.start_soon(client.wait_for_completion, track)
            await anyio.sleep(60)
            before = reads(emulator)
            for _ in range(600):
                client.mark_changed(tracks[0].id)
                client.mark_changed(tracks[1].id)
                await anyio.sleep(0.1)
            assert reads(emulator) - before <= 46
            started = anyio.current_time()
            for _ in range(10):
                await client.me()
            assert anyio.current_time() - started < 5
        assert emulator.count(status=429) == 0
