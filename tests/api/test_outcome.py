"""`Outcome`: its result, or its error."""

from __future__ import annotations

import pytest

from finetuning_async import (
    FinetuningError,
    GenerationFailedError,
    GenerationRequest,
    Outcome,
    SoundEffect,
    SoundEffectRequest,
)
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated


async def test_the_result_of_an_outcome_is_its_track_or_raises_its_error() -> None:
    songs = [GenerationRequest("a"), GenerationRequest("b")]
    wishes: list[GenerationRequest | SoundEffectRequest] = [
        *songs,
        SoundEffectRequest("c"),
    ]
    async with emulated(Emulator(generation_time=(3, 3))) as (emulator, client):
        emulator.add_fault(Fault("fail", "/v1/generations"))
        async with client.generate_many(wishes) as outcomes:
            ended = [outcome async for outcome in outcomes]
    (failed,) = (outcome for outcome in ended if outcome.error is not None)
    with pytest.raises(GenerationFailedError) as caught:
        failed.result()
    assert caught.value is failed.error
    done = [outcome.result() for outcome in ended if outcome is not failed]
    assert [track.status for track in done] == ["completed"] * 2
    assert any(isinstance(track, SoundEffect) for track in done)


def test_an_empty_outcome_has_no_result() -> None:
    with pytest.raises(FinetuningError, match="neither"):
        Outcome(request=GenerationRequest("a")).result()
