"""A network in memory for httpcore or httpcore2, each of whose steps takes a while."""

from __future__ import annotations

from typing import Any, Final

import anyio
import attrs
import httpcore

STEP: Final = 0.1
"""Seconds that each step takes: connect, handshake, write, read."""

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def take(seconds: float, timeout: float | None, late: type[Exception]) -> None:
    """Take so long, within a time."""
    try:
        with anyio.fail_after(timeout):
            await anyio.sleep(seconds)
    except TimeoutError:
        raise late from None


@attrs.define(eq=False)
class Net:
    """Stands in for a network backend of httpcore or httpcore2.

    Attributes:
        core: The one of them whose errors it raises.
        answer: What each request is answered with.
        next: What is the answer after that, once each.
        pause: Seconds before each piece of an answer.
        handshake: Seconds that connecting takes.
        tls: Seconds that TLS takes; as long as connecting, if `None`.
        writing: Seconds that each write takes.
        opened: The streams that were opened, in their order.
        most_open: How many of them were open at a time.
        hung_up: Whether the other side closes what is idle.
    """

    core: Any = httpcore
    answer: bytes = ANSWER
    pause: float = STEP
    handshake: float = STEP
    tls: float | None = None
    writing: float = STEP
    opened: list[Stream] = attrs.field(factory=list)
    most_open: int = 0
    hung_up: bool = False
    next: list[bytes] = attrs.field(factory=list)

    def __call__(self) -> Net:
        return self

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, **_: Any
    ) -> httpcore.AsyncNetworkStream:
        await take(self.handshake, timeout, self.core.ConnectTimeout)
        self.opened.append(Stream(self))
        self.most_open = max(self.most_open, len(self.open()))
        return self.opened[-1]

    def open(self) -> list[Stream]:
        """The streams that are open."""
        return [stream for stream in self.opened if not stream.is_closed]

    def sent(self) -> bytes:
        """All that was written."""
        return b"".join(stream.sent for stream in self.opened)


@attrs.define(eq=False)
class Stream(httpcore.AsyncNetworkStream):
    """One connection; TLS on it is pretended."""

    net: Net
    sent: bytes = b""
    writes: int = 0
    is_closed: bool = False
    to_come: bytes = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await take(self.net.pause, timeout, self.net.core.ReadTimeout)
        part, self.to_come = self.to_come[:20], self.to_come[20:]
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.sent, self.writes = self.sent + buffer, self.writes + 1
        if b"\r\n\r\n" in buffer:
            self.to_come = self.net.answer
            if self.net.next:
                self.net.answer = self.net.next.pop(0)
        await take(self.net.writing, timeout, self.net.core.WriteTimeout)

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
        seconds = net.handshake if net.tls is None else net.tls
        try:
            await take(seconds, timeout, net.core.ConnectTimeout)
        except Exception:  # as the real ones: a cancellation closes nothing
            await self.aclose()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        return self.net.hung_up if info == "is_readable" else None
