"""Numbers of any type are accepted as numbers; a `bool` of any type is not."""

from __future__ import annotations

import enum
import json
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from finetuning_async import (
    AsyncClient,
    GenerationRequest,
    InstrumentalRequest,
    InvalidRequestError,
    RateLimit,
    SoundEffectRequest,
)
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "ft_live_" + 32 * "0"


class Tempo(enum.IntEnum):
    SLOW = 60


class Own:
    """An integer type of the caller's own."""

    def __index__(self) -> int:
        return 60


SIXTY: list[Any] = [
    60,
    60.0,
    *(kind(60) for kind in (np.int8, np.int64, np.uint16, np.float16, np.float32)),
    *(kind(60) for kind in (np.float64, np.longdouble, Decimal, Fraction)),
    np.array(60),
    Tempo.SLOW,
    Own(),
]
WHOLE = [value for value in SIXTY if hasattr(value, "__index__")]
NO_NUMBERS: list[Any] = [
    True,
    np.True_,
    np.array(True),
    "60",
    np.str_("60"),
    60j,
    np.complex64(60),
    np.array([60]),
    np.array([60, 61]),
    Decimal("sNaN"),
    Decimal("NaN"),
    np.float32("nan"),
    np.float64("inf"),
    object(),
]


def param_id(value: Any) -> str:
    """A test id without an address, so that it is the same in every process."""
    shown = repr(value)
    return type(value).__name__ + (f" {shown}" if "0x" not in shown else "")


@pytest.mark.parametrize("sixty", SIXTY, ids=param_id)
def test_a_number_of_any_type_is_checked_and_sent_with_its_value(
    sixty: Any,
) -> None:
    wishes: list[GenerationRequest | InstrumentalRequest] = [
        GenerationRequest("x", duration=sixty, bpm=sixty),
        InstrumentalRequest("x", duration=sixty),
    ]
    for wish in wishes:
        assert wish.problems() == []
        assert type(wish.duration) in (int, float)
        sent = json.loads(json.dumps(wish.to_body()))
        assert sent["duration"] == 60
        assert type(sent["duration"]) is int
    too_long = SoundEffectRequest("x", duration=sixty)
    assert [problem.field for problem in too_long.problems()] == ["duration"]


@pytest.mark.parametrize("sixty", WHOLE, ids=param_id)
def test_an_integer_of_any_type_is_accepted_as_seed_limit_and_max_retries(
    sixty: Any,
) -> None:
    wish = GenerationRequest("x", seed=sixty)
    assert (wish.problems(), wish.to_body()["seed"]) == ([], 60)
    assert RateLimit(sixty, per=sixty) == RateLimit(60, per=60.0)
    AsyncClient(KEY, max_retries=sixty)


BEATS: list[Any] = [np.int64(4), np.float32(4), Decimal(4), 4.0, 4, "4"]


@pytest.mark.parametrize("value", BEATS, ids=param_id)
def test_a_time_signature_of_any_type_is_sent_as_a_string(value: Any) -> None:
    wish = GenerationRequest("x", timesignature=value)
    assert (wish.problems(), wish.to_body()["timesignature"]) == ([], "4")


@pytest.mark.parametrize("field", ["duration", "bpm", "seed"])
def test_a_value_that_is_not_a_number_is_a_problem_of_its_field(field: str) -> None:
    for value in NO_NUMBERS:
        wish = GenerationRequest("x", **{field: value})
        assert [problem.field for problem in wish.problems()] == [field], value


@pytest.mark.parametrize(
    "take",
    [
        lambda value: AsyncClient(KEY, request_timeout=value),
        lambda value: AsyncClient(KEY, max_retry_wait=value),
        lambda value: RateLimit(10, per=value),
    ],
    ids=["request_timeout", "max_retry_wait", "per"],
)
def test_seconds_of_any_number_type_are_accepted_and_other_values_rejected(
    take: Callable[[Any], object],
) -> None:
    for sixty in SIXTY:
        take(sixty)
    for value in NO_NUMBERS:
        if str(value) != "inf":
            with pytest.raises(InvalidRequestError):
                take(value)


async def test_numpy_numbers_work_in_a_complete_call() -> None:
    seconds: Any = np.float32(100)
    whole: Any = np.int64(60)
    async with emulated(Emulator(generation_time=(3, 3))) as (emulator, client):
        track = await client.generate(
            "x",
            duration=seconds,
            bpm=whole,
            seed=whole,
            timeout=seconds,
            wait_timeout=whole,
            max_retries=whole,
        )
        assert (track.parameters.duration, track.parameters.seed) == (100, 60)
        assert track.changed_by_service == {}
        await client.wait_for_completion(track, timeout=seconds)
        assert len(await client.generations.list(limit=whole, offset=np.int8(0))) == 1  # type: ignore[arg-type]  # a checker wants an int
        assert emulator.count(status=400) == 0
