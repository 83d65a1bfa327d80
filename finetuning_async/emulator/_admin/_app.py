"""The ASGI app that a server runs: the control API, and around all else the service.

Requests of the control API are neither counted nor logged, and no fault hits them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from finetuning_async.emulator._admin import _handlers as h
from finetuning_async.emulator._admin._access import Caller, check
from finetuning_async.emulator._admin._handlers import Call, Host
from finetuning_async.emulator._admin._openapi import document
from finetuning_async.emulator._admin._page import page
from finetuning_async.emulator._control import ControlError
from finetuning_async.emulator._middleware import extension

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from finetuning_async.emulator._middleware import App, Receive, Scope, Send
    from finetuning_async.emulator._service import Service

PREFIX = "/_emulator"
HEADERS = {"X-Emulator": "1", "Cache-Control": "no-store"}
_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode
CODES = {400: "VALIDATION_ERROR", 404: "NOT_FOUND", 409: "CONFLICT"}
ROUTES: tuple[tuple[str, str, Callable[[Host, Service, Call], tuple[Any, int]]], ...]
ROUTES = (
    ("GET", "/state", h.get_state),
    ("POST", "/reset", h.reset),
    ("POST", "/clock/advance", h.advance),
    ("GET", "/settings", h.get_settings),
    ("PATCH", "/settings", h.patch_settings),
    ("GET", "/accounts", h.get_accounts),
    ("POST", "/accounts", h.post_accounts),
    ("PATCH", "/accounts/{key}", h.patch_account),
    ("GET", "/tracks", h.get_tracks),
    ("POST", "/tracks", h.post_tracks),
    ("GET", "/tracks/{id}", h.get_track),
    ("PATCH", "/tracks/{id}", h.patch_track),
    ("GET", "/playlists", h.get_playlists),
    ("POST", "/playlists", h.post_playlists),
    ("GET", "/faults", h.get_faults),
    ("POST", "/faults", h.post_faults),
    ("DELETE", "/faults", h.delete_faults),
    ("DELETE", "/faults/{number}", h.delete_fault),
    ("GET", "/requests", h.get_requests),
    ("GET", "/ledger", h.get_ledger),
    ("GET", "/webhooks", h.get_webhooks),
)


class ControlApp:
    """Sends ``/_emulator/`` to the control API and all else to the service."""

    def __init__(self, host: Host, service: Callable[[], Service], inner: App) -> None:
        self._host, self._service, self._inner = host, service, inner
        self._control = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        mine = scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/")
        if mine or scope.get("path") == PREFIX:
            await self._control(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    def _build(self) -> Starlette:
        routes = [
            Route(PREFIX + path, self._endpoint(handler), methods=[method])
            for method, path, handler in ROUTES
        ]
        routes.append(Route(f"{PREFIX}/openapi.json", self._endpoint(_openapi)))
        routes.append(Route(f"{PREFIX}/", _page))
        routes.append(Route(PREFIX, _to_page))
        app = Starlette(
            routes=routes,
            exception_handlers={404: _unknown, 405: _unknown},
        )
        app.router.redirect_slashes = False
        return app

    def _endpoint(
        self, handler: Callable[[Host, Service, Call], tuple[Any, int]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            refused = _refused(request)
            if refused is not None:
                return refused
            try:
                call = Call(
                    request.path_params, request.query_params, await _body(request)
                )
                data, status = handler(self._host, self._service(), call)
            except ControlError as error:
                return _error(error.status, CODES[error.status], error.message)
            text = _json(data)
            return Response(text, status, HEADERS, media_type="application/json")

        return endpoint


def _json(data: Any) -> str:
    """JSON of what a handler returned.

    Its rows, if it has an iterator of them, are made one by one: ten thousand at once
    would take more memory than the tracks themselves.
    """
    if not isinstance(data, dict):
        return _dumps(data)
    members = (f"{_dumps(name)}:{_member(value)}" for name, value in data.items())
    return "{" + ",".join(members) + "}"


def _member(value: Any) -> str:
    if isinstance(value, Iterator):
        return "[" + ",".join(map(_dumps, value)) + "]"
    return _dumps(value)


async def _page(_request: Request) -> Response:
    return page()


async def _to_page(_request: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", headers=HEADERS)


def _openapi(_host: Host, _service: Service, _call: Call) -> tuple[Any, int]:
    return document(), 200


async def _body(request: Request) -> Any:
    raw = await request.body()
    if not raw:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # deep nesting is the latter
        raise ControlError("the body must be valid JSON") from None


def _refused(request: Request) -> Response | None:
    ours = extension(request.scope)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    caller = Caller(
        address=None if ours.get("inline") else _address(request),
        host=request.headers.get("host", ""),
        origin=request.headers.get("origin"),
        token=token.strip() if scheme.lower() == "bearer" else None,
        bound_to=ours.get("bound_to"),
    )
    refusal = check(caller, ours.get("admin_token"))
    if refusal is None:
        return None
    return _error(refusal.status, refusal.code, refusal.message)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _error(status: int, code: str, message: str) -> Response:
    headers = dict(HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {"error": {"code": code, "message": message}}
    return JSONResponse(body, status, headers)


async def _unknown(request: Request, _error_: Exception) -> Response:
    refused = _refused(request)
    if refused is not None:
        return refused
    message = (
        f"{request.method} {request.url.path} is not part of the control API;"
        f" {PREFIX}/openapi.json lists what is"
    )
    return _error(404, "NOT_FOUND", message)
