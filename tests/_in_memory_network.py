"""An in-memory network for httpcore or httpcore2, in which each step takes time."""

from __future__ import annotations

from typing import Any, Final

import anyio
import attrs
import httpcore

STEP: Final = 0.1
"""Seconds that each step takes: connect, handshake, write, read."""

RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def delay(seconds: float, timeout: float | None, late: type[Exception]) -> None:
    """Sleep, or raise `late` if that takes longer than the timeout."""
    try:
        with anyio.fail_after(timeout):
            await anyio.sleep(seconds)
    except TimeoutError:
        raise late from None


@attrs.define(eq=False)
class Net:
    """A network backend of httpcore or httpcore2.

    Attributes:
        core: The library, whose errors it raises.
        response: The response to each request.
        next_responses: The responses after that, one request each.
        read_delay: Seconds before each chunk of a response.
        connect_delay: Seconds that a TCP connect takes.
        tls_delay: Seconds that a TLS handshake takes; `None` for `connect_delay`.
        write_delay: Seconds that each write takes.
        streams: All streams, in the order in which they were opened.
        most_open: How many of them were open at a time.
        peer_closed: Whether the server closes idle connections.
    """

    core: Any = httpcore
    response: bytes = RESPONSE
    read_delay: float = STEP
    connect_delay: float = STEP
    tls_delay: float | None = None
    write_delay: float = STEP
    streams: list[Stream] = attrs.field(factory=list)
    most_open: int = 0
    peer_closed: bool = False
    next_responses: list[bytes] = attrs.field(factory=list)

    def __call__(self) -> Net:
        return self

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, **_: Any
    ) -> httpcore.AsyncNetworkStream:
        await delay(self.connect_delay, timeout, self.core.ConnectTimeout)
        self.streams.append(Stream(self))
        self.most_open = max(self.most_open, len(self.open()))
        return self.streams[-1]

    def open(self) -> list[Stream]:
        """The streams that are open."""
        return [stream for stream in self.streams if not stream.is_closed]

    def sent(self) -> bytes:
        """All that was written."""
        return b"".join(stream.sent for stream in self.streams)


@attrs.define(eq=False)
class Stream(httpcore.AsyncNetworkStream):
    """One connection, with simulated TLS."""

    net: Net
    sent: bytes = b""
    writes: int = 0
    is_closed: bool = False
    unread: bytes = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await delay(self.net.read_delay, timeout, self.net.core.ReadTimeout)
        chunk, self.unread = self.unread[:20], self.unread[20:]
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent, self.writes = self.sent + buffer, self.writes + 1
        if b"\r\n\r\n" in buffer:
            self.unread = self.net.response
            if self.net.next_responses:
                self.net.response = self.net.next_responses.pop(0)
        await delay(self.net.write_delay, timeout, self.net.core.WriteTimeout)

    async def aclose(self) -> None:
        self.is_closed = True
        await anyio.lowlevel.checkpoint()

    async def start_tls(
        self,
        ssl_context: object,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Stream:
        net = self.net
        seconds = net.connect_delay if net.tls_delay is None else net.tls_delay
        try:
            await delay(seconds, timeout, net.core.ConnectTimeout)
        except Exception:  # like the real backends, a cancellation closes nothing
            await self.aclose()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        return self.net.peer_closed if info == "is_readable" else None
