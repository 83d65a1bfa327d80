"""A transport for httpx over connections of our own, in pieces of up to 128 KiB.

httpcore asks its network for 64 KiB at a time, and each piece goes through a dozen
calls of httpx, httpcore and h11, which is half of what a large file costs. And its pool
loses the place of a download that is cancelled while connecting.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

import httpcore
import httpx

from finetuning_async._evidence import Trace
from finetuning_async._transport._connections import Connections
from finetuning_async._transport._failures import as_httpx
from finetuning_async._transport._stream import OnePiece

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

AT_ONCE: Final = 1 << 17
"""Bytes of a piece. More is no faster: it does not stay in the processor's cache."""

_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)


class MediaTransport(httpx.AsyncBaseTransport):
    """Sends requests without a body to any host; no proxy.

    Args:
        tls: For ``https``.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._hosts: dict[tuple[object, ...], Connections] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer is read as it is asked for.

        Raises:
            httpx.TransportError: There is no answer.
        """
        asked = _as_httpcore(request)
        try:
            connections = await self._to(asked.url)
            held = await connections.hold(asked, Trace(lambda: True))
            try:
                answer = await held.http.handle_async_request(asked)
            except BaseException:  # cancelled, too
                await connections.give_back(held)
                raise
        except _FAILURES as error:
            raise as_httpx(error) from None
        body = _Body(answer, partial(connections.give_back, held))
        return httpx.Response(answer.status, headers=answer.headers, stream=body)

    async def _to(self, url: httpcore.URL) -> Connections:
        host = url.scheme, url.host, url.port
        if host not in self._hosts:
            await self._forget_old()
            connections = Connections(url.origin, self._tls, piece=AT_ONCE)
            self._hosts.setdefault(host, connections)
        return self._hosts[host]

    async def _forget_old(self) -> None:
        """Close connections to hosts that are not used any more."""
        for host, connections in list(self._hosts.items()):
            await connections.close_expired()
            if connections.is_empty and self._hosts.get(host) is connections:
                del self._hosts[host]

    async def aclose(self) -> None:
        """Close the connections."""
        while self._hosts:
            await self._hosts.popitem()[1].aclose()


def _as_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    if url.scheme not in {"http", "https"}:  # redirected to
        raise httpx.UnsupportedProtocol(f"{url.scheme}: is no way to fetch a file")
    return httpcore.Request(
        request.method,
        httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        headers=request.headers.raw,
        content=OnePiece(),
        extensions=request.extensions,
    )


class _Body(httpx.AsyncByteStream):
    """What arrives of an answer."""

    def __init__(
        self, answer: httpcore.Response, give_back: Callable[[], Awaitable[None]]
    ) -> None:
        self._answer = answer
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in cast("AsyncIterable[bytes]", self._answer.stream):
                yield chunk
        except _FAILURES as error:
            raise as_httpx(error) from None

    async def aclose(self) -> None:
        try:
            await self._answer.aclose()
        finally:
            await self._give_back()
