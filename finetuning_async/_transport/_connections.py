"""Connections of our own to one origin: a stack of httpcore's, without its pool.

The pool of httpcore 1.0 counts every connection as idle, so that many of them are
closed and opened at nearly each call, gives one to several waiters, and loses the place
of a request that is cancelled while it connects. Here a call takes one off the stack,
and puts it back or closes it in a ``finally``: no place can be lost.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpcore
from httpcore import Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine

    from finetuning_async._evidence import Trace

AT_MOST: Final = 100
"""Connections; further calls wait for one, first come, first served."""
KEPT: Final = 5.0
"""Seconds for which an idle connection is kept; those of httpx."""


class Connections:
    """Connections to one origin."""

    def __init__(self, origin: httpcore.Origin, tls: ssl.SSLContext) -> None:
        self._origin = origin
        self._tls = tls
        self._places = anyio.Semaphore(AT_MOST, fast_acquire=True)
        self._idle: deque[_Connection] = deque()  # the one used last is taken first
        self._is_closed = False

    async def exchange(self, request: Request, trace: Trace) -> httpcore.Response:
        """Send a request and read its answer whole; `trace` hears when it leaves.

        Cancelled at any await, it leaves no connection in use and no place taken.

        Raises:
            TimeoutException | NetworkError | ProtocolError: httpcore's; no answer came.
        """
        await self._wait_for_a_place(request.extensions["timeout"]["pool"])
        connection = None
        try:
            connection = await self._take()
            connection.trace = trace
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
            await self._idle.pop().aclose()

    async def _wait_for_a_place(self, seconds: float | None) -> None:
        if self._places.value:
            self._places.acquire_nowait()
            return
        with anyio.move_on_after(seconds):
            await self._places.acquire()
            return
        raise httpcore.PoolTimeout(f"no connection was free within {seconds:g} s")

    async def _take(self) -> _Connection:
        """The connection used last, if it still stands; else a new one."""
        while self._idle:
            if not (connection := self._idle.pop()).http.has_expired():
                return connection
            await connection.aclose()
        return _Connection(self._origin, self._tls)

    async def _put_back(self, connection: _Connection) -> None:
        del connection.trace
        http = connection.http  # one that never connected says both: idle, and closed
        if self._is_closed or http.is_closed() or not http.is_idle():
            await connection.aclose()
        else:
            self._idle.append(connection)
        while len(self._idle) > 1 and self._idle[0].http.has_expired():
            await self._idle.popleft().aclose()


class _Connection(httpcore.AsyncNetworkBackend):
    """A connection, made at its first request; and the network as it sees it."""

    trace: Trace

    def __init__(self, origin: httpcore.Origin, tls: ssl.SSLContext) -> None:
        self.http = httpcore.AsyncHTTPConnection(
            origin, tls, keepalive_expiry=KEPT, network_backend=self
        )

    async def connect_tcp(self, *args: Any, **options: Any) -> _Stream:
        options["socket_options"] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        stream = await httpcore.AnyIOBackend().connect_tcp(*args, **options)
        return _Stream(stream, self)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):  # the socket goes before the first await
            await self.http.aclose()


class _Stream(httpcore.AsyncNetworkStream):
    """What a connection reads from and writes to; tells when bytes leave."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, user: _Connection) -> None:
        self._stream, self._user = stream, user
        self._socket = stream.get_extra_info("socket")

    def read(self, *args: Any, **options: Any) -> Coroutine[Any, Any, bytes]:
        return self._stream.read(*args, **options)

    def write(self, *args: Any, **options: Any) -> Coroutine[Any, Any, None]:
        self._user.trace.leaves()
        return self._stream.write(*args, **options)

    async def start_tls(self, *args: Any, **options: Any) -> _Stream:
        try:
            stream = await self._stream.start_tls(*args, **options)
        except BaseException:  # cancelled: httpcore would leave the socket open
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise
        return _Stream(stream, self._user)

    def aclose(self) -> Coroutine[Any, Any, None]:
        return self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable" or self._socket is None or not hasattr(select, "poll"):
            return self._stream.get_extra_info(info)
        poll = select.poll()  # noqa: TID251 - it is there
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))  # as httpcore, which takes 20 us to find the socket
