"""Parsing: any input gives a model or an `APIResponseError`, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from finetuning_async._api import _parsing as parse
from finetuning_async._api._messages import Response
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


def response_of(content: Any, status: int = 200) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(
        status=status, headers={}, content=body, sent_at=0.0, received_at=0.1
    )


def example(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_bytes())


def check_path(error: APIResponseError) -> None:
    assert error.path.startswith("$")


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
FIELDS = """data id status type generations soundEffects playlists tracks deleted errors
error code parameters limits details duration createdAt nextOffset hasMore"""
any_json = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS.split()) | st.text(max_size=3), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("parser", PARSERS)
@given(value=any_json, status=st.sampled_from([200, 202]))
def test_any_json_is_parsed_or_is_an_api_response_error(
    parser: str, value: Any, status: int
) -> None:
    try:
        PARSERS[parser](response_of(value, status))
    except APIResponseError as error:
        check_path(error)


@pytest.mark.parametrize("parser", PARSERS)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_parsed_or_are_an_api_response_error(
    parser: str, content: bytes
) -> None:
    try:
        PARSERS[parser](response_of(content))
    except APIResponseError as error:
        check_path(error)


@given(value=any_json)
def test_any_webhook_payload_is_parsed_or_is_an_api_response_error(value: Any) -> None:
    try:
        parse.webhook_payload(value)
    except APIResponseError as error:
        check_path(error)


@given(data=st.data(), value=any_json)
def test_one_malformed_field_does_not_affect_the_others(data: Any, value: Any) -> None:
    row = dict(example("generation_completed")["data"])
    field = data.draw(st.sampled_from(sorted(set(row) - {"id"})))
    made = parse.generation(response_of({"data": row | {field: value}}))
    assert made.id == row["id"]
    if field != "audioUrl":
        assert made.audio_url == row["audioUrl"]


@given(value=any_json, status=st.integers(100, 599))
def test_any_bulk_response_is_a_result_or_an_api_error(value: Any, status: int) -> None:
    try:
        parse.bulk_result(response_of(value, status), "added", ids=["a"])
    except (APIResponseError, APIStatusError):
        return
