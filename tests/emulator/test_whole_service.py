"""Instrumentals, sound effects, playlists, bulk deletion, webhooks, settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

EXAMPLES = Path(__file__).parents[1] / "api_examples"
OTHER_KEY = "ft_live_" + "1" * 32
HOOK = "https://hooks.example.org/ft?token=s3cr3t"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(generation_time=(20, 20), queue_size=50) as emulator:
        yield emulator


def members(value: Any) -> Any:
    """Members and types of a body; lists by their first item."""
    if isinstance(value, dict):
        return {name: members(member) for name, member in value.items()}
    if isinstance(value, list):
        return [members(item) for item in value[:1]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def matches(answer: httpx.Response, name: str) -> bool:
    text = (EXAMPLES / f"{name}.json").read_text()
    assert members(answer.json()) == members(json.loads(text))
    return True


def client(emulator: Emulator, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=emulator.transport(),
        base_url=emulator.base_url,
        headers={"X-API-Key": key},
    )


async def tracks(http: httpx.AsyncClient, count: int) -> list[str]:
    """Ids of finished tracks."""
    wish = {"tags": "lofi", "duration": 5}
    made = [await http.post("/v1/generations", json=wish) for _ in range(count)]
    await anyio.sleep(20)
    return [answer.json()["data"]["id"] for answer in made]


async def test_an_instrumental_snaps_and_ends_in_the_clis_shape(
    http: httpx.AsyncClient,
) -> None:
    wish = {"prompt": "glass marimba loop", "duration": 38, "enhance": False}
    answer = await http.post("/v1/instrumental", json=wish)
    assert answer.status_code == 202
    assert matches(answer, "instrumental_created")
    data = answer.json()["data"]
    assert data["parameters"]["duration"] == 45
    await anyio.sleep(20)
    detail = await http.get(f"/v1/generations/{data['id']}")
    assert matches(detail, "instrumental_completed")
    audio = await http.get(detail.json()["data"]["audioUrl"])
    assert len(audio.content) == detail.json()["data"]["fileSize"]


async def test_a_sound_effect_costs_a_place_in_the_day_but_no_credit(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    wish = {"prompt": "wooden crate", "duration": 2.6}
    answer = await http.post("/v1/sound-effects", json=wish)
    assert answer.status_code == 202
    assert matches(answer, "sound_effect_created")
    data = answer.json()["data"]
    assert (data["requestedDuration"], data["dailyRemaining"]) == (2.5, 99)
    assert emulator.ledger == []
    await anyio.sleep(8)
    detail = await http.get(f"/v1/sound-effects/{data['id']}")
    assert matches(detail, "sound_effect_completed")
    assert (await http.get(detail.json()["data"]["audioUrl"])).status_code == 200
    rows = (await http.get("/v1/sound-effects")).json()["data"]
    assert rows["soundEffects"] == [detail.json()["data"]]
    assert (await http.get(f"/v1/generations/{data['id']}")).status_code == 404
    assert (await http.get("/v1/generations")).json()["data"]["generations"] == []


async def test_the_daily_cap_of_effects_ends_at_midnight_utc() -> None:
    async with Emulator(daily_effects=1) as emulator:
        http = client(emulator, emulator.api_key)
        answers = [
            await http.post("/v1/sound-effects", json={"prompt": "crate"})
            for _ in range(2)
        ]
        assert [a.status_code for a in answers] == [202, 429]
        assert answers[1].json()["error"]["code"] == "DAILY_LIMIT_REACHED"
        await anyio.sleep(86_400)
        answer = await http.post("/v1/sound-effects", json={"prompt": "crate"})
        assert answer.status_code == 202


async def test_bulk_delete_judges_each_id_alone(http: httpx.AsyncClient) -> None:
    one, two, three = await tracks(http, 3)
    path = "/v1/generations/bulk-delete"
    partly = await http.post(path, json={"ids": [one, two, one, "nobody"]})
    assert matches(partly, "generations_bulk_deleted")
    assert partly.json()["data"]["deleted"] == [one, two]
    assert [e["id"] for e in partly.json()["data"]["errors"]] == [one, "nobody"]
    whole = await http.post(path, json={"ids": [three]})
    assert matches(whole, "generations_bulk_deleted_all")
    none = await http.post(path, json={"ids": [three]})
    assert none.status_code == 200
    assert matches(none, "generations_bulk_deleted_none")
    assert (await http.get(f"/v1/generations/{one}")).status_code == 404
    gone = f"https://media.finetuning.ai/audio/{one}.mp3"
    assert (await http.get(gone)).status_code == 404


@pytest.mark.parametrize("ids", [None, [], [1], "a", ["x"] * 101])
async def test_a_bad_list_of_ids_is_refused(http: httpx.AsyncClient, ids: Any) -> None:
    answer = await http.post("/v1/generations/bulk-delete", json={"ids": ids})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_playlists_are_listed_and_read(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    ids = await tracks(http, 2)
    playlist = emulator.add_playlist("Beds", ids, description="short")
    assert matches(await http.get("/v1/playlists"), "playlists_list")
    detail = await http.get(f"/v1/playlists/{playlist}")
    assert matches(detail, "playlist_detail")
    data = detail.json()["data"]
    assert (data["trackCount"], data["totalDuration"]) == (2, 10)
    assert [track["id"] for track in data["tracks"]] == ids


async def test_tracks_are_added_moved_and_removed(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    one, two = await tracks(http, 2)
    here, there = (emulator.add_playlist(name) for name in ("here", "there"))
    path = f"/v1/playlists/{here}/tracks"
    added = await http.post(path, json={"trackIds": [one, one]})
    assert matches(added, "playlist_tracks_added")
    assert matches(
        await http.post(path, json={"trackIds": [two]}), "playlist_tracks_added_all"
    )
    again = await http.post(path, json={"trackIds": [one]})
    assert again.status_code == 400
    assert matches(again, "error_add_failed")
    wish = {"trackIds": [one, "nobody"], "targetPlaylistId": there}
    moved = await http.post(f"{path}/move", json=wish)
    assert matches(moved, "playlist_tracks_moved")
    assert moved.json()["data"]["moved"] == [one]
    failed = await http.post(f"{path}/move", json=wish)
    assert failed.status_code == 400
    assert matches(failed, "error_move_failed")
    removed = await http.post(f"{path}/bulk-remove", json={"trackIds": [two, one]})
    assert matches(removed, "playlist_tracks_removed")
    assert removed.json()["data"]["removed"] == [two]
    same = await http.post(f"{path}/move", json=wish | {"targetPlaylistId": here})
    assert same.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_privacy_rules_hold(emulator: Emulator, http: httpx.AsyncClient) -> None:
    (mine,) = await tracks(http, 1)
    other = emulator.add_account(OTHER_KEY)
    private = emulator.add_playlist("theirs", account=other)
    public = emulator.add_playlist("shown", public=True)
    theirs = client(emulator, OTHER_KEY)

    async def why(who: httpx.AsyncClient, playlist: str, track: str = mine) -> str:
        path = f"/v1/playlists/{playlist}/tracks"
        answer = await who.post(path, json={"trackIds": [track]})
        message: str = answer.json()["error"]["message"]
        return message

    assert (await http.get(f"/v1/playlists/{private}")).status_code == 404
    shown = await theirs.get(f"/v1/playlists/{public}")
    assert shown.json()["data"]["isOwner"] is False
    assert await why(http, private) == "Not authorized to modify this playlist"
    assert await why(http, "nobody") == "Playlist not found"
    assert await why(http, public) == "Cannot add private track to public playlist"
    assert await why(theirs, private) == "Track not found"
    emulator.set_public(mine)
    assert "another user" in await why(theirs, private)
    path = f"/v1/playlists/{public}/tracks"
    assert (await http.post(path, json={"trackIds": [mine]})).status_code == 200


async def test_accounts_do_not_see_each_other(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    (mine,) = await tracks(http, 1)
    emulator.add_account(OTHER_KEY)
    theirs = client(emulator, OTHER_KEY)
    assert (await theirs.get(f"/v1/generations/{mine}")).status_code == 404
    assert (await theirs.get("/v1/generations")).json()["data"]["generations"] == []
    assert (await theirs.get("/v1/me")).headers["X-RateLimit-Remaining"] == "57"


class Receiver:
    def __init__(self) -> None:
        self.got: list[tuple[float, str, dict[str, str], Any]] = []

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.got.append((anyio.current_time(), url, dict(headers), json.loads(body)))
        return 500


@pytest.mark.parametrize("fails", [False, True])
async def test_a_webhook_is_delivered_once(fails: bool) -> None:
    receiver = Receiver()
    async with Emulator(
        generation_time=(20, 20), failure_rate=float(fails), webhook_sender=receiver
    ) as emulator:
        http = client(emulator, emulator.api_key)
        wish = {"tags": "lofi", "webhook": HOOK}
        made = (await http.post("/v1/generations", json=wish)).json()["data"]
        await anyio.sleep(300)
        ((at, url, headers, body),) = receiver.got
        assert at == pytest.approx(20, abs=0.001)
        assert url == HOOK
        assert headers["User-Agent"] == "finetuning-webhook/1.0"
        name = "webhook_failed" if fails else "webhook_completed"
        text = (EXAMPLES / f"{name}.json").read_text()
        assert members(body) == members(json.loads(text))
        assert body["id"] == made["id"]
        assert [record.status for record in emulator.webhooks] == [500]


async def test_a_deleted_or_stuck_job_is_not_announced() -> None:
    receiver = Receiver()
    async with Emulator(webhook_sender=receiver) as emulator:
        http = client(emulator, emulator.api_key)
        wish = {"tags": "lofi", "webhook": HOOK}
        made = (await http.post("/v1/generations", json=wish)).json()["data"]
        await http.post("/v1/generations/bulk-delete", json={"ids": [made["id"]]})
        emulator.add_fault(Fault("stick"))
        await http.post("/v1/generations", json=wish)
        await anyio.sleep(1000)
        assert receiver.got == []
        assert emulator.account.in_progress == 1


@pytest.mark.parametrize(
    "change",
    [
        {"tags": ""},
        {"tags": None},
        {"tags": 3},
        {"tags": "x" * 701},
        {"lyrics": "x" * 2001},
        {"duration": 4},
        {"duration": 210.5},
        {"duration": "60"},
        {"duration": True},
        {"bpm": 201},
        {"language": "xx"},
        {"key": "Db"},
        {"key": "c"},
        {"scale": "dorian"},
        {"timesignature": 4},
        {"timesignature": "8"},
        {"seed": -1},
        {"seed": 2**31},
        {"seed": 1.5},
        {"webhook": "http://example.org"},
        {"webhook": "https://10.0.0.1/"},
        {"webhook": "https://intranet/"},
        {"webhook": "https://example.org/" + "x" * 2048},
    ],
)
async def test_a_bad_field_is_named_and_costs_nothing(
    emulator: Emulator, http: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    answer = await http.post("/v1/generations", json={"tags": "lofi"} | change)
    assert answer.status_code == 400
    assert next(iter(change)) in answer.json()["error"]["message"]
    assert emulator.ledger == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"tags": NaN}', b"\xff", b"[" * 50_000],
    ids=lambda b: repr(b[:9]),
)
async def test_a_body_that_is_no_object_is_refused(
    http: httpx.AsyncClient, body: bytes
) -> None:
    answer = await http.post("/v1/generations", content=body)
    assert answer.status_code == 400


async def test_null_is_absent_and_unknown_fields_are_ignored(
    http: httpx.AsyncClient,
) -> None:
    wish = {"tags": "lofi", "duration": None, "mood": "calm", "key": "C#"}
    parameters = (await http.post("/v1/generations", json=wish)).json()["data"][
        "parameters"
    ]
    assert (parameters["duration"], parameters["bpm"]) == (60, 120)
    assert parameters["keyscale"].startswith("C# ")


async def test_settings_answer_the_open_questions() -> None:
    async with Emulator(
        clamp_out_of_range=True,
        rewrite_prompts=True,
        ignore_seeds=True,
        refund_failed=True,
        failure_rate=1.0,
        retry_after_in="header",
        rate_limit_headers=False,
        creates_per_minute=1,
        pending_time=(5, 5),
        generation_time=(20, 20),
    ) as emulator:
        http = client(emulator, emulator.api_key)
        wish = {"tags": "lofi", "bpm": 300, "seed": 5}
        first = await http.post("/v1/generations", json=wish)
        data = first.json()["data"]
        assert data["parameters"]["bpm"] == 200
        assert data["parameters"]["seed"] != 5
        assert data["prompt"] != "lofi"
        assert data["status"] == "pending"
        assert "X-RateLimit-Limit" not in first.headers
        refused = await http.post("/v1/generations", json=wish)
        assert "Retry-After" in refused.headers
        assert "retryAfter" not in refused.json()["error"]
        await anyio.sleep(25)
        assert [entry.amount for entry in emulator.ledger] == [-1, 1]
        assert emulator.account.remaining == 2000


@pytest.mark.parametrize(
    "bad",
    [{"speed": 0}, {"window": "none"}, {"latency": (2, 1)}, {"failure_rate": 2}],
)
def test_a_setting_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Emulator(**bad)
