"""Section 9 of the specification, quirk by quirk, through the public client.

Each feeds both published forms and looks at the value that comes out. Q28 (an energy
control that does not exist) is held by the signature; Q32, Q33 and Q35 concern the
command line and are tested there too.
"""

from __future__ import annotations

import datetime as dt
import inspect
import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    APIStatusError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    InvalidRequestError,
    QueueFullError,
    RateLimitError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY = "ft_live_" + "0" * 32
CREATED = {
    "id": "gen_1",
    "status": "processing",
    "prompt": "waltz",
    "parameters": {"seed": 7},
    "webhook": None,
    "creditsRemaining": 3,
    "createdAt": "2026-03-02T18:05:00Z",
}
DONE = {
    **CREATED,
    "title": "waltz",
    "type": "music",
    "status": "completed",
    "audioUrl": "https://media.finetuning.ai/audio/gen_1.mp3",
    "duration": 60,
    "createdAt": "2026-03-02 18:05:00",
    "completedAt": "2026-03-02T18:05:24.118Z",
}


NUMBERS = itertools.count(1)


class Service:
    """Responds to every request alike, and keeps the requests.

    Each create gets its own prompt and a new id back: the client does not accept a
    response with the prompt or the id of another create.
    """

    def __init__(
        self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self._data = data
        self._status = status
        self._headers = headers
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        data = self._data
        if request.method == "POST" and "prompt" in data.get("data", {}):
            prompt = self.body.get("tags", self.body.get("prompt"))
            own = {"id": f"gen_{next(NUMBERS)}", "prompt": prompt}
            data = {"data": {**data["data"], **own}}
        return httpx.Response(self._status, json=data, headers=self._headers)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.asked[-1].content)
        return body


def client_of(service: Callable[[httpx.Request], httpx.Response]) -> AsyncClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    return AsyncClient(KEY, http_client=http, max_retries=0)


@pytest.mark.parametrize("given", [3, "3"], ids=["number", "text"])
async def test_q1_a_time_signature_is_sent_as_digits_and_read_as_a_number(
    given: int | str,
) -> None:
    service = Service({"data": {**CREATED, "parameters": {"timesignature": given}}})
    track = await client_of(service).generations.create("waltz", timesignature=given)
    assert service.body["timesignature"] == "3"
    assert track.parameters.timesignature == 3
    assert track.changed_by_service == {}


@pytest.mark.parametrize(
    "name", ["gen_7qk2m9", "5e0c7b1a-93d4-4f26-8a71-2c6f0be4d918", "trk_1", "a/b c?"]
)
async def test_q2_an_id_is_opaque_and_one_segment_of_the_path(name: str) -> None:
    service = Service({"data": {**DONE, "id": name}})
    assert (await client_of(service).generations.get(name)).id == name
    path = service.asked[0].url.raw_path.decode()
    assert path.count("/") == 3
    assert "?" not in path


@pytest.mark.parametrize(
    "text", ["2026-03-02T18:05:00Z", "2026-03-02 18:05:00", "2026-03-02T18:05:00.000Z"]
)
async def test_q3_both_spellings_of_a_date_are_aware_and_utc(text: str) -> None:
    service = Service({"data": {**DONE, "createdAt": text}})
    track = await client_of(service).generations.get("gen_1")
    assert track.created_at == dt.datetime(2026, 3, 2, 18, 5, tzinfo=dt.UTC)
    assert track.raw["createdAt"] == text


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_q4_any_2xx_accepts_a_create(status: int) -> None:
    service = Service({"data": CREATED}, status)
    assert (await client_of(service).generations.create("x")).status == "processing"


@pytest.mark.parametrize(
    ("field", "inside", "outside"),
    [("tags", "x" * 700, "x" * 701), ("duration", 210, 211), ("duration", 5, 4.9)],
)
async def test_q5_the_newest_limits_hold(field: str, inside: Any, outside: Any) -> None:
    client = client_of(Service({"data": CREATED}))
    await client.generations.create(**{"tags": "x", field: inside})
    with pytest.raises(InvalidRequestError, match=field):
        await client.generations.create(**{"tags": "x", field: outside})


async def test_q6_a_value_that_the_service_clamped_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parameters = {"duration": 180, "bpm": 90}
    service = Service({"data": {**CREATED, "parameters": parameters}})
    with caplog.at_level(logging.WARNING):
        client = client_of(service)
        track = await client.generations.create("waltz", duration=200, bpm=90)
    assert track.changed_by_service == {"duration": (200, 180.0)}
    assert "duration" in caplog.text
    rejected = {"error": {"code": "VALIDATION_ERROR", "message": "duration"}}
    with pytest.raises(BadRequestError, match="duration"):
        await client_of(Service(rejected, 400)).generations.create("x")


@pytest.mark.parametrize("value", [75, 75.2, "75.2"], ids=["whole", "fraction", "text"])
async def test_q7_a_duration_is_a_float(value: Any) -> None:
    service = Service({"data": {**DONE, "duration": value}})
    duration = (await client_of(service).generations.get("gen_1")).duration
    assert type(duration) is float
    assert duration == float(value)


@pytest.mark.parametrize("path", ["audio/gen_1.mp3", "1.mp3"])
async def test_q8_the_media_url_is_used_as_received(path: str, tmp_path: Any) -> None:
    url = f"https://media.finetuning.ai/{path}"
    asked: list[str] = []

    def service(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if request.url.host == "pub.finetuning.ai":
            return httpx.Response(200, json={"data": {**DONE, "audioUrl": url}})
        return httpx.Response(200, content=b"mp3")

    client = client_of(service)
    track = await client.generations.get("gen_1")
    await client.download(track, tmp_path / "a.mp3")
    assert asked[-1] == url


@pytest.mark.parametrize("data", [DONE, {"data": DONE}])
async def test_q9_an_envelope_is_optional(data: Any) -> None:
    assert (await client_of(Service(data)).generations.get("gen_1")).id == "gen_1"


@pytest.mark.parametrize("data", [{"status": "ok"}, {"data": {"status": "ok"}}])
async def test_q9_health_may_have_an_envelope(data: Any) -> None:
    assert (await client_of(Service(data)).health()).status == "ok"


@pytest.mark.parametrize("errors", [{}, {"errors": None}, {"errors": []}])
async def test_q10_absent_null_and_no_errors_mean_the_same(errors: Any) -> None:
    service = Service({"data": {"deleted": ["a", "b"], **errors}})
    result = await client_of(service).generations.delete(["a", "b"])
    assert (result.succeeded, result.failed) == (("a", "b"), ())


@pytest.mark.parametrize("name", ["id", "trackId"])
async def test_q11_a_failed_item_is_named_under_either_key(name: str) -> None:
    errors = [{name: "b", "error": "Track not found"}]
    service = Service({"data": {"added": ["a"], "errors": errors}})
    result = await client_of(service).playlists.add_tracks("p", ["a", "b"])
    assert [(item.id, item.error) for item in result.failed] == [
        ("b", "Track not found")
    ]


async def test_q12_a_page_has_at_most_99_rows_and_a_bulk_call_100_ids() -> None:
    service = Service({"data": {"deleted": []}})
    client = client_of(service)
    with pytest.raises(InvalidRequestError, match="1 to 99"):
        client.generations.list(limit=100)
    await client.generations.delete([f"id{n}" for n in range(250)])
    assert [len(json.loads(r.content)["ids"]) for r in service.asked] == [100, 100, 50]


@pytest.mark.parametrize("code", ["ADD_FAILED", "MOVE_FAILED"])
async def test_q13_a_total_failure_is_the_same_kind_of_result(code: str) -> None:
    details = [{"trackId": "a", "error": "Track already in playlist"}]
    error = {"code": code, "message": "Track already in playlist", "details": details}
    client = client_of(Service({"error": error}, 400))
    result = await client.playlists.move_tracks("p", "q", ["a"])
    assert result.succeeded == ()
    assert [item.id for item in result.failed] == ["a"]
    quiet = Service({"data": {"removed": [], "errors": details}})
    result = await client_of(quiet).playlists.remove_tracks("p", ["a"])
    assert [item.id for item in result.failed] == ["a"]


@pytest.mark.parametrize("details", [{"max": 100}, [{"id": "a", "error": "no"}]])
async def test_q14_details_are_kept_in_either_form(details: Any) -> None:
    error = {"code": "VALIDATION_ERROR", "message": "no", "details": details}
    with pytest.raises(BadRequestError) as caught:
        await client_of(Service({"error": error}, 400)).me()
    assert caught.value.details == details


@pytest.mark.parametrize(
    ("body", "header", "seconds"),
    [({"retryAfter": 17}, None, 17), ({}, "9", 9), ({"retryAfter": 17}, "9", 17)],
)
async def test_q15_the_delay_is_in_the_body_or_in_the_header(
    body: Any, header: str | None, seconds: float
) -> None:
    error = {"error": {"code": "RATE_LIMITED", "message": "slow down", **body}}
    headers = {} if header is None else {"Retry-After": header}
    with pytest.raises(RateLimitError) as caught:
        await client_of(Service(error, 429, headers)).me()
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("absent", [{}, {"webhook": None}])
async def test_q16_a_webhook_is_optional(absent: Any) -> None:
    row = {key: value for key, value in DONE.items() if key != "webhook"}
    service = Service({"data": {**row, **absent}})
    assert (await client_of(service).generations.get("gen_1")).webhook is None


@pytest.mark.parametrize("absent", [{}, {"errorMessage": None}])
async def test_q17_an_error_message_is_optional(absent: Any) -> None:
    service = Service({"data": {**DONE, **absent}})
    assert (await client_of(service).generations.get("gen_1")).error_message is None


@pytest.mark.parametrize(
    ("code", "budget"),
    [("RATE_LIMITED", "reads"), ("GENERATION_RATE_LIMITED", "creates")],
)
async def test_q18_both_rate_codes_are_one_class_that_names_its_budget(
    code: str, budget: str
) -> None:
    error = {"error": {"code": code, "message": "slow down", "retryAfter": 1}}
    with pytest.raises(RateLimitError) as caught:
        await client_of(Service(error, 429)).generations.create("x")
    assert caught.value.budget == budget


@pytest.mark.parametrize("code", ["BRAND_NEW", "GENERATION_RATE_LIMITED"])
async def test_q19_the_set_of_codes_is_open(code: str) -> None:
    error = {"error": {"code": code, "message": "something"}}
    with pytest.raises(APIStatusError) as caught:
        await client_of(Service(error, 418)).me()
    assert (caught.value.status_code, caught.value.code) == (418, code)


@pytest.mark.parametrize("hint", [{}, {"retryAfter": 5}])
async def test_q20_a_full_queue_has_its_own_class(hint: Any) -> None:
    error = {"error": {"code": "QUEUE_FULL", "message": "full", **hint}}
    with pytest.raises(QueueFullError) as caught:
        await client_of(Service(error, 429)).generations.create("x")
    assert caught.value.retry_after == hint.get("retryAfter")
    assert caught.value.safe_to_retry


@pytest.mark.parametrize("depth", [0, 5])
async def test_q21_the_queue_depth_is_reported(depth: int) -> None:
    limits = {"queueDepth": depth, "totalRemaining": 10}
    service = Service({"data": {"id": "u", "tier": "pro", "limits": limits}})
    assert (await client_of(service).me()).queue_depth == depth


@pytest.mark.parametrize(("sent", "read"), [(None, None), (2881034, 2881034)])
async def test_q22_a_file_size_may_be_null_on_a_completed_track(
    sent: Any, read: Any
) -> None:
    service = Service({"data": {**DONE, "fileSize": sent}})
    assert (await client_of(service).generations.get("gen_1")).file_size == read


@pytest.mark.parametrize(("more", "read"), [({}, None), ({"language": "de"}, "de")])
async def test_q23_a_language_may_be_missing(more: Any, read: str | None) -> None:
    service = Service({"data": {**DONE, "parameters": {"seed": 7, **more}}})
    track = await client_of(service).generations.get("gen_1")
    assert track.parameters.language == read


@pytest.mark.parametrize("duration", [120, 121, 210])
async def test_q24_the_free_tiers_cap_is_not_enforced_here(duration: int) -> None:
    service = Service({"data": CREATED})
    await client_of(service).generations.create("x", duration=duration)
    assert service.body["duration"] == duration


@pytest.mark.parametrize("suffix", ["0123456789abcdef" * 2, "RandomCharacters" * 2])
def test_q25_a_key_of_the_documented_length_is_accepted(
    suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    AsyncClient("ft_live_" + suffix)
    assert caplog.text == ""
    AsyncClient("ft_live_short")
    assert "documented form" in caplog.text


async def test_q26_only_the_parameters_that_were_set_are_sent() -> None:
    service = Service({"data": CREATED})
    await client_of(service).generations.create("x")
    assert set(service.body) == {"tags", "seed"}


async def test_q27_a_seed_of_zero_is_sent_and_the_echoed_one_is_read() -> None:
    service = Service({"data": {**CREATED, "parameters": {"seed": 991}}})
    client = client_of(service)
    track = await client.generations.create("waltz", seed=0)
    assert client._session().account.inflight.seeds_are_echoed
    assert service.body["seed"] == 0
    assert track.parameters.seed == 991
    assert track.changed_by_service == {"seed": (0, 991)}


def test_q28_there_is_no_energy_control() -> None:
    create = AsyncClient(KEY).generations.create
    assert "energy" not in inspect.signature(create).parameters


@pytest.mark.parametrize("enhance", [True, False])
async def test_q29_enhance_is_always_sent(enhance: bool) -> None:
    service = Service({"data": {**CREATED, "type": "instrumental"}})
    await client_of(service).instrumentals.create("x", enhance=enhance)
    assert service.body["enhance"] is enhance


@pytest.mark.parametrize("enhance", [True, False])
async def test_q29_enhance_is_always_sent_for_sound_effects(enhance: bool) -> None:
    service = Service({"data": {"id": "e", "status": "processing"}})
    await client_of(service).sound_effects.create("x", enhance=enhance)
    assert service.body["enhance"] is enhance


async def test_q30_a_rounded_duration_is_reported_and_not_rounded_here() -> None:
    row = {**CREATED, "type": "instrumental", "parameters": {"duration": 105}}
    service = Service({"data": row})
    track = await client_of(service).instrumentals.create("x", duration=100)
    assert service.body["duration"] == 100
    assert track.changed_by_service == {"duration": (100, 105.0)}
    effect = {"id": "e", "status": "processing", "requestedDuration": 2.5}
    service = Service({"data": effect})
    sound = await client_of(service).sound_effects.create("x", duration=2.7)
    assert service.body["duration"] == 2.7
    assert sound.requested_duration == 2.5


async def test_q31_the_prompt_is_one_attribute_of_all_requests() -> None:
    service = Service({"data": CREATED})
    track = await client_of(service).generations.create("waltz")
    assert (service.body["tags"], track.prompt) == ("waltz", "waltz")
    service = Service({"data": {**CREATED, "type": "instrumental"}})
    track = await client_of(service).instrumentals.create("waltz")
    assert (service.body["prompt"], track.prompt) == ("waltz", "waltz")


@pytest.mark.parametrize("url", [None, "https://other.example"])
async def test_q32_the_base_url_comes_from_the_environment_unless_given(
    url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNING_BASE_URL", "https://env.example")
    service = Service({"status": "ok"})
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    await AsyncClient(KEY, base_url=url, http_client=http).health()
    assert service.asked[0].url.host == ("env.example" if url is None else url[8:])


def test_q33_a_key_is_never_shown() -> None:
    assert "0000" not in repr(AsyncClient(KEY))


@pytest.mark.parametrize("value", [21, 46.9])
async def test_q34_a_generation_time_is_a_float(value: float) -> None:
    service = Service({"data": {**DONE, "generationTime": value}})
    track = await client_of(service).generations.get("gen_1")
    assert type(track.generation_time) is float
    assert track.generation_time == value


@pytest.mark.parametrize("code", ["MISSING_API_KEY", "INVALID_API_KEY"])
async def test_q35_messages_say_where_to_create_a_key(code: str) -> None:
    error = {"error": {"code": code, "message": "bad key"}}
    with pytest.raises(AuthenticationError, match="Profile > API"):
        await client_of(Service(error, 401)).me()


def test_every_quirk_has_a_test() -> None:
    numbers = {name.split("_")[1] for name in globals() if name.startswith("test_q")}
    assert numbers == {f"q{number}" for number in range(1, 36)}


async def test_a_429_of_the_daily_cap_is_raised_at_once() -> None:
    error = {"error": {"code": "DAILY_LIMIT_REACHED", "message": "100 a day"}}
    started = anyio.current_time()
    with pytest.raises(RateLimitError, match="100 a day"):
        await client_of(Service(error, 429)).sound_effects.create("x")
    assert anyio.current_time() == pytest.approx(started, abs=0.001)
