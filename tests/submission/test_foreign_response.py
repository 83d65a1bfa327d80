"""What proves that a response belongs to another request, and what does not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from finetuning_async import (
    AsyncClient,
    Generation,
    GenerationParameters,
    GenerationRequest,
    InstrumentalRequest,
    SoundEffect,
    SoundEffectRequest,
    SubmissionUnknownError,
)
from finetuning_async._submission._foreign_response import SentRequest, foreign_reason

PROMPT = "Rain on a tin roof, at night"


def _music(prompt: str, seed: int | None, **raw: Any) -> Generation:
    return Generation(
        id="gen_1",
        status="processing",
        prompt=prompt,
        parameters=GenerationParameters(seed=seed),
        raw={"id": "gen_1", "prompt": prompt, **raw},
    )


def _effect(prompt: str, seconds: float | None) -> SoundEffect:
    return SoundEffect(
        id="sfx_1",
        status="processing",
        prompt=prompt,
        requested_duration=seconds,
        raw={"id": "sfx_1", "prompt": prompt},
    )


def known(**more: Any) -> SentRequest:
    return SentRequest(**{"seed": 7, "is_claimed": False, **more})


@pytest.mark.parametrize(
    ("prompt", "seed", "is_foreign"),
    [
        (PROMPT, 7, False),
        (PROMPT, 8, False),
        ("wind", 7, False),
        ("wind", None, False),
        ("", 8, False),
        ("wind", 8, True),
        ("rain on a tin roof at night!", 8, False),
        ("\uff32AIN on a Tin-Roof, at   night", 8, False),
        (PROMPT[:27], 8, False),
        (f"{PROMPT}, vocals", 8, False),
        ("Rain", 8, True),
    ],
)
def test_music_needs_a_foreign_seed_and_a_foreign_prompt(
    prompt: str, seed: int | None, is_foreign: bool
) -> None:
    reason = foreign_reason(GenerationRequest(PROMPT), _music(prompt, seed), known())
    assert (reason is not None) == is_foreign


def test_a_seed_of_zero_may_be_picked_by_the_service() -> None:
    request = GenerationRequest(PROMPT, seed=0)
    assert foreign_reason(request, _music("wind", 8), known(seed=0)) is None


@pytest.mark.parametrize("echoes", [False, True])
def test_an_enhanced_prompt_counts_once_seeds_are_known_to_be_echoed(
    echoes: bool,
) -> None:
    request = InstrumentalRequest(PROMPT)
    reason = foreign_reason(request, _music("a vast pad", 8), known(echoes=echoes))
    assert (reason is not None) == echoes


@pytest.mark.parametrize("fact", ["is_claimed", "is_open_elsewhere"])
def test_a_response_with_another_creates_id_or_seed_is_foreign(fact: str) -> None:
    request = GenerationRequest(PROMPT)
    assert foreign_reason(request, _music(PROMPT, 7), known(**{fact: True})) is not None


@pytest.mark.parametrize(
    ("prompt", "seconds", "enhance", "is_foreign"),
    [
        ("wind", 9.0, False, True),
        ("wind", 4.5, False, False),  # the service rounded it
        ("wind", None, False, False),
        (PROMPT, 9.0, False, False),
        ("wind", 9.0, True, False),
    ],
)
def test_an_effect_needs_a_foreign_length_and_a_foreign_prompt(
    prompt: str, seconds: float | None, enhance: bool, is_foreign: bool
) -> None:
    request = SoundEffectRequest(PROMPT, duration=4, enhance=enhance)
    reason = foreign_reason(request, _effect(prompt, seconds), known(seed=None))
    assert (reason is not None) == is_foreign


@pytest.mark.parametrize(
    ("raw", "is_track"),
    [
        ({"id": "x"}, True),
        ({"id": "x", "createdAt": "2026-03-02T18:05:00Z"}, True),
        ({"id": "x", "status": "processing", "eta": 5}, True),
        ({"id": "usr_1", "email": "a@b.example", "tier": "pro"}, False),
        ({"id": "pl_1", "name": "best of", "trackCount": 3}, False),
    ],
)
def test_a_body_without_a_field_of_a_track_is_foreign(
    raw: dict[str, Any], is_track: bool
) -> None:
    track = Generation(id=raw["id"], status="unknown", raw=raw)
    assert (
        foreign_reason(GenerationRequest(PROMPT), track, known()) is None
    ) == is_track


async def test_once_a_seed_was_echoed_a_foreign_response_to_music_is_not_taken() -> (
    None
):
    """Before, the service may have changed the seed and enhanced the prompt."""
    seeds: list[int] = []

    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404, json={"error": {"code": "X", "message": "x"}})
        seeds.append(json.loads(request.content)["seed"])
        seed = seeds[-1] if len(seeds) == 3 else 7
        row = {"id": f"gen_{len(seeds)}", "prompt": "wind", "type": "instrumental"}
        body = {**row, "parameters": {"seed": seed}}
        return httpx.Response(202, json={"data": body})

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    async with AsyncClient("ft_live_" + "e" * 32, http_client=http) as client:
        for _ in range(3):
            await client.instrumentals.create(PROMPT)
        with pytest.raises(SubmissionUnknownError, match="another prompt, 'wind'"):
            await client.instrumentals.create(PROMPT)
