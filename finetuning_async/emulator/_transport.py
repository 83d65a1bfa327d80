"""The in-process network: an httpx transport that ends in the emulator.

Unlike `httpx.ASGITransport` it behaves like a socket. The service runs in the
emulator's task group, so it goes on when a caller is cancelled or times out. Timeouts
use the loop's clock. Bodies arrive in chunks. Trace events have httpcore's names, so
that a caller knows whether any byte was sent. There is no connection pool: every
request is traced as the first on a new connection.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import anyio
import httpx

from finetuning_async.emulator._in_process import Exchange
from finetuning_async.emulator._validation import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from finetuning_async.emulator._faults import Fault


_Outcome = dict[str, Any]


class Host(Protocol):
    """The side of an `Emulator` that a transport needs."""

    base_url: str
    media_url: str

    def fault_at_connect(self, method: str, path: str) -> Fault | None:
        """The fault that prevents this connection, if there is one."""

    def start_exchange(self, scope: dict[str, Any], exchange: Exchange) -> None:
        """Handle one request in a task of the emulator."""


class EmulatorTransport(httpx.AsyncBaseTransport):
    """Carries requests for the API host and the media host to an `Emulator`."""

    def __init__(self, emulator: Host) -> None:
        self._emulator = emulator
        urls = (emulator.base_url, emulator.media_url)
        self._hosts = {urlsplit(url).hostname for url in urls}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            httpx.ConnectError: The host is another one, or a fault prevents it.
            httpx.TimeoutException: A timeout of the request expired.
            httpx.ReadError: The connection was reset.
            httpx.RemoteProtocolError: The connection was closed.
        """
        await self._connect(request)
        exchange = await self._send(request)
        try:
            return await self._receive(request, exchange)
        except BaseException:
            exchange.hang_up()
            raise

    async def _connect(self, request: httpx.Request) -> None:
        async with _step(request, "connection.connect_tcp"):
            await anyio.lowlevel.checkpoint()
            host = request.url.host
            if host not in self._hosts and not is_loopback(host):
                raise httpx.ConnectError(f"the emulator does not serve {host}")
            path = request.url.path
            fault = self._emulator.fault_at_connect(request.method, path)
            if fault is not None and fault.action == "connect_hangs":
                await _within_timeout(request, "connect", anyio.sleep_forever)
            if fault is not None:
                raise httpx.ConnectError(
                    "connection refused by a fault of the emulator"
                )

    async def _send(self, request: httpx.Request) -> Exchange:
        async with _step(request, "http11.send_request_headers"):
            pass
        async with _step(request, "http11.send_request_body"):
            exchange = Exchange(await request.aread())
            self._emulator.start_exchange(_scope(request, exchange), exchange)
        return exchange

    async def _receive(
        self, request: httpx.Request, exchange: Exchange
    ) -> httpx.Response:
        async with _step(request, "http11.receive_response_headers") as outcome:
            start = await _within_timeout(request, "read", exchange.next_message)
            if start is None:
                raise _broken(exchange, "without sending a response")
            status, headers = start["status"], start["headers"]
            outcome["return_value"] = (b"HTTP/1.1", status, b"", headers)
        body = _Body(request, exchange)
        return httpx.Response(
            status,
            headers=headers,
            stream=body,
            extensions={"http_version": b"HTTP/1.1"},
            request=request,
        )


class _Body(httpx.AsyncByteStream):
    """A response body as it arrives."""

    def __init__(self, request: httpx.Request, exchange: Exchange) -> None:
        self._request, self._exchange = request, exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with _step(self._request, "http11.receive_response_body"):
            more = True
            while more:
                read = self._exchange.next_message
                message = await _within_timeout(self._request, "read", read)
                if message is None:
                    raise _broken(self._exchange, "without sending the whole body")
                more = message.get("more_body", False)
                if message.get("body") and self._request.method != "HEAD":
                    yield message["body"]

    async def aclose(self) -> None:
        """Disconnect; the service goes on."""
        self._exchange.hang_up()


def _scope(request: httpx.Request, exchange: Exchange) -> dict[str, Any]:
    async def break_off(*, reset: bool) -> None:
        exchange.break_off(reset=reset)

    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(k.lower(), v) for k, v in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.split(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 0),
        "extensions": {"emulator": {"break_off": break_off, "inline": True}},
    }


def _broken(exchange: Exchange, how: str) -> httpx.TransportError:
    if exchange.was_reset:
        return httpx.ReadError("connection reset by peer")
    return httpx.RemoteProtocolError(f"server disconnected {how}")


async def _within_timeout(request: httpx.Request, which: str, wait: Any) -> Any:
    """Await ``wait()`` for as long as the request's timeout of that kind allows."""
    seconds = request.extensions.get("timeout", {}).get(which)
    if seconds is None:
        return await wait()
    with anyio.move_on_after(seconds):
        return await wait()
    timed_out = httpx.ConnectTimeout if which == "connect" else httpx.ReadTimeout
    raise timed_out(f"no response within {seconds:g} s")


@asynccontextmanager
async def _step(request: httpx.Request, name: str) -> AsyncIterator[_Outcome]:
    """Trace one step as httpcore does: ``started``, then ``complete`` or ``failed``."""
    trace = request.extensions.get("trace")
    outcome: _Outcome = {"return_value": None}
    if trace is None:
        yield outcome
        return
    await trace(f"{name}.started", {"request": request})
    try:
        yield outcome
    except BaseException as error:
        await trace(f"{name}.failed", {"exception": error})
        raise
    await trace(f"{name}.complete", outcome)
