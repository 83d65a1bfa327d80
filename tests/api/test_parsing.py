"""Parsing: every published example is parsed completely.

What a parser does with a value is compared with what this file reads out of the example
by itself, field by field.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest

from finetuning_async._api import _parsing as parse
from finetuning_async._api._messages import Response
from finetuning_async._api._models import BulkFailure, Generation
from finetuning_async._errors import APIResponseError

EXAMPLES = Path(__file__).parents[1] / "api_examples"
TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ")
ELSEWHERE = {"type": "kind"}
ONLY_RAW = {"isPublic", "playCount", "downloadCount", "likeCount"}


def response_of(content: Any, status: int = 200) -> Response:
    body = json.dumps(content).encode()
    return Response(
        status=status, headers={}, content=body, sent_at=0.0, received_at=0.1
    )


def example(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_bytes())


def read_time(text: str) -> dt.datetime:
    for form in TIMES:
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    raise AssertionError(text)


def compare(model: Any, row: dict[str, Any], *, only_raw: set[str] = ONLY_RAW) -> None:
    """Check that every JSON field is an attribute of equal value, or only in `raw`."""
    assert model.raw == row
    for wire, value in row.items():
        if wire not in only_raw:
            compare_field(model, wire, value)


def compare_field(model: Any, wire: str, value: Any) -> None:
    snake = re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), wire)
    got = getattr(model, ELSEWHERE.get(wire, snake))
    if wire in ("parameters", "limits"):
        holder = got
        for name, member in value.items():
            compare_field(holder, name, member)
    elif wire.endswith("At"):
        assert got == (None if value is None else read_time(value))
    elif wire == "timesignature":
        assert got == int(value)
        assert type(got) is int
    else:
        assert got == value


SINGLES = [
    "generation_created",
    "generation_created_no_webhook",
    "generation_pending",
    "generation_processing",
    "generation_completed",
    "generation_failed",
    "instrumental_created",
    "instrumental_completed",
]
PAGES = ["generations_list", "generations_list_last_page"]
EFFECTS = ["sound_effect_created", "sound_effect_completed", "sound_effect_failed"]
WEBHOOKS = ["webhook_completed", "webhook_failed"]
BULK = [
    ("generations_bulk_deleted", "deleted", 200),
    ("generations_bulk_deleted_all", "deleted", 200),
    ("generations_bulk_deleted_none", "deleted", 200),
    ("playlist_tracks_added", "added", 200),
    ("playlist_tracks_added_all", "added", 200),
    ("playlist_tracks_moved", "moved", 200),
    ("playlist_tracks_removed", "removed", 200),
    ("error_add_failed", "added", 400),
    ("error_move_failed", "moved", 400),
]


@pytest.mark.parametrize("name", SINGLES)
def test_every_generation_is_parsed_completely(name: str) -> None:
    body = example(name)
    made = parse.generation(response_of(body))
    compare(made, body["data"])
    assert type(made.duration) in (float, type(None))
    assert made.kind == ("instrumental" if "instrumental" in name else "music")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_generations_is_parsed_completely(name: str) -> None:
    data = example(name)["data"]
    page = parse.generation_page(response_of({"data": data}))
    for made, row in zip(page.items, data["generations"], strict=True):
        compare(made, row)
    assert (page.has_more, page.next_offset) == (data["hasMore"], data["nextOffset"])
    assert page.raw == data


class Waiting:
    """A reader that waits for one track and has seen it."""

    def __init__(self, track: Generation) -> None:
        self.track = track

    def last(self, track_id: str) -> Generation | None:
        return self.track if track_id in {self.track.id, "7"} else None

    def wants(self, track_id: str) -> bool:
        return track_id in {"a", "wanted"}


def test_an_unchanged_row_is_not_parsed_again() -> None:
    row = {"id": "a", "status": "processing"}
    wanted = {"id": "wanted", "status": "pending", "prompt": "x"}
    last = parse.generation_row(json.loads(json.dumps(row)))
    listed = response_of({"data": {"generations": [row, wanted]}})
    first, second = parse.generation_page(listed, known=Waiting(last))
    assert first is last
    assert second == parse.generation_row(wanted)


@pytest.mark.parametrize("effects", [False, True])
def test_only_the_state_is_parsed_of_a_row_without_a_waiter(effects: bool) -> None:
    row = {
        "id": "b",
        "status": "completed",
        "prompt": "x",
        "createdAt": "2026-03-02 18:05:00",
    }
    known = Waiting(parse.generation_row({"id": "a"}))
    page: Any
    if effects:
        listed = response_of({"data": {"soundEffects": [row]}})
        page = parse.sound_effect_page(listed, known=known)
    else:
        page = parse.generation_page(
            response_of({"data": {"generations": [row]}}), known=known
        )
    (track,) = page
    assert (track.id, track.status, track.is_final) == ("b", "completed", True)
    assert track.created_at == dt.datetime(2026, 3, 2, 18, 5, tzinfo=dt.UTC)
    assert track.raw == row
    assert track.prompt == ""


@pytest.mark.parametrize(
    "changed",
    [{"status": "completed"}, {"parameters": {"bpm": 71}}, {"title": "Night"}],
    ids=str,
)
def test_a_changed_row_is_parsed(changed: dict[str, Any]) -> None:
    row = {"id": "a", "status": "processing", "parameters": {"bpm": 70}}
    last = parse.generation_row(row)
    listed = response_of({"data": {"generations": [{**row, **changed}]}})
    (track,) = parse.generation_page(listed, known=Waiting(last))
    assert track == parse.generation_row({**row, **changed})
    assert track is not last


@pytest.mark.parametrize("row", [{"id": 7}, {"id": "7 "}], ids=str)
def test_a_row_with_an_unusual_id_is_parsed_like_any_other(row: dict[str, Any]) -> None:
    known = Waiting(parse.generation_row({"id": "a"}))
    (track,) = parse.generation_page(
        response_of({"data": {"generations": [row]}}), known=known
    )
    assert track == parse.generation_row(row)


@pytest.mark.parametrize("row", [{"id": ["a"]}, {"id": ""}, {}, None], ids=str)
def test_a_row_without_an_id_is_an_error_with_known_tracks_too(row: Any) -> None:
    listed = response_of({"data": {"generations": [row]}})
    with pytest.raises(APIResponseError):
        parse.generation_page(listed, known=Waiting(parse.generation_row({"id": "a"})))


@pytest.mark.parametrize("name", EFFECTS)
def test_every_sound_effect_is_parsed_completely(name: str) -> None:
    body = example(name)
    made = parse.sound_effect(response_of(body))
    compare(made, body["data"])
    assert type(made.requested_duration) is float


def test_a_page_of_sound_effects_is_parsed_completely() -> None:
    data = example("sound_effects_list")["data"]
    page = parse.sound_effect_page(response_of({"data": data}))
    for made, row in zip(page.items, data["soundEffects"], strict=True):
        compare(made, row)


def test_the_account_is_parsed_completely() -> None:
    data = example("me")["data"]
    made = parse.account(response_of({"data": data}))
    flat = data | data["limits"]
    del flat["limits"]
    for wire, value in flat.items():
        compare_field(made, wire, value)
    assert made.raw == data


def test_health_is_any_object() -> None:
    made = parse.health(response_of(example("health")))
    assert (made.status, made.raw) == ("ok", {"status": "ok"})
    assert parse.health(response_of({})).status is None


def test_playlists_are_parsed_completely() -> None:
    rows = example("playlists_list")["data"]["playlists"]
    made = parse.playlists(response_of({"data": {"playlists": rows}}))
    for playlist, row in zip(made, rows, strict=True):
        compare(playlist, row, only_raw=set())
        assert playlist.tracks == ()


def test_a_playlist_and_its_tracks_are_parsed_completely() -> None:
    data = example("playlist_detail")["data"]
    made = parse.playlist(response_of({"data": data}))
    compare(made, data, only_raw={"tracks"})
    assert made.is_owner is True
    for track, row in zip(made.tracks, data["tracks"], strict=True):
        compare(track, row, only_raw=set())


@pytest.mark.parametrize("name", WEBHOOKS)
def test_webhook_payloads_are_parsed_completely(name: str) -> None:
    body = example(name)
    made = parse.webhook_payload(body)
    assert isinstance(made, Generation)
    compare(made, body)


@pytest.mark.parametrize(("name", "key", "status"), BULK)
def test_q10_q11_q13_every_bulk_response_gives_a_bulk_result(
    name: str, key: str, status: int
) -> None:
    body = example(name)
    made = parse.bulk_result(response_of(body, status), key)
    members = body.get("data") or {"errors": body["error"]["details"]}
    assert list(made.succeeded) == members.get(key, [])
    failed = members.get("errors", [])
    assert made.failed == tuple(
        BulkFailure(id=item.get("trackId") or item["id"], error=item["error"])
        for item in failed
    )


def test_a_failure_of_a_bulk_request_may_be_a_text_or_say_nothing() -> None:
    body = {"data": {"deleted": ["a"], "errors": ["b is gone", None]}}
    made = parse.bulk_result(response_of(body, 200), "deleted")
    assert [each.error for each in made.failed] == ["b is gone", "unknown"]


def test_every_example_is_parsed_by_a_test_above_or_is_an_error() -> None:
    singles = {*SINGLES, *EFFECTS, *WEBHOOKS, *PAGES, "sound_effects_list"}
    others = {"me", "health", "playlists_list", "playlist_detail"}
    read = singles | others | {name for name, *_ in BULK}
    files = {path.stem for path in EXAMPLES.glob("*.json")}
    assert {name for name in files if not name.startswith("error_")} <= read
