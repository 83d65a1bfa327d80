"""A service of a few lines, of which a test can decide every response.

It is not the emulator: a test of the poll loop has to hold a response back, to spoil
it, or to change a track at an instant of its choice.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import httpx

from finetuning_async import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from finetuning_async._polling._poller import Poller

KEY = "ft_live_" + "0" * 32
FIRST_PAGE = "/v1/generations?limit=99&offset=0"
EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@attrs.define(eq=False)
class Track:
    """One track; times are on the loop's clock."""

    id: str
    created_at: float
    ends_at: float
    end: str = "completed"
    running: str = "processing"
    is_listed: bool = True

    @property
    def status(self) -> str:
        return self.end if anyio.current_time() >= self.ends_at else self.running

    def row(self) -> dict[str, Any]:
        done = self.status == "completed"
        return {
            "id": self.id,
            "status": self.status,
            "prompt": "x",
            "type": "music",
            "audioUrl": f"https://media.finetuning.ai/{self.id}.mp3" if done else None,
            "createdAt": f"{_wall(self.created_at):%Y-%m-%d %H:%M:%S}",
            "completedAt": _wall(self.ends_at).isoformat() if done else None,
        }

    def detail(self) -> dict[str, Any]:
        failed = self.status == "failed"
        return {**self.row(), "errorMessage": "out of time" if failed else None}


class ScriptedService(httpx.AsyncBaseTransport):
    """Tracks, and a log of the requests for them.

    Attributes:
        tracks: By id, oldest first.
        log: When each request arrived, and its path with the query.
        delay: Seconds each way.
        filters: Whether lists filter by ``status``.
        intercept: Awaited with each request; its result is the response, unless `None`.
    """

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
        self.log: list[tuple[float, str]] = []
        self.delay = 0.05
        self.filters = True
        self.intercept: Callable[[httpx.Request], Awaitable[httpx.Response | None]]
        self.intercept = _stay_out

    def add(self, track_id: str, ends_in: float, **more: Any) -> Track:
        now = anyio.current_time()
        track = Track(track_id, now, now + ends_in, **more)
        self.tracks[track_id] = track
        return track

    @property
    def pages(self) -> list[str]:
        """The pages of the list that were read."""
        return [path for _, path in self.log if "?" in path]

    @property
    def singles(self) -> list[str]:
        """The ids that were read one by one."""
        return [path.rpartition("/")[2] for _, path in self.log if "?" not in path]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(self.delay)
        self.log.append((anyio.current_time(), request.url.raw_path.decode()))
        response = await self.intercept(request) or self._respond(request)
        await anyio.sleep(self.delay)
        return response

    def _respond(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            track = self.add(f"track-{len(self.tracks)}", 30.0)
            body = json.loads(request.content)
            return reply({**track.row(), "parameters": {"seed": body.get("seed")}}, 202)
        if "limit" in request.url.params:
            return self._page(request.url.params)
        found = self.tracks.get(request.url.path.rpartition("/")[2])
        return refusal(404, "NOT_FOUND") if found is None else reply(found.detail())

    def _page(self, params: httpx.QueryParams) -> httpx.Response:
        rows = [t.row() for t in reversed(self.tracks.values()) if t.is_listed]
        if self.filters and "status" in params:
            rows = [row for row in rows if row["status"] == params["status"]]
        start = int(params["offset"])
        end = start + int(params["limit"])
        return reply(
            {
                "generations": rows[start:end],
                "hasMore": end < len(rows),
                "nextOffset": min(end, len(rows)),
            }
        )


async def _stay_out(request: httpx.Request) -> httpx.Response | None:
    return None


def reply(data: Any, status: int = 200) -> httpx.Response:
    """A successful response."""
    date = f"{_wall(anyio.current_time()):%a, %d %b %Y %H:%M:%S GMT}"
    return httpx.Response(status, json={"data": data}, headers={"Date": date})


def refusal(
    status: int, code: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    """An error in the service's own form."""
    error = {"error": {"code": code, "message": code.lower()}}
    return httpx.Response(status, json=error, headers=headers)


def _wall(moment: float) -> datetime:
    return EPOCH + timedelta(seconds=moment)


@asynccontextmanager
async def scripted_service(
    **options: Any,
) -> AsyncGenerator[tuple[ScriptedService, AsyncClient]]:
    """A scripted service and a client of it."""
    service = ScriptedService()
    async with httpx.AsyncClient(transport=service) as http:
        options = {"base_url": "https://studio.test", **options}
        async with AsyncClient(KEY, http_client=http, **options) as client:
            yield service, client


def poller_of(client: AsyncClient) -> Poller:
    """The poll loop of a client."""
    return client._session().account.poller


async def wait_for_all(client: AsyncClient, *ids: str, **options: Any) -> list[Any]:
    """Wait for several at once; return states or errors, in the order of the ids."""
    ends: dict[str, Any] = {}

    async def one(track_id: str) -> None:
        try:
            ends[track_id] = await client.wait_for_completion(track_id, **options)
        except Exception as error:
            ends[track_id] = error

    async with anyio.create_task_group() as group:
        for track_id in ids:
            group.start_soon(one, track_id)
    return [ends[track_id] for track_id in ids]


def assert_nothing_left(client: AsyncClient) -> None:
    """Check that no waiter, watched track or deadline is left."""
    poller = poller_of(client)
    assert poller._driver is None
    assert len(poller._reads) == 0
    assert not poller._idle_waiters
    assert len(poller._watch_list) == 0
    assert len(poller._watch_list._deadlines) == 0
