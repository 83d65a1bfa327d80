"""A network between a client and the emulator that makes lists unreliable.

What it does to a list follows from one seed: it delays rows, drops and respells fields,
dates rows by a wrong clock, changes the order, and pages wrongly.
"""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import httpx

if TYPE_CHECKING:
    from finetuning_async.emulator import Emulator

CREATE: Final = "/v1/generations"
HOUR: Final = 3600.0
SKEWS: Final = (0.0, 0.0, 0.0, -4.0, 4.0, -600.0, -8 * HOUR, 8 * HOUR)
FIELDS: Final = (
    "no type",
    "other type",
    "no date",
    "odd date",
    "early date",
    "no prompt",
    "respelled",
    "other prompt",
    "seed as text",
    "no parameters",
)
PAGING: Final = (
    "right",
    "right",
    "no more, too early",
    "offset ignored",
    "first page for ever",
    "more for ever",
    "no next offset",
    "a row goes between pages",
    "shuffled at every page",
)


@attrs.frozen(kw_only=True)
class Oddities:
    """What is wrong with the lists of one schedule.

    Attributes:
        lag: Seconds by which lists lag behind.
        replicas: Lags of replicas of which one responds at random, instead.
        skew: Seconds that the dates of rows are ahead of the service's clock.
        fields: What may be wrong with a row.
        share: The share of rows with something wrong.
        newest_first: Whether lists are sorted so; else oldest first.
        page: Rows on a page at most.
        paging: How it pages.
        jumping: The share of responses whose `Date` is an hour ahead.
        not_found: The share of tracks whose first read by id is a 404.
    """

    lag: float
    replicas: tuple[float, ...]
    skew: float
    fields: tuple[str, ...]
    share: float
    newest_first: bool
    page: int
    paging: str
    jumping: float
    not_found: float

    @classmethod
    def of(cls, rng: random.Random) -> Oddities:
        """Draw them at random."""
        count = rng.choice([0, 0, 1, 1, 2, 4])
        return cls(
            lag=rng.choice([0.0, 0.0, 0.0, 4.0, 20.0, 45.0, 100.0]),
            replicas=rng.choice([(), (), (), (0.0, 20.0)]),
            skew=rng.choice(SKEWS),
            fields=tuple(rng.sample(FIELDS, count)),
            share=rng.choice([0.3, 1.0]),
            newest_first=rng.random() < 0.8,
            page=rng.choice([1, 2, 3, 5, 99, 99]),
            paging=rng.choice(PAGING),
            jumping=rng.choice([0.0, 0.0, 0.05]),
            not_found=rng.choice([0.0, 0.0, 0.5]),
        )


class StrangeLists(httpx.AsyncBaseTransport):
    """Sends requests to an emulator, and falsifies the lists in its responses.

    Args:
        emulator: The service.
        oddities: What is wrong with its lists.
        seed: For all its random choices.
    """

    def __init__(self, emulator: Emulator, oddities: Oddities, seed: int) -> None:
        self._emulator = emulator
        self._inner = emulator.transport()
        self._odd = oddities
        self._seed = seed
        self._rng = random.Random(seed)
        self._refused: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        path = request.url.path
        if request.method == "GET" and path == CREATE:
            return self._dated(await self._list(request))
        if request.method == "GET" and path.startswith(f"{CREATE}/"):
            track_id = path.rpartition("/")[2]
            if self._is_refused(track_id):
                error = {"code": "NOT_FOUND", "message": "not there, for once"}
                return httpx.Response(404, json={"error": error})
        return self._dated(await self._inner.handle_async_request(request))

    def _is_refused(self, track_id: str) -> bool:
        if track_id in self._refused:
            return False
        self._refused.add(track_id)
        return self._rng.random() < self._odd.not_found

    def _dated(self, response: httpx.Response) -> httpx.Response:
        if self._rng.random() < self._odd.jumping and "date" in response.headers:
            date = parsedate_to_datetime(response.headers["date"])
            ahead = format_datetime(date + timedelta(hours=1), usegmt=True)
            response.headers["date"] = ahead
        return response

    async def _list(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        everything = httpx.Request(
            "GET",
            request.url.copy_merge_params({"limit": "99", "offset": "0"}),
            headers=request.headers,
            extensions=request.extensions,
        )
        response = await self._inner.handle_async_request(everything)
        body = await response.aread()
        await response.aclose()
        if response.status_code == 200:
            rows = self._rows(json.loads(body)["data"]["generations"])
            data = self._page(rows, int(asked["limit"]), int(asked.get("offset", 0)))
            body = json.dumps({"data": data}).encode()
        headers = {"Date": response.headers["date"]}
        return httpx.Response(response.status_code, content=body, headers=headers)

    def _rows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lag = self._odd.lag
        if self._odd.replicas:
            lag = self._rng.choice(self._odd.replicas)
        until = anyio.current_time() - lag
        tracks = self._emulator.tracks
        shown = [row for row in rows if tracks[row["id"]].created_at <= until]
        if not self._odd.newest_first:
            shown.reverse()
        return [self._spoiled(row) for row in shown]

    def _spoiled(self, row: dict[str, Any]) -> dict[str, Any]:
        created = datetime.fromisoformat(row["createdAt"])
        row["createdAt"] = str(created + timedelta(seconds=self._odd.skew))
        rng = random.Random(f"{self._seed}/{row['id']}")
        for what in self._odd.fields:
            if rng.random() < self._odd.share:
                _spoil(row, what, created)
        return row

    def _page(
        self, rows: list[dict[str, Any]], limit: int, offset: int
    ) -> dict[str, Any]:
        paging, size = self._odd.paging, min(limit, self._odd.page)
        if paging == "shuffled at every page":
            self._rng.shuffle(rows)
        if paging == "a row goes between pages" and offset and len(rows) > size:
            rows.pop(self._rng.randrange(len(rows)))
        if paging in ("offset ignored", "first page for ever"):
            offset = 0
        found = rows[offset : offset + size]
        more = offset + size < len(rows)
        if paging == "no more, too early":
            more = False
        if paging in ("first page for ever", "more for ever"):
            more = True
        following = None if paging == "no next offset" else offset + len(found)
        return {"generations": found, "hasMore": more, "nextOffset": following}


def _spoil(row: dict[str, Any], what: str, created: datetime) -> None:
    if what == "no type":
        del row["type"]
    elif what == "other type":
        row["type"] = "instrumental"
    elif what == "no date":
        row["createdAt"] = None
    elif what == "odd date":
        row["createdAt"] = "yesterday"
    elif what == "early date":
        row["createdAt"] = str(created - timedelta(seconds=40))
    elif what == "no prompt":
        del row["prompt"]
    elif what == "respelled":
        row["prompt"] = f"{row.get('prompt', '')}, STUDIO QUALITY".upper()
    elif what == "other prompt":
        row["prompt"] = "what the service made of it"
    elif row.get("parameters") and what == "seed as text":
        row["parameters"]["seed"] = str(row["parameters"]["seed"])
    elif what == "no parameters":
        row["parameters"] = None
