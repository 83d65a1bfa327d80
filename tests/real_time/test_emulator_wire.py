"""The emulator on a port as a strict client reads it: plain httpx, or a bare socket.

The vendor's program decodes each member into one Go type; a fraction where it has an
integer, or a text where it has an object, ends it. So the types are compared, not only
the values.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, Fault, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

HALF = {"tags": "rain", "duration": 30.5, "seed": 1}
LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining")


@asynccontextmanager
async def on_a_port(
    **settings: Any,
) -> AsyncGenerator[tuple[Emulator, httpx.AsyncClient]]:
    """An emulator whose tracks end within a tenth of a second, and a plain client."""
    quick: dict[str, Any] = {"generation_time": (0.1, 0.1), "audio": b"mp3"}
    async with Emulator(**quick | settings) as emulator, serve(emulator) as url:
        headers = {"X-API-Key": emulator.api_key}
        async with httpx.AsyncClient(base_url=url, headers=headers) as http:
            yield emulator, http


async def read(http: httpx.AsyncClient, path: str) -> Any:
    response = await http.get(path)
    assert response.status_code == 200
    return response.json()["data"]


async def finished(http: httpx.AsyncClient, wish: dict[str, Any] = HALF) -> str:
    made = await http.post("/v1/generations", json=wish)
    assert made.status_code == 202
    await anyio.sleep(0.15)
    track_id: str = made.json()["data"]["id"]
    return track_id


async def on_a_socket(port: int, head: str, body: str = "") -> tuple[str, Any]:
    """The status line and the JSON of the response to a request written by hand."""
    size = f"Content-Length: {len(body)}\r\n" if body else ""
    text = f"{head}\r\nConnection: close\r\n{size}\r\n{body}"
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(text.encode())
        received = b"".join([chunk async for chunk in stream])
    top, _, content = received.partition(b"\r\n\r\n")
    return top.decode().split("\r\n", 1)[0], json.loads(content)


async def test_every_read_of_music_gives_its_length_in_whole_seconds() -> None:
    """One track of 30.5 s broke the vendor's list, get, download and playlists."""
    async with on_a_port() as (emulator, http):
        track_id = await finished(http)
        playlist = emulator.add_playlist("Beds", [track_id, track_id])
        rows = (await read(http, "/v1/generations"))["generations"]
        detail = await read(http, f"/v1/generations/{track_id}")
        beds = await read(http, f"/v1/playlists/{playlist}")
        (listed,) = (await read(http, "/v1/playlists"))["playlists"]
        lengths = [
            rows[0]["duration"],
            detail["duration"],
            *(track["duration"] for track in beds["tracks"]),
            beds["totalDuration"],
            listed["totalDuration"],
        ]
        assert lengths == [31, 31, 31, 31, 62, 62]
        assert {type(length) for length in lengths} == {int}
        assert detail["parameters"]["duration"] == 30.5  # what was asked for


async def test_webhooks_and_effects_keep_their_fractions() -> None:
    sent: list[dict[str, Any]] = []

    async def receive(_url: str, _headers: Any, body: bytes) -> int:
        sent.append(json.loads(body))
        return 204

    hook = {"webhook": "https://hooks.example.org/ft"}
    async with on_a_port(webhook_sender=receive, effect_time=(0.1, 0.1)) as (_, http):
        await finished(http, HALF | hook)
        wish = {"prompt": "crate", "duration": 2.5}
        made = (await http.post("/v1/sound-effects", json=wish)).json()["data"]
        await anyio.sleep(0.15)
        effect = await read(http, f"/v1/sound-effects/{made['id']}")
        (row,) = (await read(http, "/v1/sound-effects"))["soundEffects"]
        assert [s["duration"] for s in sent] == [30.5]
        assert effect["duration"] == row["duration"] == 2.5
        assert effect["requestedDuration"] == 2.5


@pytest.mark.parametrize("name", ["localhost", "emulator.internal:8787"])
async def test_audio_urls_follow_the_host_of_the_request_that_reads_them(
    name: str,
) -> None:
    """A client in a container reaches the emulator by another name than its maker."""
    async with on_a_port(effect_time=(0.0, 0.0)) as (emulator, http):
        track_id = await finished(http)
        made = await http.post("/v1/sound-effects", json={"prompt": "crate"})
        effect_id = made.json()["data"]["id"]
        playlist = emulator.add_playlist("Beds", [track_id])
        port = http.base_url.port
        assert port is not None

        async def read_as_named(path: str) -> Any:
            key = f"X-API-Key: {emulator.api_key}"
            head = f"GET {path} HTTP/1.1\r\nHost: {name}\r\n{key}"
            status, body = await on_a_socket(port, head)
            assert status == "HTTP/1.1 200 OK"
            return body["data"]

        audio = f"http://{name}/media/audio/"
        track = await read_as_named(f"/v1/generations/{track_id}")
        (row,) = (await read_as_named("/v1/generations"))["generations"]
        (entry,) = (await read_as_named(f"/v1/playlists/{playlist}"))["tracks"]
        (effect,) = (await read_as_named("/v1/sound-effects"))["soundEffects"]
        single = await read_as_named(f"/v1/sound-effects/{effect_id}")
        urls = [found["audioUrl"] for found in (track, row, entry)]
        assert urls == [f"{audio}{track_id}.mp3"] * 3
        assert effect["audioUrl"] == single["audioUrl"] == f"{audio}{effect_id}.mp3"
        here = (await read(http, f"/v1/generations/{track_id}"))["audioUrl"]
        assert here == f"http://127.0.0.1:{port}/media/audio/{track_id}.mp3"
        assert (await http.get(here)).content == b"mp3"


async def test_a_failed_track_has_one_end_in_list_and_detail() -> None:
    async with on_a_port(failure_rate=1.0) as (_, http):
        track_id = await finished(http)
        (row,) = (await read(http, "/v1/generations"))["generations"]
        detail = await read(http, f"/v1/generations/{track_id}")
        assert detail["status"] == row["status"] == "failed"
        assert type(detail["completedAt"]) is str
        common = detail.keys() & row.keys()
        assert {k: detail[k] for k in common} == {k: row[k] for k in common}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("DELETE", "/v1/me"),
        ("GET", "/v1/me/"),
        ("PUT", "/v1/generations/gen_1"),
        ("GET", "/"),
    ],
)
async def test_an_unknown_route_says_so_and_counts_against_no_limit(
    method: str, path: str
) -> None:
    async with on_a_port() as (emulator, http):
        response = await http.request(method, path)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (404, "NOT_FOUND")
        assert error["message"] == f"There is no endpoint {method} {path}"
        assert [response.headers[name] for name in LIMITS] == ["60", "60"]
        assert emulator.requests[-1].counted is False
        missing = (await http.get("/v1/generations/gen_1")).json()["error"]
        assert missing["code"] == "NOT_FOUND"
        assert "endpoint" not in missing["message"]


async def test_a_long_path_is_not_repeated_in_full() -> None:
    async with on_a_port() as (_, http):
        response = await http.get("/v1/" + "x" * 5000)
        assert len(response.json()["error"]["message"]) < 300


CREATE = ("POST", "/v1/generations")
BULK = ("POST", "/v1/generations/bulk-delete")
INSTRUMENTAL = ("POST", "/v1/instrumental")
EFFECT = ("POST", "/v1/sound-effects")
MOVE = ("POST", "/v1/playlists/p/tracks/move")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("where", "body", "field"),
    [
        (CREATE, {}, "tags"),
        (CREATE, {"tags": "x" * 701}, "tags"),
        (CREATE, {"tags": "a", "lyrics": 1}, "lyrics"),
        (CREATE, {"tags": "a", "duration": 4}, "duration"),
        (CREATE, {"tags": "a", "bpm": "90"}, "bpm"),
        (CREATE, {"tags": "a", "language": "xx"}, "language"),
        (CREATE, {"tags": "a", "key": "H"}, "key"),
        (CREATE, {"tags": "a", "scale": "dorian"}, "scale"),
        (CREATE, {"tags": "a", "timesignature": 4}, "timesignature"),
        (CREATE, {"tags": "a", "seed": -1}, "seed"),
        (CREATE, {"tags": "a", "seed": 1.5}, "seed"),
        (CREATE, {"tags": "a", "webhook": "ftp://a.example"}, "webhook"),
        (CREATE, {"tags": "a", "webhook": "https://["}, "webhook"),
        (CREATE, {"tags": "a", "webhook": "https://10.0.0.1"}, "webhook"),
        (INSTRUMENTAL, {}, "prompt"),
        (INSTRUMENTAL, {"prompt": "a", "enhance": 1}, "enhance"),
        (INSTRUMENTAL, {"prompt": "a", "duration": 211}, "duration"),
        (EFFECT, {"prompt": "a", "duration": 9}, "duration"),
        (BULK, {}, "ids"),
        (BULK, {"ids": [1]}, "ids"),
        (BULK, {"ids": ["a"] * 101}, "ids"),
        (MOVE, {}, "trackIds"),
        (MOVE, {"trackIds": ["a"]}, "targetPlaylistId"),
        (MOVE, {"trackIds": ["a"], "targetPlaylistId": "p"}, "targetPlaylistId"),
        (("GET", "/v1/generations?limit=100"), None, "limit"),
        (("GET", "/v1/generations?offset=-1"), None, "offset"),
        (("GET", "/v1/generations?status=done"), None, "status"),
        (("GET", "/v1/generations?type=effect"), None, "type"),
        (("GET", "/v1/sound-effects?limit=x"), None, "limit"),
    ],
)
async def test_a_validation_error_names_its_parameter(
    where: tuple[str, str], body: Any, field: str
) -> None:
    async with on_a_port() as (_, http):
        response = await http.request(*where, json=body)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "VALIDATION_ERROR")
        assert error["details"]["field"] == field
        assert error["message"].startswith(field)
        if body and len(body.get("ids", ())) > 100:
            assert error["details"] == {"field": "ids", "max": 100}


async def test_a_body_without_fields_names_none() -> None:
    async with on_a_port() as (_, http):
        for content in (b"", b"[]", b"{"):
            response = await http.post("/v1/generations", content=content)
            assert response.json()["error"].keys() == {"code", "message"}


async def test_numbers_in_messages_are_written_in_full() -> None:
    async with on_a_port() as (_, http):

        async def message(field: str, value: float) -> str:
            wish = {"tags": "rain", field: value}
            response = await http.post("/v1/generations", json=wish)
            text: str = response.json()["error"]["message"]
            return text

        assert await message("seed", 2**31) == "seed is outside 0-2147483647"
        assert await message("duration", 211) == "duration is outside 5-210"


async def test_every_response_of_the_api_has_the_rate_limits() -> None:
    async with on_a_port(queue_size=1, creates_per_minute=3) as (emulator, http):
        emulator.add_fault(Fault("stick", "/v1/generations", method="POST"))
        emulator.add_account("ft_live_" + "f" * 32, tier="free")
        track = "/v1/generations"

        async def limits(
            method: str, path: str, status: int, **options: Any
        ) -> list[str]:
            response = await http.request(method, path, **options)
            assert response.status_code == status
            return [response.headers[name] for name in LIMITS]

        assert await limits("POST", track, 202, json=HALF) == ["3", "2"]
        assert await limits("POST", track, 429, json=HALF) == ["3", "1"]  # queue full
        assert await limits("POST", track, 400, json={}) == ["3", "0"]
        assert await limits("POST", track, 429, json={}) == ["3", "0"]
        assert await limits("POST", track, 413, content=b"x" * 70_000) == ["3", "0"]
        assert await limits("GET", f"{track}/gen_1", 404) == ["60", "59"]
        assert await limits("POST", "/v1/nothing", 404) == ["60", "59"]
        for key in ("", "ft_live_" + "0" * 32):
            headers = {"X-API-Key": key}
            assert await limits("GET", "/v1/me", 401, headers=headers) == ["60", "60"]
            assert await limits("POST", track, 401, headers=headers) == ["3", "3"]
        free = {"X-API-Key": "ft_live_" + "f" * 32}
        assert await limits("GET", "/v1/me", 403, headers=free) == ["60", "60"]


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (Fault("status", status=500), "9"),
        (Fault("status", status=500, commit=True), "8"),
        (Fault("status", status=429, code="QUEUE_FULL"), "9"),
        (Fault("status", status=429, code="GENERATION_RATE_LIMITED"), "0"),
        (Fault("status", status=401, code="INVALID_API_KEY"), "10"),
        (Fault("status", headers={"x-ratelimit-remaining": "5"}), "5"),
        (Fault("status", status=502, code=None), None),
    ],
)
async def test_the_response_of_a_fault_has_the_limits_that_fit_it(
    fault: Fault, left: str | None
) -> None:
    async with on_a_port() as (emulator, http):
        await http.post("/v1/generations", json=HALF)
        emulator.add_fault(fault)
        response = await http.post("/v1/generations", json=HALF)
        assert response.status_code == fault.status
        assert response.headers.get("X-RateLimit-Remaining") == left
        assert ("X-RateLimit-Limit" in response.headers) is (left is not None)


async def test_health_and_audio_have_no_rate_limits() -> None:
    async with on_a_port() as (_, http):
        track_id = await finished(http)
        for method, path, status in (
            ("GET", "/health", 200),
            ("POST", "/health", 404),
            ("GET", f"/media/audio/{track_id}.mp3", 200),
            ("GET", "/media/audio/nothing.mp3", 404),
        ):
            response = await http.request(method, path)
            assert response.status_code == status
            assert not [n for n in response.headers if n.startswith("x-ratelimit")]


async def test_rate_limit_headers_can_be_switched_off_everywhere() -> None:
    async with on_a_port(rate_limit_headers=False) as (emulator, http):
        emulator.add_fault(Fault("status", "/v1/me", status=500))
        for path, status in (("/v1/me", 500), ("/v1/me", 200), ("/v1/x", 404)):
            response = await http.get(path)
            assert response.status_code == status
            assert not [n for n in response.headers if n.startswith("x-ratelimit")]


async def test_a_track_is_pending_at_first_and_takes_no_longer_for_it() -> None:
    async with on_a_port(generation_time=(15.0, 15.0)) as (emulator, http):
        made = (await http.post("/v1/generations", json=HALF)).json()["data"]
        path = f"/v1/generations/{made['id']}"
        assert made["status"] == (await read(http, path))["status"] == "pending"
        listed = await read(http, "/v1/generations?status=pending")
        assert [row["id"] for row in listed["generations"]] == [made["id"]]
        await anyio.sleep(1.1)
        assert (await read(http, path))["status"] == "processing"
        track = emulator.tracks[made["id"]]
        assert track.starts_at - track.created_at == pytest.approx(1.0)
        assert track.ends_at - track.created_at == pytest.approx(15.0)


async def test_numbers_out_of_range_are_clamped_on_request() -> None:
    wish = {"tags": "rain", "duration": 1000, "bpm": 1}
    async with on_a_port(clamp_out_of_range=True) as (_, http):
        made = (await http.post("/v1/generations", json=wish)).json()["data"]
        assert (made["parameters"]["duration"], made["parameters"]["bpm"]) == (210, 60)
    async with on_a_port() as (_, http):
        assert (await http.post("/v1/generations", json=wish)).status_code == 400


async def test_webhooks_reach_named_hosts_on_request() -> None:
    sent: list[str] = []

    async def receive(url: str, _headers: Any, _body: bytes) -> int:
        sent.append(url)
        return 204

    hosts = ["backend", "*.internal", "10.0.0.7"]
    allowed = [
        "http://backend:8000/hook",
        "http://BACKEND/hook",
        "https://hooks.internal/ft",
        "http://10.0.0.7/hook",
    ]
    refused = ["http://other/hook", "http://hooks.example.org/", "https://10.0.0.8/"]
    async with on_a_port(webhook_hosts=hosts, webhook_sender=receive) as (_, http):
        for url in allowed:
            await finished(http, HALF | {"webhook": url})
        for url in refused:
            wish = HALF | {"webhook": url}
            assert (await http.post("/v1/generations", json=wish)).status_code == 400
    assert sent == allowed
    async with on_a_port() as (_, http):
        wish = HALF | {"webhook": allowed[0]}
        assert (await http.post("/v1/generations", json=wish)).status_code == 400
