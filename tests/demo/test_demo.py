"""The demo without a browser: songs in the background, routes, refused requests."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import AsyncClient, GenerationRequest, RateLimitError
from finetuning_async.demo import Studio, create_app
from finetuning_async.demo._studio import MAX_OPEN, MAX_SONGS
from finetuning_async.emulator import Emulator
from tests._emulated_client import SONG, emulated, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@asynccontextmanager
async def page(client: AsyncClient) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser of the demo; its lifespan runs."""
    app = create_app(client, service="emulator")
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8788"
        ) as browser:
            yield browser


async def until_ended(studio: Studio) -> None:
    async with aclosing(studio.events()) as events:
        async for _ in events:
            if studio.songs and all(song.is_final for song in studio.songs.values()):
                return


async def test_a_song_is_made_played_and_downloaded() -> None:
    async with emulated() as (_, client), page(client) as browser:
        fields = {"tags": "rain", "duration": 10}
        created = await browser.post("/api/songs", json=fields)
        assert created.status_code == 202
        path = f"/api/songs/{created.json()['key']}/audio"
        assert (await browser.get(path)).status_code == 404
        await anyio.sleep(130)
        played = await browser.get(path, headers={"Range": "bytes=0-99"})
        assert (played.status_code, len(played.content)) == (206, 100)
        assert played.headers["content-type"] == "audio/mpeg"
        saved = await browser.get(path, params={"download": True})
        assert 'attachment; filename="rain-' in saved.headers["content-disposition"]
        assert saved.content == SONG


async def test_each_browser_has_a_share_and_waits_in_turn_with_others() -> None:
    async with emulated(short(queue_size=50)) as (emulator, client):
        async with page(client) as browser:
            for _ in range(10):
                await client.generations.create("before")
            assert (await browser.get("/")).cookies
            again = await browser.get("/")
            assert "set-cookie" not in again.headers
            for _ in range(3):
                await browser.post("/api/songs", json={"tags": "greedy"})
            for cookies in ({"visitor": "x" * 22}, {"visitor": "forged; share"}, {}):
                browser.cookies.clear()
                headers = {"cookie": f"visitor={cookies.get('visitor', '')}"}
                fields = {"tags": "other"}
                await browser.post("/api/songs", json=fields, headers=headers)
            await anyio.sleep(120)
        tracks = sorted(emulator.tracks.values(), key=lambda track: track.created_at)
        waited = [track.prompt for track in tracks[10:]]
        # The two without a valid cookie have one share together.
        assert Counter(waited[:3]) == {"greedy": 1, "other": 2}
        assert Counter(waited[3:5]) == {"greedy": 1, "other": 1}


async def test_an_invalid_request_names_all_its_problems_and_costs_nothing() -> None:
    async with emulated() as (emulator, client), page(client) as browser:
        fields = {"tags": " ", "duration": 4, "bpm": 500}
        response = await browser.post("/api/songs", json=fields)
        assert response.status_code == 422
        assert set(response.json()["problems"]) == {"tags", "duration", "bpm"}
        assert emulator.ledger == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"tags": "x"}', "text/plain", 415),
        (b"tags=x", "application/x-www-form-urlencoded", 415),
        (b"not json", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"tags":' * 8_000, "application/json", 400),
        (b'{"bpm": ' + b"9" * 5_000 + b"}", "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b'{"tags": "' + b"x" * 100_000 + b'"}', "application/json", 413),
        (b'{"tags": "x", "webhook": "https://me.example"}', "application/json", 400),
    ],
)
async def test_requests_that_a_foreign_site_could_send_are_refused(
    body: bytes, kind: str, status: int
) -> None:
    async with emulated() as (emulator, client), page(client) as browser:
        headers = {"content-type": kind}
        response = await browser.post("/api/songs", content=body, headers=headers)
        assert response.status_code == status
        foreign = {"content-type": "application/json", "host": "evil.example"}
        response = await browser.post("/api/songs", content=body, headers=foreign)
        assert response.status_code == 400
        assert emulator.ledger == []


async def test_the_page_and_its_files_are_served_and_name_no_other_host() -> None:
    async with emulated() as (_, client), page(client) as browser:
        html = await browser.get("/")
        assert "default-src 'self'" in html.headers["content-security-policy"]
        for path in ("studio.js", "wave.js", "style.css", "icon.svg"):
            part = await browser.get(f"/page/{path}")
            assert part.status_code == 200
            links = part.text.replace("http://www.w3.org/2000/svg", "")
            assert "//" not in links.replace("// ", "")
        assert "http" not in html.text
        assert (await browser.get("/favicon.ico")).status_code == 200
        assert (await browser.get("/api/service")).json() == {"service": "emulator"}
        assert (await browser.get("/docs")).status_code == 404


async def test_a_song_that_waits_has_a_place_in_line_and_an_expected_end(
    tmp_path: Path,
) -> None:
    service = Emulator(queue_size=30, generation_time=(50, 50))
    async with emulated(service) as (_, client):
        async with Studio(client, tmp_path).open() as studio:
            for number in range(12):
                studio.make(GenerationRequest(f"song {number}"))
                await anyio.sleep(0.5)
            last, before, made, *_ = studio.snapshot()["songs"]
            assert [last["line"]["before"], before["line"]["before"]] == [1, 0]
            assert 50 < last["line"]["starts_in"] < 60
            assert 120 < last["ready_in"] < 130
            assert (last["done"], made["line"]) == (None, None)
            assert 60 < made["ready_in"] < 70
            assert 0 < made["done"] < 0.1
            assert 50 < studio.meters()["starts_in"] < 60
            await anyio.sleep(60)
            last, *_, first = studio.snapshot()["songs"]
            assert (first["status"], first["ready_in"]) == ("completed", None)
            # By now it is known that songs take 50 s.
            assert 40 < last["ready_in"] < 50
            assert studio.meters()["starts_in"] == 0


async def test_all_pages_get_the_same_songs_and_meters(tmp_path: Path) -> None:
    async def first(studio: Studio) -> dict[str, Any]:
        async with aclosing(studio.events()) as events:
            found = [await anext(events), await anext(events)]
        return {str(event.event): json.loads(str(event.data)) for event in found}

    async with emulated() as (_, client):
        async with Studio(client, tmp_path).open() as studio:
            studio.make(GenerationRequest("x", duration=20))
            assert (await first(studio))["songs"]["songs"][0]["status"] == "waiting"
            await anyio.sleep(5)
            one, other = await first(studio), await first(studio)
            assert one["songs"]["songs"] == other["songs"]["songs"]
            (song,) = one["songs"]["songs"]
            assert (song["status"], song["length"]) == ("processing", 20)
            assert 4 < song["elapsed"] < 7
            assert one["meters"]["credits"] == 1999
            assert one["meters"]["creates"]["available"] == 9


async def test_songs_are_made_without_an_open_page_and_a_new_page_shows_all(
    tmp_path: Path,
) -> None:
    async with emulated() as (emulator, client):
        async with Studio(client, tmp_path).open() as studio:
            for number in range(12):
                studio.make(GenerationRequest(f"song {number}"))
            await anyio.sleep(600)
            shown = studio.snapshot()["songs"]
            assert [song["status"] for song in shown] == ["completed"] * 12
            assert shown[0]["prompt"] == "song 11"
            assert len(emulator.ledger) == 12
            assert studio.credits == 2000 - 12
        assert emulator.count(status=429, code="RATE_LIMITED") == 0


async def test_a_restart_shows_earlier_tracks_and_follows_those_in_progress(
    tmp_path: Path,
) -> None:
    async with emulated() as (_, client):
        done = await client.generate("done")
        running = await client.generations.create("running")
        async with Studio(client, tmp_path).open() as studio:
            await anyio.sleep(1)
            assert list(studio.songs) == [done.id, running.id]
            await until_ended(studio)
            assert studio.songs[running.id].status == "completed"


async def test_a_failed_song_shows_why(tmp_path: Path) -> None:
    async with emulated(short(failure_rate=1.0)) as (_, client):
        async with Studio(client, tmp_path).open() as studio:
            song = studio.make(GenerationRequest("x"))
            await until_ended(studio)
            assert song.status == "failed"
            assert song.to_json(0.0)["error"]


async def test_a_refused_song_shows_why(tmp_path: Path) -> None:
    async with emulated(Emulator(credits=0)) as (_, client):
        async with Studio(client, tmp_path).open() as studio:
            song = studio.make(GenerationRequest("x"))
            await until_ended(studio)
            assert song.status == "failed"
            assert song.to_json(0.0)["error"] == "This server is out of credits."


async def test_the_number_of_songs_is_bounded(tmp_path: Path) -> None:
    async with emulated(short(queue_size=99, creates_per_minute=99)) as (_, client):
        async with Studio(client, tmp_path).open() as studio:
            for _ in range(3):
                for _ in range(MAX_OPEN):
                    studio.make(GenerationRequest("x"))
                with pytest.raises(RateLimitError):
                    studio.make(GenerationRequest("x"))
                await anyio.sleep(400)
            assert len(studio.songs) == MAX_SONGS


async def test_closing_the_studio_ends_its_event_streams(tmp_path: Path) -> None:
    async with emulated() as (_, client), anyio.create_task_group() as group:
        studio = Studio(client, tmp_path)

        async def follow() -> None:
            async for _ in studio.events():
                pass

        group.start_soon(follow)
        await anyio.sleep(1)
        studio.close()
