"""An HTTP proxy as companies run them, and a service behind TLS.

The proxy forwards plain requests and opens tunnels with CONNECT (RFC 9110, section
9.3.6). It records the requests that it can read.
"""

from __future__ import annotations

import base64
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream, Listener

LOGIN = "me:pr0xy-s3cret"
END = b"\r\n\r\n"
UP = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b'Content-Length: 15\r\n\r\n{"status":"ok"}'
)


class HttpProxy:
    """The proxy.

    Attributes:
        heads: The request lines and headers that it could read.
        refuses: The status that it sends instead of forwarding a request.
        hangs: Whether it accepts requests and never responds.
    """

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.refuses: int | None = None
        self.hangs = False

    @property
    def asked(self) -> list[str]:
        """Method and target of each request."""
        return [head.partition(" HTTP/")[0] for head in self.heads]

    def got_the_login(self) -> bool:
        """Whether each request had the right login."""
        login = base64.b64encode(LOGIN.encode()).decode().lower()
        return all(
            f"proxy-authorization: basic {login}" in head.lower() for head in self.heads
        )

    async def serve(self, near: ByteStream) -> None:
        """Serve one connection of a client."""
        with suppress(anyio.BrokenResourceError, anyio.IncompleteRead):
            async with near:
                requests = BufferedByteReceiveStream(near)
                head = (await requests.receive_until(END, 65536)).decode("latin-1")
                self.heads.append(head)
                if self.hangs:
                    await anyio.sleep_forever()
                elif self.refuses is not None:
                    await near.send(b"HTTP/1.1 %d No\r\n\r\n" % self.refuses)
                elif head.startswith("CONNECT "):
                    await _tunnel(head, requests, near)
                else:
                    await _forward(head, requests, near)


async def _tunnel(
    head: str, requests: BufferedByteReceiveStream, near: ByteStream
) -> None:
    target = urlsplit("//" + head.split(" ")[1])
    async with await anyio.connect_tcp(str(target.hostname), target.port or 443) as far:
        await near.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pump, requests, far)
            await _pump(far, near)
            tasks.cancel_scope.cancel()


async def _forward(
    head: str, requests: BufferedByteReceiveStream, near: ByteStream
) -> None:
    """Forward one request; the connection ends with its response."""
    target = head.split(" ")[1]
    url = urlsplit(target)
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    body = await requests.receive_exactly(int(length[1])) if length else b""
    head = head.replace(target, target.partition(url.netloc)[2], 1)
    head = re.sub(r"\r\nconnection: [^\r]*", "", head, flags=re.IGNORECASE)
    head += "\r\nConnection: close"
    async with await anyio.connect_tcp(str(url.hostname), url.port or 80) as far:
        await far.send(head.encode("latin-1") + END + body)
        await _pump(far, near)


async def _pump(source: ByteReceiveStream, sink: ByteSendStream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
        while True:
            await sink.send(await source.receive())


@asynccontextmanager
async def http_proxy() -> AsyncGenerator[tuple[HttpProxy, str]]:
    """Run a proxy on this machine; yields it and its host and port."""
    proxy = HttpProxy()
    listener, port = await _listener()
    async with _served(listener, proxy.serve):
        yield proxy, f"127.0.0.1:{port}"


@asynccontextmanager
async def tls_service(
    context: ssl.SSLContext, heads: list[bytes] | None = None, *, says: bytes = UP
) -> AsyncGenerator[str]:
    """Run a service behind TLS with a fixed response; it records request heads."""

    async def answer(near: ByteStream) -> None:
        with suppress(anyio.BrokenResourceError, anyio.IncompleteRead):
            async with near:
                requests = BufferedByteReceiveStream(near)
                while head := await requests.receive_until(END, 65536):
                    if heads is not None:
                        heads.append(head)
                    await near.send(says)

    listener, port = await _listener()
    behind_tls = TLSListener(listener, context, standard_compatible=False)
    async with _served(behind_tls, answer):
        yield f"https://localhost:{port}"


async def _listener() -> tuple[Listener[ByteStream], int]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    return listener, listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django


@asynccontextmanager
async def _served(
    listener: Listener[ByteStream], serve: Callable[[ByteStream], Awaitable[None]]
) -> AsyncGenerator[None]:
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield
        tasks.cancel_scope.cancel()
