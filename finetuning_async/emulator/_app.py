"""The Starlette app: routes, and responses made of checks and handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from finetuning_async.emulator import _generations, _media, _playlists, _sound_effects
from finetuning_async.emulator._errors import ApiError, no_endpoint
from finetuning_async.emulator._middleware import MEDIA_PREFIX
from finetuning_async.emulator._service import Call, Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from finetuning_async.emulator._records import Account
    from finetuning_async.emulator._service import Service

    Handler = Callable[[Service, Call, Account], Reply]
    Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(service: Service) -> Starlette:
    """Build the app with all routes, without the network around it."""

    def route(method: str, path: str, handler: Handler) -> Route:
        endpoint = _endpoint(service, handler)
        return Route(path, endpoint, methods=[method], name=handler.__name__)

    async def not_found(request: Request, _error: Exception) -> Response:
        return _not_found(service, request)

    g = _generations
    tracks = "/v1/playlists/{id}/tracks"
    app = Starlette(
        routes=[
            Route("/health", _health),
            route("GET", "/v1/me", g.me),
            route("POST", "/v1/generations", g.create),
            route("GET", "/v1/generations", g.list_generations),
            route("POST", "/v1/generations/bulk-delete", g.bulk_delete),
            route("GET", "/v1/generations/{id}", g.get_generation),
            route("POST", "/v1/instrumental", g.create_instrumental),
            route("POST", "/v1/sound-effects", _sound_effects.create),
            route("GET", "/v1/sound-effects", _sound_effects.list_effects),
            route("GET", "/v1/sound-effects/{id}", _sound_effects.get),
            route("GET", "/v1/playlists", _playlists.list_playlists),
            route("GET", "/v1/playlists/{id}", _playlists.get),
            route("POST", tracks, _playlists.add),
            route("POST", f"{tracks}/bulk-remove", _playlists.remove),
            route("POST", f"{tracks}/move", _playlists.move),
            Route("/audio/{name}", _media.endpoint(service)),
        ],
        exception_handlers={404: not_found, 405: not_found},
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(service: Service, handler: Handler) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        call = await _call(service, request)
        bucket = service.bucket_of(request.method, request.scope["path"])
        headers = service.rate_headers(call.key, bucket, call.now)
        try:
            account, headers = service.admit(call, bucket)
            reply = handler(service, call, account)
        except ApiError as error:
            return _refuse(request, error, headers)
        return JSONResponse({"data": reply.data}, reply.status, headers)

    return endpoint


async def _call(service: Service, request: Request) -> Call:
    return Call(
        record=request.scope["emulator.record"],
        body=await request.body(),
        now=service.clock.now(),
        query=request.query_params,
        path=request.path_params,
        key=_key(request),
        media=_media_base(service, request),
    )


def _key(request: Request) -> str | None:
    return request.headers.get("x-api-key")


def _media_base(service: Service, request: Request) -> str:
    """Base URL of this client's audio: the media host, or a path on the same port."""
    public = service.settings.base_url.rstrip("/")
    here = str(request.base_url).rstrip("/")
    if here == public:
        return service.settings.media_url.rstrip("/")
    return f"{here}{MEDIA_PREFIX}"


def _refuse(request: Request, error: ApiError, headers: dict[str, str]) -> Response:
    request.scope["emulator.record"].code = error.code
    return JSONResponse(error.body, error.status, headers | error.headers)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _not_found(service: Service, request: Request) -> Response:
    """Refuse a wrong path or method, which counts against no limit (U34)."""
    method, path, key = request.method, request.scope["path"], _key(request)
    headers = service.headers_of_api(method, path, key, service.clock.now())
    return _refuse(request, no_endpoint(method, path), headers)
