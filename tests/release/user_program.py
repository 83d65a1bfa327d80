"""A program of a user's, for strict type checkers; it is not run. See `test_types`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import finetuning_async as ft
from finetuning_async import (
    AsyncClient,
    Event,
    Generation,
    GenerationRequest,
    LocalRateLimiter,
    Outcome,
    RateLimit,
    RateLimits,
    SoundEffect,
)
from finetuning_async.batch import Batch, BatchItem, Options
from finetuning_async.emulator import Emulator
from finetuning_async.otel import OpenTelemetry
from finetuning_async.redis import RedisRateLimiter
from finetuning_async.sync import Client
from finetuning_async.webhooks import WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMITS = RateLimits(creates=RateLimit(10, per=3.0), reads=RateLimit(60, per=3.0))


def seen(event: Event) -> float | None:
    match event:
        case ft.RequestSent(at=at):
            return at
        case ft.GenerationEnded():
            return event.duration
        case _:
            return None


async def songs() -> AsyncIterator[GenerationRequest]:
    for number in range(3):
        yield GenerationRequest(f"song {number}", duration=30, scale="minor")


async def tracks(client: AsyncClient) -> None:
    track = await client.generate("rain", duration=30, key="C", on_update=print)
    assert_type(track, Generation)
    assert_type(await client.download(track, "rain.mp3"), Path)
    async for state in client.watch(track):
        assert_type(state, Generation)
    async for row in client.generations.list(status="completed"):
        assert_type(row.title, str | None)
    assert_type(await client.wait_for_completion(track), Generation)
    async for seen in client.watch(track.id):
        assert_type(seen, Generation | SoundEffect)
    deleted = await client.generations.delete([track.id])
    assert_type([failure.id for failure in deleted.failed], list[str])


async def effects(client: AsyncClient) -> None:
    effect = await client.sound_effects.create("door", duration=2)
    assert_type(await client.wait_for_completion(effect), SoundEffect)
    either = await client.wait_for_completion(effect.id)
    assert_type(either, Generation | SoundEffect)
    assert_type(await client.wait_for_completion(either), Generation | SoundEffect)
    await client.download(either, "door.mp3")
    async for state in client.watch(effect):
        assert_type(state, SoundEffect)


async def many(client: AsyncClient) -> None:
    async with client.generate_many(songs()) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
            assert_type(outcome.result(), Generation | SoundEffect)
    async with Batch(client, "album", options=Options(max_credits=3)) as batch:
        await batch.add([GenerationRequest("rain")])
        async for item in batch.run():
            assert_type(item, BatchItem)


def blocking(client: Client) -> None:
    track = client.generate("rain", duration=30, key="C", on_update=print)
    assert_type(track, Generation)
    assert_type(client.download(track, "rain.mp3"), Path)
    assert_type(client.wait_for_completion(track), Generation)
    assert_type(client.wait_for_completion(track.id), Generation | SoundEffect)
    for state in client.watch(client.sound_effects.create("door", duration=2)):
        assert_type(state, SoundEffect)
    for row in client.generations.list(status="completed"):
        assert_type(row.title, str | None)
    page = client.generations.list().page()
    assert_type([each.id for each in page.items], list[str])
    with client.generate_many([GenerationRequest("rain")]) as outcomes:
        for outcome in outcomes:
            assert_type(outcome, Outcome)
    with Client(rate_limits=LIMITS, on_event=seen) as other:
        assert_type(other.me(timeout=5).total_remaining, int | None)
        with other.open_audio(track) as audio:
            assert_type(next(audio), bytes)


async def main() -> None:
    async with AsyncClient(rate_limits=LIMITS, on_event=seen) as client:
        for work in (tracks, effects, many):
            await work(client)
        other = client.with_options(on_event=OpenTelemetry(), max_retries=1)
        account = await other.me(timeout=5, max_retries=0)
        assert_type(account.total_remaining, int | None)
        assert_type(client.rate_limit_status().creates.available, int | None)
        WebhookReceiver(client, secrets=["x" * 20])
    for limiter in (LocalRateLimiter(LIMITS), RedisRateLimiter("redis://x")):
        AsyncClient(rate_limiter=limiter)
    async with Emulator() as emulator:
        AsyncClient(rate_limits=emulator.rate_limits)
