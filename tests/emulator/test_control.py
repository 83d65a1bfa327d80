"""The control API, as a plain HTTP client in any language uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async.emulator import Emulator, EmulatorSettings, Fault
from tests.emulator._document import check_document, check_response
from tests.emulator.conftest import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

pytestmark = pytest.mark.sampled(2)

OTHER_KEY = "ft_live_" + 32 * "b"


@pytest.fixture
async def http(emulator: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(emulator) as client:
        client.event_hooks["response"].append(check_response)
        yield client


async def ask(http: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    answer = await http.request(method, f"/_emulator{path}", json=body)
    assert answer.status_code in (200, 201), answer.text
    assert answer.headers["X-Emulator"] == "1"
    return answer.json()


async def refused(
    http: httpx.AsyncClient, method: str, path: str, body: Any = None
) -> tuple[int, str]:
    answer = await http.request(method, f"/_emulator{path}", json=body)
    assert answer.status_code >= 400
    return answer.status_code, answer.json()["error"]["message"]


async def create(http: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await http.post("/v1/generations", json={"tags": "rain", **more})


async def status_of(http: httpx.AsyncClient, track_id: str) -> str:
    answer = await http.get(f"/v1/generations/{track_id}")
    status: str = answer.json()["data"]["status"]
    return status


# Faults.


async def test_a_fault_hits_the_next_create_and_counts_its_hit(
    http: httpx.AsyncClient,
) -> None:
    fault = {
        "action": "status",
        "path": "/v1/generations",
        "method": "POST",
        "times": 1,
        "status": 500,
        "code": "GENERATION_FAILED",
    }
    made = await ask(http, "POST", "/faults", fault)
    assert fault.items() <= made.items()
    answer = await create(http)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "GENERATION_FAILED"
    assert (await create(http)).status_code == 202
    (listed,) = (await ask(http, "GET", "/faults"))["faults"]
    assert listed == {**made, "hits": 1}


async def test_faults_are_removed_one_by_one_or_all(http: httpx.AsyncClient) -> None:
    fault = {"action": "status", "times": None}
    numbers = [(await ask(http, "POST", "/faults", fault))["number"] for _ in range(3)]
    await ask(http, "DELETE", f"/faults/{numbers[0]}")
    left = (await ask(http, "GET", "/faults"))["faults"]
    assert [entry["number"] for entry in left] == numbers[1:]
    assert (await refused(http, "DELETE", f"/faults/{numbers[0]}"))[0] == 404
    assert await ask(http, "DELETE", "/faults") == {"removed": 2}
    assert (await http.get("/v1/me")).status_code == 200


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "action is required"),
        ({"action": "explode"}, "action must be one of"),
        ({"action": "connect_refused"}, "must be one that a port can show"),
        ({"action": "delay", "seconds": "3"}, "seconds must be a number, got '3'"),
        ({"action": "delay", "seconds": -1}, "seconds must be >= 0, got -1.0"),
        ({"action": "delay", "probability": 2}, "probability must be <= 1, got 2.0"),
        ({"action": "stick", "times": True}, "times must be a whole number or null"),
        ({"action": "stick", "hits": 3}, "'hits' is unknown"),
        ({"action": "status", "headers": {"a": 1}}, "headers must be an object of"),
        ([], "must be a JSON object"),
    ],
)
async def test_a_fault_that_cannot_be_is_refused_with_its_field(
    http: httpx.AsyncClient, fault: Any, message: str
) -> None:
    status, words = await refused(http, "POST", "/faults", fault)
    assert status == 400
    assert message in words
    assert (await ask(http, "GET", "/faults"))["faults"] == []


async def test_every_fault_that_a_port_can_show_is_accepted(
    http: httpx.AsyncClient,
) -> None:
    field = attrs.fields_dict(Fault)["action"]
    actions = [a for a in field.validator.options if not a.startswith("connect_")]  # type: ignore[union-attr]  # of attrs' in_
    for action in actions:
        await ask(http, "POST", "/faults", {"action": action, "path": "/never"})
    assert len(actions) == 14


# Settings and reset.


async def test_a_setting_changes_at_once(http: httpx.AsyncClient) -> None:
    changed = await ask(http, "PATCH", "/settings", {"queue_size": 1})
    assert changed["settings"]["queue_size"] == 1
    assert changed["after_reset"] == {}
    codes = [(await create(http)).status_code for _ in range(2)]
    assert codes == [202, 429]


async def test_a_setting_that_waits_for_a_reset_says_so(
    http: httpx.AsyncClient,
) -> None:
    body = {"creates_per_minute": 1, "queue_size": 9}
    changed = await ask(http, "PATCH", "/settings", body)
    assert changed["after_reset"] == {"creates_per_minute": 1}
    assert changed["settings"]["creates_per_minute"] == 10
    assert {"creates_per_minute", "window", "speed"} <= set(changed["reset_only"])
    assert [(await create(http)).status_code for _ in range(2)] == [202, 202]
    await ask(http, "POST", "/reset")
    assert [(await create(http)).status_code for _ in range(2)] == [202, 429]
    now = await ask(http, "GET", "/settings")
    assert now["settings"]["creates_per_minute"] == 1
    assert (now["settings"]["queue_size"], now["after_reset"]) == (5, {})
    await ask(http, "POST", "/reset")
    assert [(await create(http)).status_code for _ in range(2)] == [202, 202]


async def test_every_setting_but_files_and_callables_is_there(
    http: httpx.AsyncClient,
) -> None:
    others = {"audio", "webhook_sender", "on_request", "state_dir"}
    names = set(attrs.fields_dict(EmulatorSettings)) - others
    found = await ask(http, "GET", "/settings")
    assert set(found["settings"]) == names
    same = {k: v for k, v in found["settings"].items() if k not in found["reset_only"]}
    assert (await ask(http, "PATCH", "/settings", same)) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queue_size": 0}, "queue_size must be >= 1, got 0"),
        ({"queue_size": 1.5}, "queue_size must be a whole number, got 1.5"),
        ({"generation_time": [3, 1]}, "generation_time must be 0 <= low <= high"),
        ({"generation_time": 3}, "generation_time must be two numbers"),
        ({"window": "sliding"}, "window must be one of fixed"),
        ({"refund_failed": 1}, "refund_failed must be true or false, got 1"),
        ({"start_time": "soon"}, "start_time must be a time such as"),
        ({"audio": "x"}, "audio cannot be set by JSON: start the emulator with"),
        ({"state_dir": "x"}, "state_dir cannot be set by JSON: start the emulator"),
        ({"on_request": "x"}, "on_request cannot be set by JSON: it is a function"),
        ({"webhook_sender": 1}, "webhook_sender cannot be set by JSON: it is a"),
    ],
)
async def test_a_setting_that_cannot_be_changes_nothing(
    http: httpx.AsyncClient, change: Any, message: str
) -> None:
    before = await ask(http, "GET", "/settings")
    body = {"failure_rate": 0.5, **change}
    status, words = await refused(http, "PATCH", "/settings", body)
    assert status == 400
    assert message in words
    assert await ask(http, "GET", "/settings") == before


async def test_a_reset_begins_anew_with_the_same_ids(http: httpx.AsyncClient) -> None:
    first = (await create(http)).json()["data"]["id"]
    await ask(http, "POST", "/accounts", {"api_key": OTHER_KEY})
    await ask(http, "POST", "/faults", {"action": "stick", "times": None})
    await ask(http, "POST", "/clock/advance", {"seconds": 5})
    await ask(http, "POST", "/reset")
    state = await ask(http, "GET", "/state")
    assert state["advanced"] == 0
    assert [account["used"] for account in state["accounts"]] == [0]
    assert sum(state["tracks"].values()) == 0
    counts = [state[name] for name in ("faults", "requests", "ledger", "webhooks")]
    assert counts == [0, 0, 0, 0]
    assert (await create(http)).json()["data"]["id"] == first
    await ask(http, "POST", "/reset", {"seed": 7})
    assert (await create(http)).json()["data"]["id"] != first
    await ask(http, "POST", "/reset", {})
    assert (await create(http)).json()["data"]["id"] == first


async def test_a_reset_brings_back_what_was_loaded(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    seed = {
        "accounts": [{"api_key": OTHER_KEY, "credits": 3}],
        "tracks": [{"prompt": "night", "id": "n1"}, {"prompt": "day", "id": "d1"}],
        "playlists": [{"name": "Both", "tracks": ["n1", "d1"]}],
        "faults": [{"action": "stick"}],
    }
    emulator.load(seed)
    await create(http)
    for _ in range(2):
        await ask(http, "POST", "/reset")
        tracks = (await ask(http, "GET", "/tracks"))["tracks"]
        assert [track["id"] for track in tracks] == ["d1", "n1"]
        (playlist,) = (await ask(http, "GET", "/playlists"))["playlists"]
        assert playlist["tracks"] == ["n1", "d1"]
        accounts = (await ask(http, "GET", "/accounts"))["accounts"]
        assert [account["credits"] for account in accounts] == [2000, 3]
        assert len((await ask(http, "GET", "/faults"))["faults"]) == 1


async def test_a_webhook_of_before_a_reset_is_not_sent(http: httpx.AsyncClient) -> None:
    await create(http, webhook="http://127.0.0.1:9/hook")
    await ask(http, "POST", "/reset")
    await anyio.sleep(100)
    assert (await ask(http, "GET", "/webhooks"))["webhooks"] == []


# Accounts.


async def test_an_account_is_added_changed_and_used(http: httpx.AsyncClient) -> None:
    body = {"api_key": OTHER_KEY, "tier": "free", "credits": 1, "pack_credits": 2}
    made = await ask(http, "POST", "/accounts", body)
    assert body.items() <= made.items()
    headers = {"X-API-Key": OTHER_KEY}
    answer = await http.get("/v1/me", headers=headers)
    assert answer.json()["error"]["code"] == "PRO_PLAN_REQUIRED"
    changed = await ask(http, "PATCH", f"/accounts/{OTHER_KEY}", {"tier": "pro"})
    assert (changed["tier"], changed["remaining"]) == ("pro", 3)
    limits = (await http.get("/v1/me", headers=headers)).json()["data"]["limits"]
    assert (limits["totalRemaining"], limits["packCredits"]) == (3, 2)
    await ask(http, "PATCH", f"/accounts/{OTHER_KEY}", {"used": 1, "pack_credits": 0})
    answer = await http.post("/v1/generations", json={"tags": "x"}, headers=headers)
    assert answer.json()["error"]["code"] == "MONTHLY_LIMIT_REACHED"


async def test_an_account_without_a_key_gets_one(http: httpx.AsyncClient) -> None:
    key = (await ask(http, "POST", "/accounts"))["api_key"]
    assert (await http.get("/v1/me", headers={"X-API-Key": key})).status_code == 200


async def test_a_second_key_shares_the_limits(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    path = f"/accounts/{emulator.api_key}"
    made = await ask(http, "PATCH", path, {"add_key": OTHER_KEY})
    assert made["api_keys"] == [emulator.api_key, OTHER_KEY]
    await http.get("/v1/me")
    answer = await http.get("/v1/me", headers={"X-API-Key": OTHER_KEY})
    assert answer.headers["X-RateLimit-Remaining"] == "58"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/accounts", {"api_key": "ft_live_x"}, 400, "api_key must be"),
        ("POST", "/accounts", {"credits": -1}, 400, "credits must be a whole number"),
        ("POST", "/accounts", {"monthly": 1}, 400, "'monthly' is unknown"),
        ("PATCH", f"/accounts/{OTHER_KEY}", {}, 404, "no account has the api_key"),
    ],
)
async def test_an_account_that_cannot_be_is_refused(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    body: Any,
    status: int,
    message: str,
) -> None:
    found = await refused(http, method, path, body)
    assert (found[0], message in found[1]) == (status, True)
    assert len((await ask(http, "GET", "/accounts"))["accounts"]) == 1


async def test_a_key_exists_once(emulator: Emulator, http: httpx.AsyncClient) -> None:
    body = {"api_key": emulator.api_key}
    assert (await refused(http, "POST", "/accounts", body))[0] == 409


# Tracks and playlists.


async def test_a_ready_made_track_costs_nothing_and_plays(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    made = await ask(http, "POST", "/tracks", {"prompt": "rain", "duration": 5})
    track = (await http.get(f"/v1/generations/{made['id']}")).json()["data"]
    assert (track["status"], track["prompt"], track["duration"]) == (
        "completed",
        "rain",
        5,
    )
    audio = await http.get(track["audioUrl"])
    assert audio.headers["Content-Type"] == "audio/mpeg"
    assert emulator.ledger == []
    assert emulator.account.in_progress == 0


async def test_ready_made_tracks_are_of_every_kind_and_end(
    http: httpx.AsyncClient,
) -> None:
    bodies = [
        {"prompt": "a", "kind": "instrumental", "id": "one", "duration": 44},
        {"prompt": "b", "status": "failed"},
        {"prompt": "c", "status": "stuck"},
        {"prompt": "d", "kind": "effect", "status": "processing"},
    ]
    made = (await ask(http, "POST", "/tracks", bodies))["tracks"]
    assert made[0]["id"] == "one"
    assert made[0]["parameters"]["duration"] == 45
    await anyio.sleep(1000)
    found = (await ask(http, "GET", "/tracks"))["tracks"]
    assert [track["status"] for track in reversed(found)] == [
        "completed",
        "failed",
        "processing",
        "completed",
    ]
    assert (found[1]["stuck"], found[1]["ends_at"]) == (True, None)
    effect = await http.get(f"/v1/sound-effects/{made[3]['id']}")
    assert effect.json()["data"]["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "prompt is required"),
        ({"prompt": "x", "duration": 500}, 400, "duration is outside"),
        ({"prompt": "x", "status": "done"}, 400, "status must be one of"),
        ({"prompt": "x", "kind": "song"}, 400, "kind must be one of"),
        ({"prompt": "x", "id": "a/b"}, 400, "id must be"),
        ({"prompt": "x", "api_key": OTHER_KEY}, 404, "no account"),
        ({"prompt": "x", "after_reads": 0}, 400, "after_reads must be"),
    ],
)
async def test_a_track_that_cannot_be_is_refused(
    http: httpx.AsyncClient, body: Any, status: int, message: str
) -> None:
    found = await refused(http, "POST", "/tracks", body)
    assert found[0] == status
    assert message in found[1]
    assert (await ask(http, "GET", "/tracks"))["total"] == 0


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_a_track_in_progress_is_ended_and_frees_the_queue(
    emulator: Emulator, http: httpx.AsyncClient, end: str
) -> None:
    track_id = (await create(http)).json()["data"]["id"]
    assert emulator.account.in_progress == 1
    changed = await ask(http, "PATCH", f"/tracks/{track_id}", {"status": end})
    assert changed["status"] == end
    assert emulator.account.in_progress == 0
    assert await status_of(http, track_id) == end
    await anyio.sleep(1000)
    assert emulator.account.in_progress == 0
    assert await status_of(http, track_id) == end


async def test_a_track_is_stuck_until_it_is_let_go(http: httpx.AsyncClient) -> None:
    track_id = (await create(http)).json()["data"]["id"]
    await ask(http, "PATCH", f"/tracks/{track_id}", {"status": "stuck"})
    await anyio.sleep(10_000)
    assert await status_of(http, track_id) == "processing"
    await ask(http, "PATCH", f"/tracks/{track_id}", {"status": "completed"})
    assert await status_of(http, track_id) == "completed"


async def test_a_track_that_has_ended_stays_so(http: httpx.AsyncClient) -> None:
    track_id = (await ask(http, "POST", "/tracks", {"prompt": "x"}))["id"]
    await ask(http, "PATCH", f"/tracks/{track_id}", {"status": "completed"})
    path = f"/tracks/{track_id}"
    assert (await refused(http, "PATCH", path, {"status": "failed"}))[0] == 409
    assert (await refused(http, "PATCH", "/tracks/nobody", {}))[0] == 404


async def test_a_track_ends_after_so_many_reads(http: httpx.AsyncClient) -> None:
    track_id = (await create(http)).json()["data"]["id"]
    await ask(http, "PATCH", f"/tracks/{track_id}", {"after_reads": 3})
    await ask(http, "GET", f"/tracks/{track_id}")  # is no read
    await anyio.sleep(1000)
    seen = [await status_of(http, track_id)]
    page = (await http.get("/v1/generations")).json()["data"]["generations"]
    seen.append(page[0]["status"])
    seen += [await status_of(http, track_id) for _ in range(2)]
    assert seen == ["processing", "processing", "processing", "completed"]


async def test_a_track_fails_after_a_read(http: httpx.AsyncClient) -> None:
    body = {"prompt": "x", "kind": "effect", "after_reads": 1, "status": "failed"}
    track_id = (await ask(http, "POST", "/tracks", body))["id"]
    path = f"/v1/sound-effects/{track_id}"
    seen = [(await http.get(path)).json()["data"]["status"] for _ in range(2)]
    assert seen == ["pending", "failed"]


async def test_a_track_is_made_public(http: httpx.AsyncClient) -> None:
    track_id = (await ask(http, "POST", "/tracks", {"prompt": "x"}))["id"]
    await ask(http, "PATCH", f"/tracks/{track_id}", {"public": True})
    track = (await http.get(f"/v1/generations/{track_id}")).json()["data"]
    assert track["isPublic"] is True


async def test_tracks_are_filtered_and_paged(http: httpx.AsyncClient) -> None:
    bodies = [{"prompt": str(n), "id": f"t{n}"} for n in range(5)]
    await ask(http, "POST", "/tracks", [*bodies, {"prompt": "x", "status": "failed"}])
    page = await ask(http, "GET", "/tracks?status=completed&limit=2&offset=1")
    assert [track["id"] for track in page["tracks"]] == ["t3", "t2"]
    assert page["total"] == 5
    assert (await refused(http, "GET", "/tracks?limit=x"))[0] == 400
    assert (await refused(http, "GET", "/tracks?sort=id"))[0] == 400


async def test_a_playlist_is_made_of_tracks(http: httpx.AsyncClient) -> None:
    await ask(http, "POST", "/tracks", [{"prompt": "x", "id": n} for n in "ab"])
    body = {"name": "Both", "tracks": ["b", "a"], "description": "x", "public": True}
    made = await ask(http, "POST", "/playlists", body)
    assert body.items() <= made.items()
    found = (await http.get(f"/v1/playlists/{made['id']}")).json()["data"]
    assert [track["id"] for track in found["tracks"]] == ["b", "a"]
    body = {"name": "None", "tracks": ["nobody"]}
    assert (await refused(http, "POST", "/playlists", body))[0] == 404


# The clock.


async def test_an_hour_forward_ends_tracks_and_moves_dates(
    http: httpx.AsyncClient,
) -> None:
    answer = await create(http)
    before = (await ask(http, "GET", "/state"))["now"]
    moved = await ask(http, "POST", "/clock/advance", {"seconds": 3600})
    assert moved["advanced"] == 3600
    assert moved["now"] > before
    track_id = answer.json()["data"]["id"]
    track = (await http.get(f"/v1/generations/{track_id}")).json()["data"]
    assert track["status"] == "completed"
    assert track["completedAt"][:19] < moved["now"][:19]
    state = await ask(http, "GET", "/state")
    assert state["accounts"][0]["in_progress"] == 0


async def test_a_minute_forward_opens_the_rate_limit(http: httpx.AsyncClient) -> None:
    await ask(http, "PATCH", "/settings", {"queue_size": 100})
    codes = [(await create(http)).status_code for _ in range(11)]
    assert codes[-2:] == [202, 429]
    limits = (await ask(http, "GET", "/state"))["accounts"][0]["limits"]
    assert limits["creates"]["remaining"] == 0
    assert 0 < limits["creates"]["retry_after"] <= 60
    await ask(http, "POST", "/clock/advance", {"seconds": 60})
    assert (await create(http)).status_code == 202


async def test_a_webhook_that_became_due_is_sent_at_once(
    emulator: Emulator, http: httpx.AsyncClient
) -> None:
    sent: list[str] = []

    async def sender(url: str, _headers: Any, _body: bytes) -> int:
        sent.append(url)
        return 204

    emulator.configure(webhook_sender=sender)
    await create(http, webhook="https://me.example/hooks?token=x")
    start = anyio.current_time()
    await ask(http, "POST", "/clock/advance", {"seconds": 3600})
    await anyio.sleep(0.01)
    assert sent == ["https://me.example/hooks?token=x"]
    assert anyio.current_time() - start < 1
    (row,) = (await ask(http, "GET", "/webhooks?status=204"))["webhooks"]
    assert row["url"] == sent[0]
    assert (await ask(http, "GET", "/webhooks?status=0"))["webhooks"] == []


@pytest.mark.parametrize("seconds", [-1, "60", True, None, 1e12])
async def test_a_clock_goes_forward_only(
    http: httpx.AsyncClient, seconds: object
) -> None:
    found = await refused(http, "POST", "/clock/advance", {"seconds": seconds})
    assert found[0] == 400
    assert "seconds must be" in found[1]


# Logs.


async def test_the_request_log_is_filtered(http: httpx.AsyncClient) -> None:
    await create(http)
    await http.get("/v1/me")
    await http.get("/v1/generations/nobody")
    rows = (await ask(http, "GET", "/requests"))["requests"]
    assert [row["path"] for row in rows] == [
        "/v1/generations",
        "/v1/me",
        "/v1/generations/nobody",
    ]

    async def numbers(query: str) -> list[int]:
        found = (await ask(http, "GET", f"/requests?{query}"))["requests"]
        return [row["number"] for row in found]

    assert await numbers("method=GET") == [2, 3]
    assert await numbers("path=/v1/generations*") == [1, 3]
    assert await numbers("status=404&code=NOT_FOUND") == [3]
    assert await numbers("since=1&limit=1") == [3]
    assert await numbers("counted=true") == [1, 2, 3]
    assert (await refused(http, "GET", "/requests?verb=GET"))[0] == 400


async def test_the_request_log_masks_keys(http: httpx.AsyncClient) -> None:
    await http.get("/v1/me")
    (row,) = (await ask(http, "GET", "/requests"))["requests"]
    assert row["headers"]["x-api-key"] == "****"


async def test_the_ledger_names_track_and_request(http: httpx.AsyncClient) -> None:
    ids = [(await create(http)).json()["data"]["id"] for _ in range(2)]
    rows = (await ask(http, "GET", "/ledger"))["ledger"]
    assert [(r["track"], r["request"], r["balance"]) for r in rows] == [
        (ids[0], 1, 1999),
        (ids[1], 2, 1998),
    ]
    rows = (await ask(http, "GET", f"/ledger?track={ids[1]}"))["ledger"]
    assert [row["number"] for row in rows] == [2]


# The document, and what is not there.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the same on each loop
async def test_the_document_is_valid_openapi(http: httpx.AsyncClient) -> None:
    found = await ask(http, "GET", "/openapi.json")
    check_document(found)
    assert "/v1/generations/{id}" in found["paths"]
    assert "/_emulator/clock/advance" in found["paths"]


async def test_a_path_that_is_not_there_says_so(emulator: Emulator) -> None:
    async with connect(emulator) as http:
        answer = await http.delete("/_emulator/state")
        assert answer.status_code == 404
        message = answer.json()["error"]["message"]
        assert message.startswith("DELETE /_emulator/state is not part")
        answer = await http.post("/_emulator/reset", content=b"{")
        assert answer.status_code == 400


async def test_the_control_api_is_hit_by_no_fault_and_no_limit(
    http: httpx.AsyncClient,
) -> None:
    await ask(http, "POST", "/faults", {"action": "status", "times": None})
    for _ in range(70):
        await ask(http, "GET", "/state")
    assert (await ask(http, "GET", "/requests"))["requests"] == []
