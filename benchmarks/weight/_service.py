"""A service that costs next to nothing: rows in a dict, no network, nothing refused.

It stands in for httpcore's network, so that what is measured is the client with all
that it sends through. The processor's time that it takes itself is counted, to be taken
off.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import anyio
import attrs
import httpcore
import httpx

from benchmarks.calls.server import GENERATION

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "ft_live_" + "0" * 32
BASE_URL: Final = "http://localhost:9"
PROMPT: Final = str(GENERATION["data"]["prompt"])
ROUND_TRIP: Final = 0.05
"""Seconds of the loop's clock between a request and its response."""

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
        """All tracks; those reported as completed need not be kept."""
        rows = [self.seen(track, now) for track in reversed(self.tracks)]
        self.tracks = {
            track: known
            for track, known in self.tracks.items()
            if known[0] + TRACK_TAKES > now
        }
        return {"generations": rows, "hasMore": False, "nextOffset": None}


@attrs.define(eq=False)
class Service:
    """The service; stands in for a backend of httpcore.

    Attributes:
        delay: Seconds of the loop's clock that a response takes.
        requests: Answered so far.
        cpu: Seconds of the processor spent here, not in the client.
    """

    delay: float = ROUND_TRIP
    requests: int = 0
    cpu: float = 0.0
    _numbers: Any = attrs.Factory(count)
    _accounts: dict[str, _Account] = attrs.Factory(dict)

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(self)

    def respond(self, request: bytes) -> bytes:
        """Answer a request whose head and body are there."""
        began = time.process_time()
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        names = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in names}
        account = self._accounts.setdefault(headers["x-api-key"], _Account())
        last = target.partition("?")[0].rpartition("/")[2]
        response = self._respond(account, method, last, body)
        self.requests += 1
        self.cpu += time.process_time() - began
        return response

    def _respond(self, account: _Account, method: str, last: str, body: bytes) -> bytes:
        now = anyio.current_time()
        if method == "POST":
            track = f"track-{next(self._numbers)}"
            account.tracks[track] = now, json.loads(body)["seed"]
            data = account.seen(track, now)
            return _response("202 Accepted", data, 10, account.remaining(10, now))
        page = last == "generations"
        data = account.page(now) if page else account.seen(last, now)
        return _response("200 OK", data, 60, account.remaining(60, now))


@attrs.define(eq=False)
class _Stream(httpcore.AsyncNetworkStream):
    """A connection; the body of a request comes in the write after its head."""

    service: Service
    sent: bytes = b""
    to_come: bytes = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self.sent:
            await anyio.sleep(self.service.delay)
            request, self.sent = self.sent, b""
            self.to_come = self.service.respond(request)
        part, self.to_come = self.to_come[:max_bytes], self.to_come[max_bytes:]
        return part

    async def aclose(self) -> None:
        self.to_come = b""

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None


@contextmanager
def in_memory(service: Service) -> Iterator[None]:
    """Let httpcore find the service wherever it connects to."""
    pools = "httpcore._async.connection_pool"
    with mock.patch(f"{pools}.AutoBackend", return_value=service):
        yield


def httpx_client(service: Service) -> httpx.AsyncClient:
    """A bare httpx client of it."""
    transport = httpx.AsyncHTTPTransport()
    transport._pool._network_backend = service  # type: ignore[assignment] # noqa: SLF001 - httpx has no option for it
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL)


def _row(track: str, status: str, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = GENERATION["data"]
    parameters = {**row["parameters"], "seed": seed}
    return {**row, "id": track, "status": status, "parameters": parameters}


def _response(status: str, data: dict[str, Any], limit: int, remaining: int) -> bytes:
    body = json.dumps({"data": data}).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        "Date: Mon, 02 Mar 2026 18:05:00 GMT\r\n"
        f"X-RateLimit-Limit: {limit}\r\nX-RateLimit-Remaining: {remaining}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
