"""The outermost ASGI layer: network delays, faults, the request log, common headers.

It reads the body, logs the request, lets the app handle it, and sends the response on:
late, damaged or not at all when a fault says so. What the app did stays done. The
server below passes an `ASGI extension`_ named ``emulator`` with ``break_off`` (cut the
connection) and ``inline`` (use no threads).

.. _ASGI extension: https://asgi.readthedocs.io/en/latest/extensions.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from finetuning_async.emulator._errors import ApiError
from finetuning_async.emulator._records import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from finetuning_async.emulator._faults import Fault
    from finetuning_async.emulator._service import Service

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Scope = MutableMapping[str, Any]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 64 * 1024
MEDIA_PREFIX = "/media"
_LOGGED = (b"host", b"user-agent", b"accept", b"content-type", b"range", b"if-range")
_SECRET = (b"x-api-key", b"authorization")
HTML = b"<!doctype html><title>502</title><h1>Bad gateway</h1>"


class Front:
    """The app that a server runs: the service, and the network around it."""

    def __init__(self, service: Service, app: App) -> None:
        self._service, self._app = service, app
        self._media_host = urlsplit(service.settings.media_url).netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; all but HTTP goes straight to the inner app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        await self._travel()
        record = self._log_request(scope)
        scope["emulator.record"] = record
        await self._handle(scope, _Connection(self, scope, send, record), body)
        if self._service.settings.on_request is not None:
            self._service.settings.on_request(record)

    async def _handle(
        self, scope: Scope, connection: _Connection, body: bytes | None
    ) -> None:
        fault = connection.record.fault
        action = fault.action if fault else None
        if action == "lost_before_commit":
            await connection.break_off()
            return
        if fault and action in ("delay", "late_commit"):
            await anyio.sleep(fault.seconds)
        if body is None:
            error = _error_body(413, "VALIDATION_ERROR", None)
            await connection.send_json(413, error, **self._rate_headers(scope))
        elif fault and action == "status" and not fault.commit:
            connection.note_fault(fault)
            await connection.respond_to_fault(fault, self._rate_headers(scope))
        else:
            await self._run(scope, connection, body)

    async def _run(self, scope: Scope, connection: _Connection, body: bytes) -> None:
        fault = connection.record.fault
        if scope["path"].startswith("/audio/"):
            await self._app(scope, _once(body), connection.stream)
            return
        response = _BufferedResponse()
        await self._app(scope, _once(body), response.send)
        connection.record.status = response.status
        if fault is None:
            await connection.send(response.status, response.headers, response.body)
        else:
            await connection.send_damaged(response, fault)

    def _rate_headers(self, scope: Scope) -> dict[str, str]:
        """The rate limit headers of a response that the app did not make."""
        key = dict(scope["headers"]).get(b"x-api-key", b"").decode("latin-1")
        now = self._service.clock.now()
        return self._service.headers_of_api(scope["method"], scope["path"], key, now)

    async def travel_back(self) -> None:
        """Wait for as long as a response takes to the client."""
        await self._travel()

    def date(self) -> bytes:
        """The ``Date`` header of a response sent now."""
        return self._service.wall.http_date(self._service.clock.now()).encode()

    async def _travel(self) -> None:
        low, high = self._service.settings.latency
        if high > 0:
            await anyio.sleep(self._service.network.uniform(low, high))

    def _log_request(self, scope: Scope) -> RequestRecord:
        path = self._audio_path(scope)
        if path is not None:
            scope["path"] = path
            scope["raw_path"] = path.encode()
        requests = self._service.requests
        record = RequestRecord(
            number=len(requests) + 1,
            at=self._service.clock.now(),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=_logged_headers(scope),
        )
        record.fault = self._service.faults.pick(
            record.method, record.path, connecting=False
        )
        requests.append(record)
        return record

    def _audio_path(self, scope: Scope) -> str | None:
        """The path on the media host, or ``None`` for a request to the API."""
        path: str = scope["path"]
        if path.startswith(f"{MEDIA_PREFIX}/"):
            return path.removeprefix(MEDIA_PREFIX)
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if host == self._media_host:
            return path if path.startswith("/audio/") else f"/audio{path}"
        return None


class _Connection:
    """Sends one response to the client."""

    def __init__(
        self, front: Front, scope: Scope, send: Send, record: RequestRecord
    ) -> None:
        self._front, self._send = front, send
        self.record = record
        self._break_off = extension(scope).get("break_off")
        self._passed = 0
        self._broken = False

    async def send(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send a whole response."""
        await self._front.travel_back()
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": body})
        self.record.delivered = True

    async def send_json(self, status: int, body: bytes, **headers: str) -> None:
        """Send a whole JSON response."""
        pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
        kind = (b"content-type", b"application/json")
        size = (b"content-length", b"%d" % len(body))
        self.record.status = status
        await self.send(status, [kind, size, *pairs], body)

    async def respond_to_fault(self, fault: Fault, limits: dict[str, str]) -> None:
        """Send the response of a ``status`` fault.

        Args:
            fault: The fault.
            limits: The rate limit headers. What is not JSON comes from a proxy in front
                of the service, which sends none.
        """
        headers: dict[str, str] = {}
        body = HTML
        if fault.code is not None:
            headers = _limits_beside(fault, limits)
            body = _error_body(fault.status, fault.code, fault.retry_after)
        if fault.retry_after is not None:
            headers["retry-after"] = str(fault.retry_after)
        await self.send_json(fault.status, body, **headers | dict(fault.headers))

    def note_fault(self, fault: Fault) -> None:
        """Record the code of a ``status`` fault."""
        self.record.code = fault.code

    async def send_damaged(self, response: _BufferedResponse, fault: Fault) -> None:
        """Send a response of the app, damaged or lost on the way."""
        match fault.action:
            case "lost_after_commit" | "late_commit":
                await self.break_off()
                return
            case "slow_answer":
                await anyio.sleep(fault.seconds)
            case "status":
                await self.respond_to_fault(fault, response.rate_headers())
                return
            case "html":
                response.replace(b"text/html", HTML)
            case "truncated_json":
                response.replace(
                    b"application/json", response.body[: len(response.body) // 2]
                )
            case "empty":
                response.replace(b"application/json", b"")
        await self.send(response.status, response.headers, response.body)

    async def stream(self, message: Message) -> None:
        """ASGI ``send`` for audio, chunk by chunk."""
        if self._broken:
            return
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            await self._front.travel_back()
            await self._start(message["status"], list(message["headers"]))
        else:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        fault, body = self.record.fault, message.get("body", b"")
        if fault and fault.action == "slow_download":
            await anyio.sleep(fault.seconds)
        self._passed += len(body)
        if fault and fault.action == "broken_download":
            over = self._passed - fault.after_bytes
            if over > 0:
                kept = body[: len(body) - over]
                await self._send(
                    {"type": "http.response.body", "body": kept, "more_body": True}
                )
                await self.break_off()
                return
        await self._send(message)
        self.record.delivered = not message.get("more_body", False)

    async def break_off(self) -> None:
        """Cut the connection, as a peer that resets it does."""
        self._broken = True
        if self._break_off is None:
            raise RuntimeError(
                "this server cannot break a connection: run the emulator with serve()"
            )
        fault = self.record.fault
        await self._break_off(reset=not (fault and fault.close))

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        common = [(b"date", self._front.date()), (b"x-emulator", b"1")]
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*common, *headers],
            }
        )


class _BufferedResponse:
    """A response of the app, buffered until it is complete."""

    def __init__(self) -> None:
        self.status, self.body = 0, b""
        self.headers: list[tuple[bytes, bytes]] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message["headers"])
        else:
            self.body += message.get("body", b"")

    def rate_headers(self) -> dict[str, str]:
        """Its ``X-RateLimit-*`` headers."""
        pairs = [(k.decode(), v.decode()) for k, v in self.headers]
        return {k: v for k, v in pairs if k.startswith("x-ratelimit-")}

    def replace(self, content_type: bytes, body: bytes) -> None:
        """Replace the body and its type."""
        replaced = (b"content-type", b"content-length")
        kept = [(k, v) for k, v in self.headers if k.lower() not in replaced]
        size = (b"content-length", b"%d" % len(body))
        self.headers = [*kept, (b"content-type", content_type), size]
        self.body = body


def _limits_beside(fault: Fault, limits: dict[str, str]) -> dict[str, str]:
    """The rate limit headers that the service would send with this error.

    They must not contradict it: a spent limit has nothing left, and to the service an
    unknown key has used nothing.
    """
    limits = {name.lower(): value for name, value in limits.items()}
    if not limits or fault.status not in (401, 429):
        return limits
    if fault.code in ("RATE_LIMITED", "GENERATION_RATE_LIMITED"):
        limits["x-ratelimit-remaining"] = "0"
    elif fault.status == 401:
        limits["x-ratelimit-remaining"] = limits["x-ratelimit-limit"]
    return limits


def extension(scope: Scope) -> dict[str, Any]:
    """What the server below can do for the emulator; empty if it is not ours."""
    found: dict[str, Any] = (scope.get("extensions") or {}).get("emulator", {})
    return found


async def _read(receive: Receive) -> bytes | None:
    """The request's body, or ``None`` when it is too large."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            return None
    return body


def _once(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _logged_headers(scope: Scope) -> dict[str, str]:
    found = {}
    for name, value in scope["headers"]:
        if name in _LOGGED:
            found[name.decode()] = value.decode("latin-1")
        elif name in _SECRET:
            found[name.decode()] = "****"
    return found


def _error_body(status: int, code: str, retry_after: int | None) -> bytes:
    message = f"A fault of the emulator responds with {status}"
    if status == 413:
        message = f"body is larger than {LARGEST_BODY} bytes"
    error = ApiError(status, code, message, retry_after=retry_after)
    return json.dumps(error.body, separators=(",", ":")).encode()
