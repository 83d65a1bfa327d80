"""`tracks_router`: the tracks of end users, each user's own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request

from finetuning_async import AsyncClient, InvalidRequestError
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.fastapi import (
    add_exception_handlers,
    client_lifespan,
    tracks_router,
)
from tests._client_journals import MemoryJournal
from tests._emulated_client import emulated, short
from tests.fastapi.test_fastapi import browser_of, events_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CREATE = "/v1/generations"
RAIN = {"tags": "rain", "duration": 5}


def owner_of(request: Request) -> str:
    user = request.headers.get("x-user")
    if user is None:
        raise HTTPException(401)
    return user


def new_app(owner: Any = owner_of, **options: Any) -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)
    app.include_router(tracks_router(owner, **options))
    return app


@asynccontextmanager
async def served(
    emulator: Emulator | None = None,
    *,
    journal: MemoryJournal | None = None,
    app: FastAPI | None = None,
    **options: Any,
) -> AsyncGenerator[tuple[Emulator, httpx.AsyncClient, AsyncClient]]:
    """An emulator, a browser of Ann's, and the application's client."""
    journal = MemoryJournal() if journal is None else journal
    async with emulated(emulator, journal=journal, **options) as (service, client):
        async with running(app or new_app(), client) as browser:
            yield service, browser, client


@asynccontextmanager
async def running(
    app: FastAPI, client: AsyncClient
) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_lifespan(lambda: client)(app) as state:
        async with browser_of(app, state) as browser:
            browser.headers["x-user"] = "ann"
            yield browser


def by(user: str, key: str | None = None) -> dict[str, str]:
    named = {} if key is None else {"Idempotency-Key": key}
    return {"x-user": user, **named}


async def ask(
    browser: httpx.AsyncClient, key: str, user: str = "ann", **body: Any
) -> httpx.Response:
    return await browser.post("/tracks", json=RAIN | body, headers=by(user, key))


async def ended(browser: httpx.AsyncClient, key: str) -> dict[str, Any]:
    """The track at the end of its stream."""
    events = events_of((await browser.get(f"/tracks/{key}/events")).text)
    name, data = events[-1]
    assert name == "state"
    assert isinstance(data, dict)
    return data


async def test_a_track_is_asked_for_followed_heard_and_listed() -> None:
    async with served() as (emulator, browser, client):
        response = await ask(browser, "k1")
        assert response.status_code == 202
        assert response.headers["location"] == "/tracks/k1"
        asked = response.json()
        assert (asked["key"], asked["status"]) == ("k1", "pending")
        assert asked["progress"]["expected"] == 70.0
        events = events_of((await browser.get("/tracks/k1/events")).text)
        names = [name for name, _ in events]
        assert names[0] == names[-1] == "state"
        assert names.count("progress") >= 10
        fractions = [data["fraction"] for name, data in events if name == "progress"]
        assert fractions == sorted(fractions)
        assert 0 < fractions[-1] < 1
        final = events[-1][1]
        assert (final["status"], final["is_final"]) == ("completed", True)
        assert final["progress"] is None
        read = (await browser.get("/tracks/k1")).json()
        assert read == final
        assert (await browser.get(f"/tracks/{final['id']}")).json() == final
        assert (await browser.get("/tracks")).json() == {"items": [final], "next": None}
        audio = await browser.get("/tracks/k1/audio")
        assert audio.headers["content-type"] == "audio/mpeg"
        async with httpx.AsyncClient(transport=emulator.transport()) as listener:
            assert audio.content == (await listener.get(final["audio_url"])).content
        entry = await client.journal.get("ann:k1")
        assert entry is not None
        assert (entry.share, entry.generation_id) == ("ann", final["id"])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"kind": "instrumental", "prompt": "wind", "duration": 30}, "instrumental"),
        ({"kind": "sound_effect", "prompt": "a door"}, "sound_effect"),
    ],
)
async def test_the_other_kinds_are_made_as_well(body: Any, kind: str) -> None:
    async with served() as (_, browser, _):
        response = await browser.post("/tracks", json=body, headers=by("ann", "k"))
        assert response.json()["kind"] == kind
        assert (await ended(browser, "k"))["status"] == "completed"
        assert (await browser.get("/tracks/k/audio")).status_code == 200


async def test_the_same_key_is_the_same_track_and_paid_once() -> None:
    async with served() as (emulator, browser, _):
        results: list[str] = []

        async def once() -> None:
            results.append((await ask(browser, "k")).json()["id"])

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(once)
        await ended(browser, "k")
        again = await ask(browser, "k")
        assert (again.status_code, again.json()["status"]) == (202, "completed")
        assert set(results) == {again.json()["id"]}
        assert len(emulator.ledger) == 1


async def test_the_same_key_of_two_owners_is_two_tracks() -> None:
    async with served() as (emulator, browser, _):
        ann = (await ask(browser, "k")).json()
        bob = (await ask(browser, "k", "bob", tags="wind")).json()
        assert ann["id"] != bob["id"]
        assert (ann["prompt"], bob["prompt"]) == ("rain", "wind")
        assert len(emulator.ledger) == 2


async def test_nobody_reads_what_is_not_theirs() -> None:
    async with served() as (emulator, browser, _):
        track = (await ask(browser, "k")).json()
        await ended(browser, "k")
        before = len(emulator.requests)
        for name in ("k", track["id"], "ann:k", "other"):
            for path in ("", "/events", "/audio"):
                url = f"/tracks/{name}{path}"
                response = await browser.get(url, headers=by("bob"))
                assert response.status_code == 404, url
                assert response.json()["error"]["code"] == "not_found"
        listed = await browser.get("/tracks", headers=by("bob"))
        assert listed.json() == {"items": [], "next": None}
        cursor = await browser.get("/tracks?before=k", headers=by("bob"))
        assert cursor.status_code == 422
        assert len(emulator.requests) == before


async def test_other_content_under_a_known_key_is_a_409() -> None:
    async with served() as (emulator, browser, _):
        await ask(browser, "k")
        response = await ask(browser, "k", tags="wind")
        assert response.status_code == 409
        assert response.json()["error"]["code"] == "idempotency_conflict"
        assert len(emulator.ledger) == 1


async def test_without_a_key_each_request_is_a_track_of_its_own() -> None:
    async with served() as (emulator, browser, _):
        found = [await browser.post("/tracks", json=RAIN) for _ in "12"]
        keys = [response.json()["key"] for response in found]
        assert len(set(keys)) == 2
        assert (await browser.get(f"/tracks/{keys[0]}")).status_code == 200
        assert len(emulator.ledger) == 2


async def test_whoever_the_hook_does_not_let_in_gets_nothing() -> None:
    async with served() as (emulator, browser, _):
        del browser.headers["x-user"]
        for method, path in (
            ("POST", ""),
            ("GET", ""),
            ("GET", "/k"),
            ("GET", "/k/events"),
            ("GET", "/k/audio"),
            ("HEAD", "/k/audio"),
        ):
            response = await browser.request(method, f"/tracks{path}", json=RAIN)
            assert response.status_code == 401
        assert emulator.requests == []


@pytest.mark.parametrize("nobody", [None, ""])
async def test_a_hook_that_returns_nothing_lets_nobody_in(nobody: Any) -> None:
    async with served(app=new_app(lambda: nobody)) as (_, browser, _):
        assert (await ask(browser, "k")).status_code == 401


async def test_a_hook_that_returns_no_text_is_a_programming_error() -> None:
    async with served(app=new_app(lambda: 42)) as (_, browser, _):
        with pytest.raises(TypeError, match="as a str, got 42"):
            await ask(browser, "k")


async def test_the_owner_hook_must_be_given() -> None:
    with pytest.raises(TypeError, match="owner"):
        tracks_router()  # type: ignore[call-arg]


async def test_a_client_without_a_journal_is_a_programming_error() -> None:
    async with emulated() as (_, client), running(new_app(), client) as browser:
        with pytest.raises(RuntimeError, match="needs a client with a journal"):
            await ask(browser, "k")


async def test_the_line_is_shown_while_a_create_waits() -> None:
    async with served(short(queue_size=100)) as (emulator, browser, _):
        for number in range(10):
            await ask(browser, f"k{number}", "bob")
        waits = await ask(browser, "late")
        assert waits.status_code == 202
        shown = waits.json()
        assert (shown["status"], shown["id"]) == ("waiting", None)
        assert shown["prompt"] == "rain"
        assert shown["line"]["position"] == 0
        assert 40 < shown["line"]["starts_in"] < 60
        assert 100 < shown["line"]["ends_in"] < 130
        also = await ask(browser, "later")
        assert also.json()["line"]["position"] == 1
        assert len(emulator.ledger) == 10
        text = (await browser.get("/tracks/later/events")).text
        events = events_of(text)
        waiting = [data["line"] for name, data in events if name == "waiting"]
        assert waiting[0]["position"] == 1
        assert waiting[-1]["starts_in"] < 3
        assert events[-1][1]["status"] == "completed"
        assert len(emulator.ledger) == 12


async def test_what_waits_is_made_by_the_next_process_after_a_stop() -> None:
    journal, app = MemoryJournal(), new_app()
    service = short(creates_per_minute=1)
    async with (
        service,
        httpx.AsyncClient(transport=service.transport()) as http,
    ):
        options: dict[str, Any] = {"http_client": http, "journal": journal}
        options |= {"base_url": service.base_url}
        client = AsyncClient(service.api_key, **options)
        async with running(app, client) as browser:
            await ask(browser, "k1")
            assert (await ask(browser, "k2")).json()["status"] == "waiting"
        assert journal.states() == {"ann:k1": "accepted", "ann:k2": "planned"}
        again = AsyncClient(service.api_key, **options)
        async with running(app, again) as browser:
            # A reload is enough: the browser asks for nothing anew.
            listed = (await browser.get("/tracks")).json()["items"]
            assert [item["key"] for item in listed] == ["k2", "k1"]
            for key in ("k1", "k2"):
                assert (await ended(browser, key))["status"] == "completed"
            assert len(service.ledger) == 2


async def test_a_stop_is_a_problem_event_and_loses_nothing() -> None:
    journal = MemoryJournal()
    service = short(creates_per_minute=1)
    async with served(service, journal=journal) as (_, browser, client):
        await ask(browser, "k1")
        await ask(browser, "k2")
        found: list[Any] = []

        async def listen() -> None:
            response = await browser.get("/tracks/k2/events")
            found.extend(events_of(response.text))

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await anyio.sleep(1)
            await client._end_calls(0.0)
        name, data = found[-1]
        assert (name, data["code"]) == ("problem", "closing")
        assert journal.states()["ann:k2"] == "planned"


async def test_a_browser_that_goes_away_amid_the_request_loses_nothing() -> None:
    journal = MemoryJournal()
    service = short(latency=(2.0, 2.0))
    async with served(service, journal=journal) as (_, browser, _):
        for seconds in (0.1, 1.0, 3.0):  # before the journal is open, and later
            with anyio.move_on_after(seconds):
                await ask(browser, "k")
            await anyio.sleep(1)
        await ask(browser, "k")
        assert (await ended(browser, "k"))["status"] == "completed"
        assert len(service.ledger) == 1


async def test_a_track_is_made_although_nobody_listens_any_more() -> None:
    journal = MemoryJournal()
    async with served(journal=journal) as (_, browser, _):
        await ask(browser, "k")
        with anyio.move_on_after(3):
            await browser.get("/tracks/k/events")
        await anyio.sleep(200)
        assert journal.states() == {"ann:k": "completed"}


async def test_what_the_journal_was_made_to_forget_is_made_anew() -> None:
    async with served() as (emulator, browser, client):
        first = (await ask(browser, "k")).json()
        await ended(browser, "k")
        await client.journal.forget("ann:k")
        second = (await ask(browser, "k")).json()
        assert second["id"] != first["id"]
        assert (await ended(browser, "k"))["id"] == second["id"]
        assert len(emulator.ledger) == 2


async def test_a_refused_create_says_why_and_leaves_nothing() -> None:
    journal = MemoryJournal()
    async with served(Emulator(credits=0), journal=journal) as (_, browser, _):
        response = await ask(browser, "k")
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "misconfigured"
        assert journal.states() == {}
        shown = (await browser.get("/tracks/k")).json()
        assert (shown["status"], shown["error"]["code"]) == ("failed", "misconfigured")


async def test_who_would_wait_too_long_is_refused_and_pays_nothing_later() -> None:
    journal = MemoryJournal()
    service = short(creates_per_minute=1)
    async with served(service, journal=journal, max_wait=5) as (_, browser, _):
        await ask(browser, "k1")
        response = await ask(browser, "k2")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "busy")
        assert int(response.headers["retry-after"]) > 40
        assert set(journal.states()) == {"ann:k1"}
        await anyio.sleep(120)
        assert (await ask(browser, "k2")).status_code == 202
        await ended(browser, "k2")
        assert len(service.ledger) == 2


async def test_a_lost_create_is_unknown_until_it_is_found() -> None:
    async with served() as (service, browser, _):
        service.add_fault(Fault("lost_after_commit", CREATE, method="POST"))
        response = await ask(browser, "k")
        assert response.status_code == 202
        assert (await ended(browser, "k"))["status"] == "completed"
        assert len(service.ledger) == 1


async def test_a_track_that_fails_says_why() -> None:
    async with served(short(failure_rate=1.0)) as (_, browser, _):
        await ask(browser, "k")
        final = await ended(browser, "k")
        assert (final["status"], final["is_final"]) == ("failed", True)
        assert final["error_message"]
        assert (await browser.get("/tracks/k/audio")).status_code == 409
        again = await ask(browser, "k")
        assert again.json()["status"] == "failed"


@pytest.mark.sampled(4)
@pytest.mark.parametrize("owner", ["a:b", "a/b", "a%3Ab", "ü", "x" * 300, "*", "a b"])
@pytest.mark.parametrize("key", ["k", "b:k", "x" * 255, "~" + "0" * 64])
async def test_odd_owners_and_keys_stay_apart(owner: str, key: str) -> None:
    current = [owner]

    def hook() -> str:
        return current[0]

    async with served(app=new_app(hook)) as (emulator, browser, _):
        track = (await ask(browser, key)).json()
        assert (await browser.get(f"/tracks/{track['key']}")).json()["id"] == track[
            "id"
        ]
        for other in ("a", "a:b:k", "A:B", "x" * 299, "x" * 301):
            if other == current[0]:
                continue
            mine, current[0] = current[0], other
            for name in (key, track["key"], track["id"], "k"):
                assert (await browser.get(f"/tracks/{name}")).status_code == 404
            current[0] = mine
        assert len(emulator.ledger) == 1


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "a/b", "a?b", "a#b", "a%2Fb", ".", "..", "x" * 256, "ü"]
)
async def test_a_key_that_no_path_can_hold_is_a_422(key: str) -> None:
    async with served() as (emulator, browser, _):
        headers = [(b"idempotency-key", key.encode())]
        response = await browser.post("/tracks", json=RAIN, headers=headers)
        assert response.status_code == 422
        assert response.json()["error"]["field"] == "Idempotency-Key"
        assert emulator.ledger == []


async def test_two_keys_in_one_request_are_a_422() -> None:
    async with served() as (_, browser, _):
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        response = await browser.post("/tracks", json=RAIN, headers=headers)
        assert response.status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tags": ""}, "tags"),
        ({"tags": "x", "bpm": 5}, "bpm"),
        ({"tags": "x", "bpm": "fast"}, "bpm"),
        ({"tags": "x", "seed": 1}, "seed"),
        ({"tags": "x", "webhook": "https://me.example"}, "webhook"),
        ({"kind": "noise", "prompt": "x"}, "the body"),
        ({"kind": "sound_effect", "prompt": "x" * 2001}, "prompt"),
        ([], "the body"),
    ],
)
async def test_an_invalid_body_is_a_422_that_names_the_field(
    body: Any, field: str
) -> None:
    journal = MemoryJournal()
    async with served(journal=journal) as (emulator, browser, _):
        response = await browser.post("/tracks", json=body, headers=by("ann", "k"))
        assert response.status_code == 422
        assert response.json()["error"]["field"] == field
        assert emulator.ledger == []


@pytest.mark.parametrize(
    "body", [b'{"tags": "\\ud800"}', b'{"tags": "x", "bpm": NaN}', b"{", b""]
)
async def test_a_body_that_is_no_clean_json_is_a_422(body: bytes) -> None:
    journal = MemoryJournal()
    async with served(journal=journal) as (_, browser, _):
        headers = by("ann", "k") | {"content-type": "application/json"}
        response = await browser.post("/tracks", content=body, headers=headers)
        assert response.status_code == 422
        assert response.json()["error"]["code"] == "invalid_request"
        assert journal.stores == {} or journal.states() == {}


async def test_a_form_of_a_foreign_site_makes_nothing() -> None:
    async with served() as (emulator, browser, _):
        headers = by("ann") | {"content-type": "text/plain"}
        body = b'{"tags": "x"}'
        response = await browser.post("/tracks", content=body, headers=headers)
        assert response.status_code == 422
        assert emulator.ledger == []


@pytest.mark.parametrize("wrong", [{"wait": -1.0}, {"timeout": "soon"}])
def test_what_the_router_is_told_is_checked_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError):
        tracks_router(owner_of, **wrong)


async def test_a_list_is_paged_newest_first() -> None:
    async with served(short(creates_per_minute=60)) as (_, browser, _):
        for number in range(5):
            await ask(browser, f"k{number}")
        keys, url = [], "/tracks?limit=2"
        while url:
            page = (await browser.get(url)).json()
            keys += [item["key"] for item in page["items"]]
            url = page["next"] and f"/tracks?limit=2&before={page['next']}"
        assert keys == ["k4", "k3", "k2", "k1", "k0"]
        for bad in ("limit=0", "limit=101", "before=nothing"):
            assert (await browser.get(f"/tracks?{bad}")).status_code == 422


async def test_a_browser_that_has_seen_the_end_gets_204() -> None:
    async with served() as (_, browser, _):
        await ask(browser, "k")
        headers = {"Last-Event-ID": "completed"}
        response = await browser.get("/tracks/k/events", headers=headers)
        assert response.status_code == 204


async def test_a_stream_ends_in_time_and_the_browser_connects_again() -> None:
    app = new_app(timeout=5.0)
    async with served(app=app) as (_, browser, _):
        await ask(browser, "k")
        events = events_of((await browser.get("/tracks/k/events")).text)
        assert events[-1][0] == "progress"
        assert 2 <= len(events) <= 5


RANGES = [
    ("bytes=0-9", 206, slice(0, 10)),
    ("bytes=10-", 206, slice(10, None)),
    ("bytes=-5", 206, slice(-5, None)),
    ("bytes=0-99999999", 206, slice(0, None)),
    ("bytes=-99999999", 206, slice(0, None)),
    ("bytes=99999999-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=9-3", 200, slice(None)),
    ("bytes=0-1,5-6", 200, slice(None)),
    ("bytes=-", 200, slice(None)),
    ("chunks=0-9", 200, slice(None)),
    ("", 200, slice(None)),
]


async def test_audio_is_passed_on_in_ranges() -> None:
    async with served() as (_, browser, _):
        await ask(browser, "k")
        await ended(browser, "k")
        whole = await browser.get("/tracks/k/audio")
        size = len(whole.content)
        for asked, status, part in RANGES:
            headers = {"Range": asked}
            response = await browser.get("/tracks/k/audio", headers=headers)
            assert response.status_code == status, asked
            if part is None:
                assert response.headers["content-range"] == f"bytes */{size}"
                continue
            assert response.content == whole.content[part], asked
            assert int(response.headers["content-length"]) == len(response.content)
            head = await browser.head("/tracks/k/audio", headers=headers)
            assert head.status_code == status
            assert head.content == b""
            assert head.headers["content-length"] == response.headers["content-length"]
        headers = {"Range": "bytes=0-9", "If-Range": '"some version"'}
        response = await browser.get("/tracks/k/audio", headers=headers)
        assert (response.status_code, response.content) == (200, whole.content)


async def test_the_openapi_document_names_the_models_and_no_secret() -> None:
    document = new_app().openapi()
    models = document["components"]["schemas"]
    assert models["OwnedTrackResponse"]["examples"]
    assert models["ErrorResponse"]["examples"]
    created = document["paths"]["/tracks"]["post"]
    assert set(created["responses"]) >= {"202", "401", "409", "422", "503"}
    assert created["parameters"][0]["name"] == "Idempotency-Key"
    for model in models.values():
        assert not {"webhook", "raw", "credits_remaining"} & set(
            model.get("properties", {})
        )
