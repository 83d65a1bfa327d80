"""Connections of our own to one origin: a stack of httpcore's, without its pool.

The pool of httpcore 1.0 counts every connection as idle and so reopens many, gives one
to several waiters, and loses the place of a request that is cancelled while connecting.
Here a call takes one off the stack and puts it back, or closes it, in a ``finally``.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import httpcore
from httpcore import AsyncHTTP11Connection, AsyncNetworkStream

if TYPE_CHECKING:
    import ssl

    from httpcore import Origin, Request, Response

    from finetuning_async._evidence import Trace

AT_MOST: Final = 100  # connections; further calls wait, first come, first served
KEPT: Final = 5.0  # seconds for which an idle one is kept, as by httpx
_NO_DELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Connections:
    """Connections to one origin."""

    def __init__(self, origin: Origin, tls: ssl.SSLContext) -> None:
        self._origin = origin
        self._tls = tls
        self._places = anyio.Semaphore(AT_MOST, fast_acquire=True)
        self._idle: deque[_Connection] = deque()  # the one used last is taken first
        self._is_closed = False

    async def exchange(self, request: Request, trace: Trace) -> Response:
        """Send a request and read its answer whole; `trace` hears when it leaves.

        Cancelled at any await, it leaves no connection in use and no place taken.

        Raises:
            TimeoutException | NetworkError | ProtocolError: httpcore's; no answer came.
        """
        timeout = request.extensions["timeout"]
        await self._wait_for_a_place(timeout["pool"])
        connection = None
        try:
            connection = await self._take() or await self._connect(timeout["connect"])
            connection.stream.trace = trace
            response = await connection.http.handle_async_request(request)
            await response.aread()
            await response.aclose()
        finally:
            try:
                if connection is not None:
                    await self._put_back(connection)
            finally:
                self._places.release()
        return response

    async def aclose(self) -> None:
        """Close what is idle; what is in use is closed when its call ends."""
        self._is_closed = True
        while self._idle:
            await _close(self._idle.pop().http)

    async def _wait_for_a_place(self, seconds: float | None) -> None:
        if self._places.value:
            self._places.acquire_nowait()
            return
        with anyio.move_on_after(seconds):
            await self._places.acquire()
            return
        raise httpcore.PoolTimeout(f"no connection was free within {seconds:g} s")

    async def _take(self) -> _Connection | None:
        """The connection used last, if it still stands."""
        while self._idle:
            if not (connection := self._idle.pop()).http.has_expired():
                return connection
            await _close(connection.http)
        return None

    async def _connect(self, seconds: float | None) -> _Connection:
        host = self._origin.host.decode("ascii")
        plain = stream = await httpcore.AnyIOBackend().connect_tcp(
            host, self._origin.port, seconds, socket_options=_NO_DELAY
        )
        if self._origin.scheme == b"https":
            self._tls.set_alpn_protocols(["http/1.1"])
            try:
                stream = await plain.start_tls(self._tls, host, seconds)
            except BaseException:  # cancelled, too
                await _close(plain)
                raise
        mine = _Stream(stream)
        http = AsyncHTTP11Connection(self._origin, mine, keepalive_expiry=KEPT)
        return _Connection(http, mine)

    async def _put_back(self, connection: _Connection) -> None:
        del connection.stream.trace
        if self._is_closed or not connection.http.is_idle():
            await _close(connection.http)
        else:
            self._idle.append(connection)
        while len(self._idle) > 1 and self._idle[0].http.has_expired():
            await _close(self._idle.popleft().http)


class _Stream(AsyncNetworkStream):
    """What a connection reads from and writes to; head and body leave in one piece."""

    trace: Trace

    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream, self._held = stream, b""
        self._write_timeout: float | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:
            self.trace.leaves()
            held, self._held = self._held, b""
            with suppress(httpcore.WriteError):  # an answer may be there all the same
                await self._stream.write(held, self._write_timeout)
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._held, self._write_timeout = self._held + buffer, timeout

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Connection(NamedTuple):
    http: AsyncHTTP11Connection
    stream: _Stream


async def _close(what: AsyncHTTP11Connection | AsyncNetworkStream) -> None:
    with anyio.CancelScope(shield=True):  # the socket goes before the first await
        await what.aclose()
