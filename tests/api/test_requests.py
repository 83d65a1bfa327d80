"""Requests: the documented ranges, rejected values, and the JSON that is sent."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from finetuning_async._api._requests import (
    AnyRequest,
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
    as_request,
)
from finetuning_async._errors import InvalidRequestError

CANARY = "s3cr3t-canary"
MUSIC, INSTRUMENTAL, EFFECT = GenerationRequest, InstrumentalRequest, SoundEffectRequest
LANGUAGES = ["en", "ja", "de", "fr", "es", "zh", "ko", "pt", "it", "ru"]
KEYS = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
LONGEST_HOOK = "https://me.example/" + "x" * (2048 - 19)

VALID: list[tuple[Any, str, list[Any]]] = [
    (MUSIC, "tags", ["x", "x" * 700, "é" * 700]),
    (MUSIC, "lyrics", [None, "", "x" * 2000]),
    (MUSIC, "duration", [None, 5, 210, 5.0, 74.5]),
    (MUSIC, "bpm", [None, 60, 200, 92.5]),
    (MUSIC, "language", [None, *LANGUAGES]),
    (MUSIC, "key", [None, *KEYS, *FLATS]),
    (MUSIC, "scale", [None, "major", "minor"]),
    (MUSIC, "timesignature", [None, 2, 7, "2", "7", 4.0]),
    (MUSIC, "seed", [None, 0, 1, 2**31 - 1, 41.0]),
    (MUSIC, "webhook", [None, "https://me.example/h?token=x", LONGEST_HOOK]),
    (MUSIC, "webhook", ["https://8.8.8.8:8443/", "https://[2606:4700::1111]/h"]),
    (MUSIC, "webhook", ["https://münchen.example/", "https://u:p@me.example./"]),
    (MUSIC, "webhook", [f"https://{'a.' * 126}a/"]),  # a host of 253 characters
    (INSTRUMENTAL, "prompt", ["x", "x" * 701]),
    (INSTRUMENTAL, "duration", [None, 30, 210, 100, 45.0]),
    (INSTRUMENTAL, "enhance", [True, False]),
    (INSTRUMENTAL, "seed", [None, 0, 2**31 - 1]),
    (EFFECT, "prompt", ["x", "x" * 701]),
    (EFFECT, "duration", [None, 1, 8, 2.5, 3.3]),
    (EFFECT, "enhance", [True, False]),
]
ODD_VALUES: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    [],
    {},
    object(),
    b"4",
    10**400,
]
INVALID: list[tuple[Any, str, list[Any]]] = [
    (MUSIC, "tags", [None, "", " \n", "x" * 701, "\ud800", *ODD_VALUES]),
    (MUSIC, "lyrics", ["x" * 2001, "\udfff", *ODD_VALUES]),
    (MUSIC, "duration", [4, 4.99, 210.01, 211, "60", -60, *ODD_VALUES]),
    (MUSIC, "bpm", [59, 59.9, 201, "120", *ODD_VALUES]),
    (MUSIC, "language", ["EN", "xx", "", "en ", *ODD_VALUES]),
    (MUSIC, "key", ["c", "H", "Cb", "C minor", "", *ODD_VALUES]),
    (MUSIC, "scale", ["Minor", "dorian", "", *ODD_VALUES]),
    (MUSIC, "timesignature", [1, 8, "1", "8", "4/4", "04", " 4", 4.5, "", *ODD_VALUES]),
    (MUSIC, "seed", [-1, 2**31, 1.5, "7", *ODD_VALUES]),
    (MUSIC, "webhook", ["http://me.example/", "me.example/h", "", "ftp://me.example/"]),
    (
        MUSIC,
        "webhook",
        ["https://", "https:///h", "https://me..example/", LONGEST_HOOK + "x"],
    ),
    (
        MUSIC,
        "webhook",
        ["https://me.example:99999/", "https://[::1/", "https://-me.example/"],
    ),
    (MUSIC, "webhook", [f"https://{'a.' * 126}aa/"]),  # a host of 254 characters
    (
        MUSIC,
        "webhook",
        ["https://localhost/", "https://a.localhost./", "https://127.0.0.1/"],
    ),
    (MUSIC, "webhook", ["https://10.0.0.1/", "https://[::1]/", "https://192.168.1.1/"]),
    (
        MUSIC,
        "webhook",
        ["https://me.example/a b", "https://me.example/\n", "https://me\\x/"],
    ),
    (MUSIC, "webhook", ODD_VALUES),
    (INSTRUMENTAL, "prompt", [None, "", " ", *ODD_VALUES]),
    (INSTRUMENTAL, "duration", [29, 211, 45.5, "60", *ODD_VALUES]),
    (INSTRUMENTAL, "enhance", [None, 1, "true"]),
    (INSTRUMENTAL, "seed", [-1, 2**31]),
    (EFFECT, "prompt", [None, "", *ODD_VALUES]),
    (EFFECT, "duration", [0.99, 8.01, "2", *ODD_VALUES]),
    (EFFECT, "enhance", [None, 0, "false"]),
    (EFFECT, "webhook", ["http://me.example/"]),
    (MUSIC, "idempotency_key", ["", "k" * 256, "a\0b", "\ud800", 7]),
    (MUSIC, "priority", ["urgent", "", 1, []]),
    (MUSIC, "share", ["", "s" * 256, 7]),
]


def build(cls: Any, field: str, value: Any) -> AnyRequest:
    words = "tags" if cls is MUSIC else "prompt"
    request: AnyRequest = cls(**({words: "lofi"} | {field: value}))
    return request


@pytest.mark.parametrize(("cls", "field", "values"), VALID)
def test_documented_values_are_valid_and_sent(
    cls: Any, field: str, values: list[Any]
) -> None:
    for value in values:
        request = build(cls, field, value)
        request.validate()
        body = request.to_body()
        assert json.loads(json.dumps(body, allow_nan=False)) == body
        assert (field in body) is (value is not None)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("idempotency_key", [None, "k", "k" * 255]),
        ("priority", [None, "high", "normal", "low"]),
        ("share", [None, "s", "s" * 255]),
    ],
)
def test_what_is_not_about_the_track_is_valid_and_not_sent(
    field: str, values: list[Any]
) -> None:
    for value in values:
        request = build(MUSIC, field, value)
        request.validate()
        assert request.to_body() == MUSIC("lofi").to_body()


@pytest.mark.parametrize(("cls", "field", "values"), INVALID)
def test_undocumented_values_are_rejected_and_the_field_is_named(
    cls: Any, field: str, values: list[Any]
) -> None:
    for value in values:
        request = build(cls, field, value)
        with pytest.raises(InvalidRequestError, match=f"^{field} must be ") as caught:
            request.validate()
        assert caught.value.field == field
        assert caught.value.allowed
        assert request.problems() == [caught.value]
        assert isinstance(hash(caught.value), int)


@pytest.mark.parametrize(
    ("made", "range_"),
    [
        (MUSIC("x" * 701), "at most 700 characters, got .*; it has 701"),
        (MUSIC(" "), "a non-blank string of 1 to 700 characters"),
        (
            MUSIC("lofi", lyrics="x" * 2001),
            "at most 2000 characters, got .*; it has 2001",
        ),
        (
            MUSIC("lofi", duration=300),
            "duration must be .* from 5 to 210 seconds, got 300",
        ),
        (MUSIC("lofi", bpm=300), "bpm .* from 60 to 200 beats per minute, got 300"),
        (
            MUSIC("lofi", language="xx"),
            "one of en, ja, de, fr, es, zh, ko, pt, it or ru, got 'xx'",
        ),
        (MUSIC("lofi", timesignature="9"), "from 2 to 7 beats per bar"),
        (MUSIC("lofi", seed=-1), r"a whole number from 0 to 2147483647"),
        (INSTRUMENTAL("x", duration=10), "a whole number from 30 to 210 seconds"),
        (EFFECT("x", duration=9), "a number from 1 to 8 seconds"),
    ],
)
def test_the_error_names_the_value_and_the_range(made: AnyRequest, range_: str) -> None:
    with pytest.raises(InvalidRequestError, match=range_):
        made.validate()


def test_all_problems_are_listed_in_the_order_of_the_fields() -> None:
    request = MUSIC("", duration=1, bpm=1, scale="x", seed=-1, webhook="x")
    fields = [problem.field for problem in request.problems()]
    assert fields == ["tags", "duration", "bpm", "scale", "seed", "webhook"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/h",
        "http://localhost/h",
        "https://localhost/h",
        "http://[::1]:9/h",
    ],
)
def test_a_webhook_on_this_machine_is_allowed_with_an_emulator_only(url: str) -> None:
    request = MUSIC("lofi", webhook=url)
    request.validate(allow_http_webhook=True)
    with pytest.raises(InvalidRequestError):
        request.validate()


@pytest.mark.parametrize(
    "url", ["http://me.example", "https://me.example:x", "https://a b", "//h"]
)
def test_the_query_of_a_webhook_is_in_no_error_and_no_repr(url: str) -> None:
    request = MUSIC("lofi", webhook=f"{url}/?token={CANARY}")
    with pytest.raises(InvalidRequestError) as caught:
        request.validate()
    shown = repr(caught.value) + str(caught.value) + repr(vars(caught.value))
    assert CANARY not in shown + repr(request)


def test_only_the_parameters_that_were_set_are_sent() -> None:
    assert MUSIC("lofi").to_body() == {"tags": "lofi"}
    assert INSTRUMENTAL("lofi").to_body() == {"prompt": "lofi", "enhance": True}
    assert EFFECT("door").to_body() == {"prompt": "door", "enhance": True}


def test_all_parameters_that_were_set_are_sent() -> None:
    full = {
        "tags": "lofi",
        "lyrics": "la la",
        "duration": 120,
        "bpm": 85,
        "language": "en",
        "key": "C",
        "scale": "minor",
        "timesignature": "4",
        "seed": 5,
        "webhook": f"https://me.example/h?token={CANARY}",
    }
    request = MUSIC(**full)  # type: ignore[arg-type]  # a plain dict of all fields
    assert request.to_body() == full


@pytest.mark.parametrize("value", [3, "3", 3.0], ids=["int", "str", "float"])
def test_q1_a_time_signature_is_sent_as_a_string(value: Any) -> None:
    assert MUSIC("lofi", timesignature=value).to_body()["timesignature"] == "3"


@pytest.mark.parametrize(("flat", "sharp"), FLATS.items())
def test_flats_are_sent_as_sharps(flat: str, sharp: str) -> None:
    assert MUSIC("lofi", key=flat).to_body()["key"] == sharp


def test_q5_the_current_ranges_apply_and_not_the_old_ones() -> None:
    MUSIC("x" * 501, duration=5).validate()
    MUSIC("lofi", duration=181).validate()


def test_q24_the_free_tiers_limit_is_not_enforced_here() -> None:
    MUSIC("lofi", duration=121).validate()
    INSTRUMENTAL("lofi", duration=121).validate()


def test_q27_a_seed_of_zero_is_sent_and_not_replaced() -> None:
    assert MUSIC("lofi", seed=0).to_body(seed=9)["seed"] == 0


def test_to_body_adds_a_seed_to_requests_that_have_one() -> None:
    assert MUSIC("lofi").to_body(seed=9)["seed"] == 9
    assert INSTRUMENTAL("lofi").to_body(seed=9)["seed"] == 9
    assert "seed" not in EFFECT("door").to_body(seed=9)


@pytest.mark.parametrize("enhance", [True, False])
def test_q29_enhance_is_always_sent(enhance: bool) -> None:
    assert INSTRUMENTAL("lofi", enhance=enhance).to_body()["enhance"] is enhance
    assert EFFECT("door", enhance=enhance).to_body()["enhance"] is enhance


def test_q30_durations_are_not_rounded_here() -> None:
    assert INSTRUMENTAL("lofi", duration=100).to_body()["duration"] == 100
    assert EFFECT("door", duration=2.3).to_body()["duration"] == 2.3


def test_q31_every_request_has_a_prompt() -> None:
    requests: list[AnyRequest] = [MUSIC("a"), INSTRUMENTAL("b"), EFFECT("c")]
    assert [request.prompt for request in requests] == ["a", "b", "c"]
    kinds = [request.kind for request in requests]
    assert kinds == ["music", "instrumental", "sound_effect"]


def test_whole_numbers_are_written_without_a_fraction() -> None:
    body = MUSIC("lofi", duration=120.0, bpm=85.0).to_body()
    assert json.dumps(body) == '{"tags": "lofi", "duration": 120, "bpm": 85}'


@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
def test_a_value_that_json_cannot_hold_is_never_sent(value: Any) -> None:
    request = MUSIC("lofi", duration=value)
    if value is True:
        assert request.to_body()["duration"] is True
    else:
        with pytest.raises(InvalidRequestError, match="JSON has no other"):
            request.to_body()


def test_a_webhook_that_json_cannot_hold_is_not_shown() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        MUSIC("lofi", webhook=f"{CANARY}\ud800").to_body()
    assert CANARY not in repr(caught.value)


def test_requests_are_hashable_and_a_pickle_keeps_the_webhook() -> None:
    request = MUSIC("lofi", seed=3, webhook=f"https://me.example/?token={CANARY}")
    back = pickle.loads(pickle.dumps(request))  # noqa: S301 - our own bytes
    assert back == request
    assert hash(back) == hash(request)
    assert back.webhook == request.webhook


OPTIONAL = [field.name for field in attrs.fields(MUSIC) if field.name != "tags"]
anything: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.binary(),
)


@given(st.data())
def test_any_values_are_either_valid_json_or_an_invalid_request(data: Any) -> None:
    request = MUSIC(data.draw(anything), **{n: data.draw(anything) for n in OPTIONAL})
    problems = request.problems()
    assert all(type(problem) is InvalidRequestError for problem in problems)
    if not problems:
        json.dumps(request.to_body(), allow_nan=False)


@given(
    tags=st.text(min_size=1, max_size=700).filter(str.strip),
    lyrics=st.none() | st.text(max_size=2000),
    duration=st.none() | st.floats(5, 210) | st.integers(5, 210),
    bpm=st.none() | st.integers(60, 200),
    language=st.none() | st.sampled_from(LANGUAGES),
    key=st.none() | st.sampled_from([*KEYS, *FLATS]),
    timesignature=st.none() | st.integers(2, 7) | st.sampled_from("234567"),
    seed=st.none() | st.integers(0, 2**31 - 1),
    filled=st.integers(1, 2**31 - 1),
)
def test_the_body_of_a_valid_request_is_json_within_the_ranges(
    filled: int, **values: Any
) -> None:
    try:
        values["tags"].encode()
        (values["lyrics"] or "").encode()
    except UnicodeEncodeError:
        assert MUSIC(**values).problems()
        return
    request = MUSIC(**values)
    request.validate()
    body = json.loads(json.dumps(request.to_body(seed=filled), allow_nan=False))
    assert 1 <= len(body["tags"]) <= 700
    assert 5 <= body.get("duration", 5) <= 210
    assert body.get("timesignature", "4") in tuple("234567")
    assert body.get("key", "C") in KEYS
    assert 0 <= body["seed"] <= 2**31 - 1


@pytest.mark.parametrize(
    ("given", "request_"),
    [
        ("rain", MUSIC("rain")),
        ({"prompt": "rain"}, MUSIC("rain")),
        ({"tags": "rain", "bpm": 90}, MUSIC("rain", bpm=90)),
        ({"type": "instrumental", "prompt": "rain"}, INSTRUMENTAL("rain")),
        ({"kind": "sound_effect", "prompt": "rain"}, EFFECT("rain")),
        (
            {"type": "instrumental", "kind": None, "prompt": "rain"},
            INSTRUMENTAL("rain"),
        ),
        (
            {"type": "instrumental", "kind": "instrumental", "prompt": "rain"},
            INSTRUMENTAL("rain"),
        ),
        (EFFECT("rain"), EFFECT("rain")),
    ],
)
def test_a_prompt_or_a_mapping_makes_a_request(given: Any, request_: Any) -> None:
    assert as_request(given) == request_


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (7, "objects, prompts, or mappings"),
        ({"type": "song", "prompt": "x"}, "one of music"),
        ({"kind": 7, "prompt": "x"}, "one of music"),
        ({"type": "music", "kind": "sound_effect", "prompt": "x"}, "the same"),
        ({"prompt": "x", "tempo": 90, "bpm": 90}, r"got \['tempo'\]"),
        ({"prompt": "x", "tags": "y"}, r"got \['prompt'\]"),
    ],
)
def test_what_makes_no_request_is_refused_with_its_names(
    given: Any, words: str
) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        as_request(given)
