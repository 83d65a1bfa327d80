"""A program of a user's, for strict type checkers; it is not run. See `test_types`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_type

import finetuning_async as ft
from finetuning_async import (
    AsyncClient,
    CompletedOutcome,
    Event,
    FailedOutcome,
    Generation,
    GenerationRequest,
    InstrumentalRequest,
    LocalRateLimiter,
    MusicalKey,
    Outcome,
    RateLimit,
    RateLimits,
    Scale,
    SoundEffect,
    SoundEffectRequest,
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


AnyTrack: TypeAlias = Generation | SoundEffect


def show(outcome: CompletedOutcome | FailedOutcome) -> None:
    if outcome.error is None:
        assert_type(outcome.generation, AnyTrack)


async def written(client: AsyncClient, form: dict[str, str]) -> None:
    """The known ones are typed; a string from elsewhere is taken as well."""
    key: MusicalKey = "F#"
    scale: Scale = "mayor"  # type: ignore[assignment]
    await client.generate("rain", key=key, scale=scale, timesignature=3, language="de")
    await client.generate("rain", key=form["key"], scale="dorian", validate=False)
    client.generations.list(status=form["status"], type="instrumental")
    GenerationRequest("rain", key=form["key"], timesignature=form["beats"])
    client.with_options(timeout=5)  # type: ignore[call-arg]
    client.with_options(max_retries="5")  # type: ignore[arg-type]
    view = client.with_options(max_wait=None, share=form["user"], headers={"x": "y"})
    assert_type(view, AsyncClient)
    AsyncClient(default_headers={})  # type: ignore[call-arg]
    Client(timeout=5)  # type: ignore[call-arg]
    view.with_raw_response.me()  # type: ignore[attr-defined]
    await view.generations.retrieve("an-id")  # type: ignore[attr-defined]
    either = await view.wait_for_completion("an-id-of-any-kind")
    if isinstance(either, SoundEffect):
        assert_type(either.kind, Literal["sound_effect"])


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
            assert_type(outcome.result(), Generation)
            assert_type(outcome.request, GenerationRequest)
            assert_type(outcome.generation, Generation | None)
            if outcome.error is None:
                assert_type(outcome.generation, Generation)
            else:
                assert_type(outcome.error, ft.FinetuningError)
            show(outcome)
        assert_type(outcomes.in_doubt[0].error, ft.FinetuningError)
    kinds = [InstrumentalRequest("wind"), SoundEffectRequest("door")]
    async with client.generate_many(kinds) as either:
        assert_type([outcome.result() async for outcome in either], list[AnyTrack])
    async with client.generate_many([*kinds, "rain", {"tags": "snow"}]) as outcomes:
        assert_type([outcome.result() async for outcome in outcomes], list[AnyTrack])
    async with client.generate_many(["rain", "wind"]) as outcomes:
        seen = [outcome async for outcome in outcomes]
    assert_type([outcome.request for outcome in seen], list[GenerationRequest])
    failed: list[FailedOutcome] = [each for each in seen if each.error is not None]
    any_of_them: list[Outcome] = [*seen, *failed]
    async with client.resume_all() as resumed:
        any_of_them += [outcome async for outcome in resumed]
    async with Batch(client, "album", options=Options(max_credits=3)) as batch:
        await batch.add([GenerationRequest("rain"), "wind", {"tags": "snow"}])
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
            if outcome.error is not None:
                assert_type(outcome.error, ft.FinetuningError)
                continue
            assert_type(outcome.generation, Generation)
    with client.generate_many([SoundEffectRequest("door")], timeout=5) as effects:
        assert_type([effect.result() for effect in effects], list[SoundEffect])
    with Client(rate_limits=LIMITS, on_event=seen) as other:
        assert_type(other.with_options(max_retries=1), Client)
        assert_type(other.me(timeout=5).total_remaining, int | None)
        with other.open_audio(track) as audio:
            assert_type(next(audio), bytes)


async def main() -> None:
    async with AsyncClient(rate_limits=LIMITS, on_event=seen) as client:
        for work in (tracks, effects, many):
            await work(client)
        await written(client, {})
        other = client.with_options(on_event=OpenTelemetry(), max_retries=1)
        account = await other.me(timeout=5, max_retries=0)
        assert_type(account.total_remaining, int | None)
        assert_type(client.rate_limit_status().creates.available, int | None)
        WebhookReceiver(client, secrets=["x" * 20])
    for limiter in (LocalRateLimiter(LIMITS), RedisRateLimiter("redis://x")):
        AsyncClient(rate_limiter=limiter)
    async with Emulator() as emulator:
        AsyncClient(rate_limits=emulator.rate_limits)
