"""Every error: its place in the tree, its pickle, and the secrets it must not show."""

from __future__ import annotations

import datetime as dt
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async import _errors
from finetuning_async._api._models import Generation
from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    FinetuningError,
    GenerationFailedError,
    InvalidRequestError,
    QueueFullError,
    RateLimitError,
    SubmissionUnknownError,
    WaitTimeoutError,
)

CLASSES = [
    value
    for value in vars(_errors).values()
    if isinstance(value, type) and issubclass(value, FinetuningError)
]
CANARY = "s3cr3t-canary"
TRACK = Generation(
    id="gen_1",
    status="failed",
    error_message="renderer ran out of time",
    webhook=f"https://me.example/hook?token={CANARY}",
    raw={"webhook": f"https://me.example/hook?token={CANARY}"},
)


def example(cls: type[FinetuningError]) -> FinetuningError:
    """An error of the class with all its attributes set."""
    common: dict[str, Any] = {"request_id": "req_1"}
    if issubclass(cls, InvalidRequestError):
        return cls("bpm", 300, "a number from 60 to 200")
    if cls is APIResponseError:
        common |= {"path": "$.data.id", "status_code": 200, "generation_id": "gen_1"}
    elif issubclass(cls, APIStatusError):
        common |= {"status_code": 429, "code": "RATE_LIMITED", "retry_after": 17.0}
        common |= {"details": [{"trackId": "a"}], "safe_to_retry": True}
    elif cls is SubmissionUnknownError:
        sent_at = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
        common |= {"prompt": "lofi", "seed": 7, "sent_at": sent_at}
        common |= {"candidates": ["gen_1", "gen_2"]}
    elif cls is GenerationFailedError:
        return GenerationFailedError("the track failed", generation=TRACK)
    elif cls is WaitTimeoutError:
        common = {"generation_id": "gen_1", "generation": TRACK, "safe_to_retry": True}
    else:
        common |= {"generation_id": "gen_1", "code": "X", "retry_after": 1.5}
    return cls("it went wrong", **common)


def unpickled(error: FinetuningError) -> FinetuningError:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert isinstance(again, FinetuningError)
    return again


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_unpickles_equal(cls: type[FinetuningError]) -> None:
    error = example(cls)
    again = unpickled(error)
    assert type(again) is cls
    assert again == error
    assert hash(again) == hash(error)
    assert (str(again), repr(again)) == (str(error), repr(error))
    for name in ("generation_id", "request_id", "code", "retry_after", "safe_to_retry"):
        assert getattr(again, name) == getattr(error, name)


def test_notes_survive_a_pickle_and_causes_do_not() -> None:
    error = FinetuningError("it went wrong")
    error.add_note("after three attempts")
    error.__cause__ = ValueError("x")
    again = unpickled(error)
    assert again.__notes__ == ["after three attempts"]
    assert again.__cause__ is None


def test_errors_with_different_contents_are_not_equal() -> None:
    assert FinetuningError("a") != FinetuningError("b")
    assert FinetuningError("a") != FinetuningError("a", code="X")
    assert FinetuningError("a") != APIConnectionError("a")


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (InvalidRequestError, ValueError),
        (APITimeoutError, TimeoutError),
        (APITimeoutError, APIConnectionError),
        (WaitTimeoutError, TimeoutError),
        (QueueFullError, RateLimitError),
        (AuthenticationError, APIStatusError),
    ],
)
def test_errors_are_caught_by_their_builtin_bases(
    cls: type[FinetuningError], base: type[Exception]
) -> None:
    assert isinstance(example(cls), base)


def test_the_tree_in_the_first_lines_names_every_class() -> None:
    drawn = re.findall(r"\w+Error\b", (_errors.__doc__ or "").split("Every error")[0])
    assert {cls.__name__ for cls in CLASSES} <= set(drawn)


def test_an_invalid_request_names_field_value_and_range() -> None:
    error = InvalidRequestError("bpm", 300, "a number from 60 to 200")
    assert str(error) == "bpm must be a number from 60 to 200, got 300"
    assert (error.field, error.value) == ("bpm", 300)


def test_advice_in_an_invalid_request_follows_the_value() -> None:
    error = InvalidRequestError(
        "tags", "rain", "a string of at most 3 characters; it has 4"
    )
    assert (
        str(error)
        == "tags must be a string of at most 3 characters, got 'rain'; it has 4"
    )


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError


ODD_VALUES = [math.nan, math.inf, [1], {"a": 1}, Hostile(), 10**5000, "x" * 10_000, len]


@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
def test_an_error_about_any_value_is_short_and_can_be_pickled(value: object) -> None:
    error = InvalidRequestError("duration", value, "a number")
    assert len(str(error)) < 200
    assert unpickled(error) == error


def test_a_hidden_value_is_neither_shown_nor_kept() -> None:
    error = InvalidRequestError.hidden("webhook", "a URL that begins with https://")
    assert str(error) == "webhook must be a URL that begins with https://"
    assert error.value is None
    assert unpickled(error) == error


@pytest.mark.parametrize("cls", [GenerationFailedError, WaitTimeoutError])
def test_an_error_about_a_track_does_not_show_its_webhooks_secret(
    cls: type[FinetuningError],
) -> None:
    error = example(cls)
    assert CANARY not in repr(error) + str(error) + repr(vars(error))
    assert CANARY.encode() not in pickle.dumps(error)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("AuthenticationError", "Profile > API"),
        ("InsufficientCreditsError", "monthly reset"),
        ("PermissionDeniedError", "Pro and Lifetime"),
        ("RateLimitError", "retry in 17 s"),
        ("QueueFullError", "one of the tracks in progress ends"),
    ],
)
def test_a_status_error_says_what_to_do(name: str, advice: str) -> None:
    error = example(getattr(_errors, name))
    assert advice in str(error)
    assert error.message == "it went wrong"


@given(
    message=st.text(),
    code=st.none() | st.text(),
    retry_after=st.none() | st.floats(0, 1e9),
    details=st.none() | st.dictionaries(st.text(), st.integers()),
)
def test_any_status_error_unpickles_equal(
    message: str, code: str | None, retry_after: float | None, details: Any
) -> None:
    error = RateLimitError(
        message, status_code=429, code=code, retry_after=retry_after, details=details
    )
    assert unpickled(error) == error
