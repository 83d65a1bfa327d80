"""Parameters that the service changed are reported; other spellings are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async._api._models import Generation, GenerationParameters, SoundEffect
from finetuning_async._api._request_diff import changes
from finetuning_async._api._requests import (
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
)


def accepted(prompt: str = "lofi", **parameters: Any) -> Generation:
    made = GenerationParameters(**parameters)
    return Generation(id="a", status="processing", prompt=prompt, parameters=made)


FULL = GenerationRequest(
    "lofi", duration=120, bpm=85, language="en", key="F#", scale="minor", seed=5
)


def test_equal_parameters_are_no_change() -> None:
    got = accepted(duration=120.0, bpm=85, language="en", keyscale="F# minor", seed=5)
    assert changes(FULL, got) == {}


def test_a_parameter_that_either_side_omits_is_no_change() -> None:
    assert changes(FULL, accepted()) == {}
    got = accepted(duration=60.0, bpm=120, keyscale="C major", seed=9, language="en")
    assert changes(GenerationRequest("lofi"), got) == {}


def test_q6_clamped_values_are_reported_as_requested_and_got() -> None:
    got = accepted(duration=60.0, bpm=80, language="de", keyscale="C minor", seed=6)
    assert changes(FULL, got) == {
        "duration": (120, 60.0),
        "bpm": (85, 80),
        "language": ("en", "de"),
        "keyscale": ("F# minor", "C minor"),
        "seed": (5, 6),
    }


@pytest.mark.parametrize("asked", [3, "3", 3.0], ids=["int", "str", "float"])
def test_q1_the_spelling_of_a_time_signature_is_no_change(asked: Any) -> None:
    request = GenerationRequest("lofi", timesignature=asked)
    assert changes(request, accepted(timesignature=3)) == {}
    assert changes(request, accepted(timesignature=4)) == {"timesignature": (asked, 4)}


@pytest.mark.parametrize(
    ("key", "scale", "got", "changed"),
    [
        ("Gb", "minor", "F# minor", False),
        ("F#", "minor", "gb Minor", False),
        ("C", None, "C major", False),
        (None, "minor", "A minor", False),
        (None, "minor", "A major", True),
        ("C", None, "D major", True),
        ("C", "minor", "C", False),
        ("C", "minor", "", False),
        (None, None, "C major", False),
    ],
)
def test_key_and_scale_are_compared_if_they_were_set(
    key: str | None, scale: str | None, got: str, changed: bool
) -> None:
    request = GenerationRequest("lofi", key=key, scale=scale)
    assert bool(changes(request, accepted(keyscale=got))) is changed


def test_a_random_seed_is_compared_too() -> None:
    request = GenerationRequest("lofi")
    assert changes(request, accepted(seed=7), seed=7) == {}
    assert changes(request, accepted(seed=8), seed=7) == {"seed": (7, 8)}


def test_a_changed_prompt_is_reported_unless_the_service_may_enhance_it() -> None:
    got = accepted("lofi, warm, dusty")
    assert changes(InstrumentalRequest("lofi"), got) == {}
    expected = {"prompt": ("lofi", "lofi, warm, dusty")}
    assert changes(InstrumentalRequest("lofi", enhance=False), got) == expected
    assert changes(GenerationRequest("lofi"), got) == expected
    assert changes(GenerationRequest(" lofi "), accepted("lofi")) == {}


def test_q30_a_rounded_duration_is_reported() -> None:
    instrumental = InstrumentalRequest("lofi", duration=100)
    assert changes(instrumental, accepted(duration=105.0)) == {"duration": (100, 105.0)}
    effect = SoundEffect(id="a", status="processing", requested_duration=2.5)
    asked = SoundEffectRequest("door", duration=2.3)
    assert changes(asked, effect) == {"duration": (2.3, 2.5)}
    assert changes(SoundEffectRequest("door", duration=2.5), effect) == {}


anything = st.none() | st.text(max_size=8) | st.integers() | st.floats()


@given(keyscale=st.none() | st.text(max_size=12), asked=anything, got=anything)
def test_any_pair_can_be_compared(keyscale: Any, asked: Any, got: Any) -> None:
    request = GenerationRequest("lofi", duration=asked, bpm=asked, key="C")
    track = accepted(duration=got, bpm=got, keyscale=keyscale)
    assert set(changes(request, track)) <= {"duration", "bpm", "keyscale"}
