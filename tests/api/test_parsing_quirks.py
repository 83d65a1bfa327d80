"""Parsing: both published forms of each quirk, and undocumented forms."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async._api import _parsing as parse
from finetuning_async._api._messages import Response
from finetuning_async._api._models import (
    BulkFailure,
    BulkResult,
    Generation,
    GenerationParameters,
    SoundEffect,
)
from finetuning_async._errors import APIResponseError, APIStatusError

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[1] / "api_examples"
PARSERS: dict[str, Callable[[Response], Any]] = {
    "generation": parse.generation,
    "generations": parse.generation_page,
    "sound_effect": parse.sound_effect,
    "sound_effects": parse.sound_effect_page,
    "account": parse.account,
    "health": parse.health,
    "playlists": parse.playlists,
    "playlist": parse.playlist,
    "deleted": lambda response: parse.bulk_result(response, "deleted"),
    "added": lambda response: parse.bulk_result(response, "added", ids=["a"]),
}


def response_of(content: Any, status: int = 200, **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(
        status=status, headers=names, content=body, sent_at=0.0, received_at=0.1
    )


def example(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_bytes())


def wrapped(**members: Any) -> Response:
    return response_of({"data": {"id": "gen_1", "status": "processing", **members}})


@pytest.mark.parametrize("empty", [{}, {"errors": None}, {"errors": []}])
def test_q10_absent_null_and_empty_errors_are_the_same(empty: dict[str, Any]) -> None:
    made = parse.bulk_result(
        response_of({"data": {"deleted": ["a"], **empty}}), "deleted"
    )
    assert made == BulkResult(succeeded=("a",))


@pytest.mark.parametrize("name", ["id", "trackId"])
def test_q11_a_failed_item_has_its_id_under_either_key(name: str) -> None:
    data = {"added": [], "errors": [{name: "a", "error": "Track not found"}]}
    made = parse.bulk_result(response_of({"data": data}), "added")
    assert made.failed == (BulkFailure(id="a", error="Track not found"),)


def test_q13_a_total_failure_without_details_fails_every_id_sent() -> None:
    body = {"error": {"code": "ADD_FAILED", "message": "Playlist not found"}}
    made = parse.bulk_result(response_of(body, 400), "added", ids=["a", "b"])
    assert [failure.id for failure in made.failed] == ["a", "b"]
    assert {failure.error for failure in made.failed} == {"Playlist not found"}


def test_q13_another_400_is_raised() -> None:
    with pytest.raises(APIStatusError, match="too many"):
        parse.bulk_result(
            response_of(example("error_validation_details_object"), 400), "x"
        )


@pytest.mark.parametrize(
    ("value", "read"),
    [(4, 4), ("4", 4), (4.0, 4), (" 4 ", 4), ("4/4", None), (True, None), (4.5, None)],
    ids=["int", "str", "float", "padded", "fraction", "bool", "half"],
)
def test_q1_a_time_signature_is_a_number(value: Any, read: int | None) -> None:
    made = parse.generation(wrapped(parameters={"timesignature": value}))
    assert made.parameters.timesignature == read
    assert made.raw["parameters"]["timesignature"] == value


@pytest.mark.parametrize("ident", ["gen_7qk2m9", "5e0c7b1a-93d4", "trk_1", "é b/c"])
def test_q2_ids_are_opaque(ident: str) -> None:
    assert parse.generation(wrapped(id=ident)).id == ident


def test_q2_a_number_as_an_id_becomes_a_string() -> None:
    assert parse.generation(wrapped(id=17)).id == "17"


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-03-02T18:05:00Z", 0),
        ("2026-03-02T18:05:00.118Z", 118_000),
        ("2026-03-02 18:05:00", 0),
        ("2026-03-02T19:05:00+01:00", 0),
    ],
)
def test_q3_times_are_aware_and_in_utc(text: str, micros: int) -> None:
    made = parse.generation(wrapped(createdAt=text, completedAt=text))
    expected = dt.datetime(2026, 3, 2, 18, 5, 0, micros, tzinfo=dt.UTC)
    assert made.created_at == made.completed_at == expected
    assert made.created_at is not None
    assert made.created_at.utcoffset() == dt.timedelta(0)
    assert made.raw["createdAt"] == text


@pytest.mark.parametrize(
    "text", ["", "soon", 17, None, "0001-01-01T00:00:00+23:59", []]
)
def test_q3_an_unreadable_time_is_none_and_stays_in_raw(text: Any) -> None:
    made = parse.generation(wrapped(createdAt=text))
    assert made.created_at is None
    assert made.raw["createdAt"] == text


@pytest.mark.parametrize("status", [200, 201, 202])
def test_q4_any_2xx_accepts_a_create(status: int) -> None:
    body = example("generation_created")
    assert parse.generation(response_of(body, status)).id == "gen_7qk2m9"
    assert parse.accepted_id(response_of(body, status)) == "gen_7qk2m9"


@pytest.mark.parametrize("value", [60, 60.0, "60"], ids=["int", "float", "str"])
def test_q7_a_duration_is_a_float(value: Any) -> None:
    made = parse.generation(wrapped(duration=value, parameters={"duration": value}))
    assert (made.duration, made.parameters.duration) == (60.0, 60.0)
    assert type(made.duration) is type(made.parameters.duration) is float


@pytest.mark.parametrize("path", ["/audio/5e0c.mp3", "/7qk2m9.mp3"])
def test_q8_an_audio_url_is_kept_as_received(path: str) -> None:
    url = f"https://media.finetuning.ai{path}"
    assert parse.generation(wrapped(audioUrl=url)).audio_url == url


def test_q9_the_envelope_is_optional() -> None:
    data = example("generation_completed")["data"]
    bare = parse.generation(response_of(data))
    assert bare == parse.generation(response_of({"data": data}))
    assert parse.webhook_payload({"data": data}) == parse.webhook_payload(data) == bare
    assert parse.health(response_of({"data": {"status": "ok"}})).status == "ok"


@pytest.mark.parametrize("absent", [{}, {"webhook": None, "errorMessage": None}])
def test_q16_q17_q22_q23_absent_and_null_are_none(absent: dict[str, Any]) -> None:
    made = parse.generation(wrapped(**absent))
    assert (made.webhook, made.error_message, made.file_size) == (None, None, None)
    assert made.parameters == GenerationParameters()
    assert (made.kind, made.prompt, made.title) == ("music", "", None)


@pytest.mark.parametrize("value", [1, 5])
def test_q21_the_queue_depth_is_kept_as_received(value: int) -> None:
    body = {"data": {"id": "u", "limits": {"queueDepth": value}}}
    assert parse.account(response_of(body)).queue_depth == value


@pytest.mark.parametrize("value", [21, 21.0, "21"], ids=["int", "float", "str"])
def test_q34_the_generation_time_is_a_float(value: Any) -> None:
    made = parse.generation(wrapped(generationTime=value))
    assert made.generation_time == 21.0
    assert type(made.generation_time) is float


def test_the_kind_comes_from_the_response_or_else_from_the_request() -> None:
    asked = parse.generation(wrapped(), kind="instrumental")
    given = parse.generation(wrapped(type="music"), kind="instrumental")
    assert (asked.kind, given.kind) == ("instrumental", "music")
    assert parse.generation(wrapped(type="podcast")).kind == "podcast"


@pytest.mark.parametrize(
    ("said", "status", "final"),
    [
        ("COMPLETED", "completed", True),
        (" Failed ", "failed", True),
        ("succeeded", "succeeded", False),
        ("Cancelled", "Cancelled", False),
        (None, "unknown", False),
        (7, "unknown", False),
    ],
)
def test_an_unknown_status_is_kept_and_counts_as_in_progress(
    said: Any, status: str, final: bool
) -> None:
    made = parse.generation(wrapped(status=said))
    assert (made.status, made.is_final) == (status, final)


def test_values_that_are_not_numbers_are_none() -> None:
    content = b'{"data":{"id":"a","duration":NaN,"fileSize":1e999,"generationTime":-1,'
    content += b'"creditsRemaining":true,"parameters":{"seed":"x","bpm":-Infinity}}}'
    made = parse.generation(response_of(content))
    assert made == Generation(id="a", status="unknown")
    assert (made.raw["duration"], made.raw["creditsRemaining"]) == (None, True)


@pytest.mark.parametrize(
    ("data", "more", "following"),
    [
        ({"hasMore": True, "nextOffset": 30}, True, 30),
        ({"hasMore": True, "nextOffset": 20}, True, 22),
        ({"hasMore": True, "nextOffset": None}, True, 22),
        ({"hasMore": True}, True, 22),
        ({"hasMore": False, "nextOffset": 22}, False, 22),
        ({"hasMore": "yes"}, False, 22),
        ({}, False, 22),
    ],
)
def test_a_page_always_has_the_offset_of_the_next(
    data: dict[str, Any], more: bool, following: int
) -> None:
    rows = [{"id": "a"}, {"id": "b"}]
    page = parse.generation_page(
        response_of({"data": {"generations": rows, **data}}), offset=20
    )
    assert (page.has_more, page.next_offset) == (more, following)


def test_an_empty_page_ends_a_list() -> None:
    data = {"generations": [], "hasMore": True, "nextOffset": 40}
    assert (
        parse.generation_page(response_of({"data": data}), offset=20).has_more is False
    )


def test_the_webhook_of_a_sound_effect_is_recognized() -> None:
    made = parse.webhook_payload(example("sound_effect_completed")["data"])
    assert isinstance(made, SoundEffect)
    assert made.duration == 2.48


@pytest.mark.parametrize(
    "fields", [{}, {"requestedDuration": 3, "parameters": {"seed": 7}}]
)
def test_any_other_webhook_is_of_a_track(fields: dict[str, Any]) -> None:
    assert isinstance(parse.webhook_payload({"id": "x", **fields}), Generation)


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (7, "7"), ("a b", "a b"), (-1, ""), (1.0, "")]
)
def test_q2_an_id_is_a_text_or_a_whole_number(value: Any, shown: str) -> None:
    failed = {"errors": [{"id": value, "error": "no"}]}
    made = parse.bulk_result(response_of({"data": failed}), "deleted")
    assert [failure.id for failure in made.failed] == [shown]


@pytest.mark.parametrize(
    ("parser", "body", "path"),
    [
        ("generation", b"<!doctype html><title>502</title>", "$"),
        ("generation", b"", "$"),
        ("generation", b"\xff\xfe", "$"),
        ("generation", b"[" * 100_000, "$"),
        ("generation", b'{"data":{"id":' + b"9" * 5000 + b"}}", "$"),
        ("generation", b"null", "$"),
        ("generation", b'{"data":null}', "$.data"),
        ("generation", b'{"data":{}}', "$.data.id"),
        ("generation", b'{"data":{"id":" "}}', "$.data.id"),
        ("generation", b'{"data":{"id":"\\ud800"}}', "$.data.id"),
        ("generation", b'{"data":{"id":true}}', "$.data.id"),
        ("generations", b'{"data":{}}', "$.data.generations"),
        ("generations", b'{"generations":[{"id":"a"},{}]}', "$.generations[1].id"),
        ("generations", b'{"data":{"generations":[1]}}', "$.data.generations[0]"),
        ("playlist", b'{"data":{"id":"a","tracks":[{}]}}', "$.data.tracks[0].id"),
        ("deleted", b'{"data":{}}', "$.data.deleted"),
        ("health", b"[]", "$"),
    ],
    ids=range(17),
)
def test_a_parse_error_has_the_json_path(parser: str, body: bytes, path: str) -> None:
    with pytest.raises(APIResponseError) as caught:
        PARSERS[parser](response_of(body, 200, x_request_id="req_1"))
    error = caught.value
    assert (error.path, error.status_code, error.request_id) == (path, 200, "req_1")
    assert path in str(error)
    assert "HTTP 200" in str(error)


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse.generation(response_of(b'\xef\xbb\xbf{"id":"a"}')).id == "a"
