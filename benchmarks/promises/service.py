"""Services on this machine that count: one of each SDK's kind, and the emulator."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from benchmarks.calls.peers import KEY
from finetuning_async.emulator import Emulator, Fault, serve as serve_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.promises.clients import Client

ALLOWED: Final = 10
PER: Final = 4


class Service(Protocol):
    """What was asked of a service.

    Attributes:
        url: Where it is.
    """

    url: str

    @property
    def accepted(self) -> int:
        """Creates that it accepted, and would charge."""

    @property
    def refused(self) -> int:
        """Requests that it refused with a 429."""

    @property
    def reads(self) -> int:
        """All other requests."""

    def track(self, number: int) -> str:
        """The id of a track in progress."""


class Peer:
    """A service that accepts every POST, and whose tracks never end."""

    def __init__(self, client: Client, loses: int, *, limited: bool) -> None:
        self.url = ""
        self.accepted = self.refused = self.reads = 0
        self._client = client
        self._loses = loses
        self._limited = limited
        self._window: tuple[float, int] = (0.0, 0)

    def track(self, number: int) -> str:
        """Any id."""
        return f"track-{number}"

    async def handle(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection."""
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                await _read_rest(reader)
                response = self._respond(method, path)
                if response is None:
                    break
                writer.write(response)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    def _respond(self, method: str, path: str) -> bytes | None:
        if method != "POST":
            self.reads += 1
            return _render("200 OK", self._client.progress(self.url, path))
        if self._limited and (left := self._seconds_to_wait()):
            self.refused += 1
            return _render("429 Too Many Requests", {}, f"Retry-After: {left}\r\n")
        self.accepted += 1
        if self.accepted <= self._loses:
            return None
        return _render("200 OK", self._client.progress(self.url, f"/{self.accepted}"))

    def _seconds_to_wait(self) -> int:
        """Count the request in a window of `PER` seconds; 0 if it is allowed."""
        now = time.monotonic()
        start, count = self._window
        if now >= start + PER:
            start, count = now, 0
        if count == ALLOWED:
            return int(start + PER - now) + 1
        self._window = (start, count + 1)
        return 0


class Ours:
    """The emulator, with tracks that take longer than is watched."""

    def __init__(self, emulator: Emulator, url: str) -> None:
        self.url = url
        self._emulator = emulator
        self._tracks = [
            emulator.add_track(f"track {n}", status="processing") for n in range(40)
        ]

    @property
    def accepted(self) -> int:
        """Credits spent."""
        return len(self._emulator.ledger)

    @property
    def refused(self) -> int:
        """Responses with a 429."""
        return sum(request.status == 429 for request in self._emulator.requests)

    @property
    def reads(self) -> int:
        """Requests that are no creates."""
        return sum(request.method != "POST" for request in self._emulator.requests)

    def track(self, number: int) -> str:
        """The id of a track in progress."""
        return self._tracks[number].id


async def _read_rest(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.decode().lower().split("\r\n"):
        if line.startswith("content-length:"):
            await reader.readexactly(int(line.partition(":")[2]))


def _render(status: str, body: Any, headers: str = "") -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@asynccontextmanager
async def serve(
    client: Client, *, loses: int = 0, limited: bool = False
) -> AsyncGenerator[Service]:
    """A service for one client.

    Args:
        client: Whose kind it is.
        loses: How many of the first responses to a create are lost.
        limited: Whether `ALLOWED` creates in `PER` seconds are a limit.
    """
    if not client.package:
        async with _emulator(loses, limited=limited) as ours:
            yield ours
        return
    peer = Peer(client, loses, limited=limited)
    server = await asyncio.start_server(peer.handle, "127.0.0.1", 0)
    async with server:
        peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield peer


@asynccontextmanager
async def _emulator(loses: int, *, limited: bool) -> AsyncGenerator[Service]:
    speed = 60 / PER if limited else 1.0
    settings: dict[str, Any] = {"generation_time": (9e3, 9e3), "queue_size": 1000}
    emulator = Emulator(speed=speed, api_key=KEY, **settings)
    async with emulator, serve_emulator(emulator) as url:
        if loses:
            emulator.add_fault(Fault("lost_after_commit", method="POST", times=loses))
        yield Ours(emulator, url)
