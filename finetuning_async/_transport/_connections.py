"""Connections of our own to one origin: a stack of httpcore's, without its pool.

The pool of httpcore 1.0 counts every connection as idle and so reopens many, gives one
to several waiters, and loses the place of a request that is cancelled while connecting.
Here a call takes one off the stack and puts it back, or closes it, in a ``finally``.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import anyio
import httpcore
from httpcore import AsyncHTTP11Connection, AsyncNetworkStream

from finetuning_async._transport._connecting import KEPT
from finetuning_async._transport._stream import Stream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from httpcore import Origin, Request, Response

    from finetuning_async._evidence import Trace

T = TypeVar("T")

AT_MOST: Final = 100  # connections; further calls wait, first come, first served
_NO_DELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Connections:
    """Connections to one origin.

    Args:
        origin: Its address; `tls` is for ``https``.
        piece: Bytes that are read at a time, if so many have arrived.
    """

    def __init__(self, origin: Origin, tls: ssl.SSLContext, *, piece: int = 0) -> None:
        self._origin, self._tls, self._piece = origin, tls, piece
        self._places = anyio.Semaphore(AT_MOST, fast_acquire=True)
        self._idle: deque[Connection] = deque()  # the one used last is taken first
        self._is_closed = False

    @property
    def is_empty(self) -> bool:
        """Whether no connection is in use, nor kept."""
        return not self._idle and self._places.value == AT_MOST

    async def exchange(
        self, request: Request, trace: Trace, read: Callable[[Response], Awaitable[T]]
    ) -> T:
        """Send a request and read its answer; `trace` hears when it leaves.

        Cancelled at any await, it leaves no connection in use and no place taken.

        Raises:
            TimeoutException | NetworkError | ProtocolError: httpcore's; no answer came.
        """
        connection = await self.hold(request, trace)
        try:
            response = await connection.http.handle_async_request(request)
            answer = await read(response)
            await response.aclose()
        finally:
            await self.give_back(connection)
        return answer

    async def hold(self, request: Request, trace: Trace) -> Connection:
        """A connection for a request; it is to be given back, whatever happens."""
        timeout = request.extensions["timeout"]
        await self._wait_for_a_place(timeout["pool"])
        try:
            connection = await self._take() or await self._connect(timeout, trace)
        except BaseException:  # cancelled, too
            self._places.release()
            raise
        connection.stream.trace = trace
        return connection

    async def give_back(self, connection: Connection) -> None:
        """Keep it if its answer was read whole and nothing else, else close it."""
        try:
            await self._put_back(connection)
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close what is idle; what is in use is closed when its call ends."""
        self._is_closed = True
        while self._idle:
            await _close(self._idle.pop().http)

    async def close_expired(self, *, but: int = 0) -> None:
        """Close what has been idle for too long."""
        while len(self._idle) > but and self._idle[0].http.has_expired():
            await _close(self._idle.popleft().http)

    async def _wait_for_a_place(self, seconds: float | None) -> None:
        if self._places.value:
            self._places.acquire_nowait()
            return
        with anyio.move_on_after(seconds):
            await self._places.acquire()
            return
        raise httpcore.PoolTimeout(f"no connection was free within {seconds:g} s")

    async def _take(self) -> Connection | None:
        """The connection used last, if it still stands."""
        while self._idle:
            if not (connection := self._idle.pop()).http.has_expired():
                return connection
            await _close(connection.http)
        return None

    async def _connect(self, timeout: dict[str, Any], trace: Trace) -> Connection:
        host, port = self._origin.host.decode("ascii"), self._origin.port
        seconds, net = trace.bounded(timeout["connect"]), httpcore.AnyIOBackend()
        stream = await net.connect_tcp(host, port, seconds, socket_options=_NO_DELAY)
        if self._origin.scheme == b"https":
            self._tls.set_alpn_protocols(["http/1.1"])
            try:
                seconds = trace.bounded(timeout["connect"])
                stream = await stream.start_tls(self._tls, host, seconds)
            except BaseException:  # cancelled, too
                await _close(stream)  # the plain one
                raise
        ours = Stream(stream, self._piece)
        http = AsyncHTTP11Connection(self._origin, ours, keepalive_expiry=KEPT)
        return Connection(http, ours)

    async def _put_back(self, connection: Connection) -> None:
        del connection.stream.trace
        if self._is_closed or not connection.is_clean:
            await _close(connection.http)
        else:
            self._idle.append(connection)
        await self.close_expired(but=1)


class Connection(NamedTuple):
    """One connection, and what it goes over."""

    http: AsyncHTTP11Connection
    stream: Stream

    @property
    def is_clean(self) -> bool:
        """Whether its answer was read whole, and no byte came after.

        What is left over would be taken for the answer to the next request.
        """
        left, _ = self.http._h11_state.trailing_data  # noqa: SLF001 - nobody else knows
        return self.http.is_idle() and not left


async def _close(what: AsyncHTTP11Connection | AsyncNetworkStream) -> None:
    with anyio.CancelScope(shield=True):  # the socket goes before the first await
        await what.aclose()
