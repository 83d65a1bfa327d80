"""A service that costs next to nothing: rows in a dict, no network, nothing refused.

It stands behind `httpx.AsyncBaseTransport`, so that what is measured is the client and
httpx above it. The processor's time that it takes itself is counted, to be taken off.
"""

from __future__ import annotations

import json
import time
from itertools import count
from typing import Any, Final

import anyio
import attrs
import httpx

from benchmarks.calls.server import GENERATION

KEY: Final = "ft_live_" + "0" * 32
BASE_URL: Final = "https://service.invalid"
PROMPT: Final = str(GENERATION["data"]["prompt"])
ROUND_TRIP: Final = 0.05
"""Seconds of the loop's clock between a request and its answer."""

TRACK_TAKES: Final = 31.0
"""Seconds of the loop's clock; five at a time stay below ten creates a minute."""

PER: Final = 60.0
"""Seconds of a window; the same for all accounts."""


@attrs.define(eq=False)
class _Account:
    """What the service knows of one key: tracks with their start and seed, counts."""

    tracks: dict[str, tuple[float, int]] = attrs.Factory(dict)
    counted: dict[int, tuple[float, int]] = attrs.Factory(dict)

    def remaining(self, limit: int, now: float) -> int:
        """Count a request in the window of now; what is left of it."""
        window, counted = self.counted.get(limit, (now, 0))
        counted = 1 if window // PER != now // PER else counted + 1
        self.counted[limit] = now, counted
        return limit - counted

    def seen(self, track: str, now: float) -> dict[str, Any]:
        """A track as it is now; one that is not known was completed long ago."""
        start, seed = self.tracks.get(track, (-TRACK_TAKES, 7))
        done = start + TRACK_TAKES <= now
        return _row(track, "completed" if done else "processing", seed)

    def page(self, now: float) -> dict[str, Any]:
        """All tracks; those that are told as completed need not be kept."""
        rows = [self.seen(track, now) for track in reversed(self.tracks)]
        self.tracks = {
            track: known
            for track, known in self.tracks.items()
            if known[0] + TRACK_TAKES > now
        }
        return {"generations": rows, "hasMore": False, "nextOffset": None}


@attrs.define(eq=False)
class Service(httpx.AsyncBaseTransport):
    """The service.

    Attributes:
        delay: Seconds of the loop's clock that an answer takes.
        requests: Answered so far.
        cpu: Seconds of the processor spent here, not in the client.
    """

    delay: float = ROUND_TRIP
    requests: int = 0
    cpu: float = 0.0
    _numbers: Any = attrs.Factory(count)
    _accounts: dict[str, _Account] = attrs.Factory(dict)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer after a while."""
        if self.delay:
            await anyio.sleep(self.delay)
        began = time.process_time()
        account = self._accounts.setdefault(request.headers["X-API-Key"], _Account())
        response = self._answer(account, request, anyio.current_time())
        self.requests += 1
        self.cpu += time.process_time() - began
        return response

    def _answer(
        self, account: _Account, request: httpx.Request, now: float
    ) -> httpx.Response:
        if request.method == "POST":
            track = f"track-{next(self._numbers)}"
            account.tracks[track] = now, json.loads(request.content)["seed"]
            return _response(202, account.seen(track, now), 10, account, now)
        last = request.url.path.rpartition("/")[2]
        seen = account.page if last == "generations" else None
        data = seen(now) if seen is not None else account.seen(last, now)
        return _response(200, data, 60, account, now)


def _row(track: str, status: str, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = GENERATION["data"]
    parameters = {**row["parameters"], "seed": seed}
    return {**row, "id": track, "status": status, "parameters": parameters}


def _response(
    status: int, data: dict[str, Any], limit: int, account: _Account, now: float
) -> httpx.Response:
    return httpx.Response(
        status,
        headers={
            "Content-Type": "application/json",
            "Date": "Mon, 02 Mar 2026 18:05:00 GMT",
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(account.remaining(limit, now)),
        },
        content=json.dumps({"data": data}),
    )
