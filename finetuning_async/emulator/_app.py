"""The Starlette app: routes, and responses made of checks and handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from finetuning_async.emulator import _generations, _media, _playlists, _sound_effects
from finetuning_async.emulator._errors import ApiError, refusal
from finetuning_async.emulator._middleware import MEDIA_PREFIX
from finetuning_async.emulator._service import Call, Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from finetuning_async.emulator._records import Account, Bucket
    from finetuning_async.emulator._service import Service

    Handler = Callable[[Service, Call, Account], Reply]
    Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(service: Service) -> Starlette:
    """Build the app with all routes, without the network around it."""

    def route(method: str, path: str, handler: Handler, bucket: Bucket) -> Route:
        endpoint = _endpoint(service, handler, bucket)
        return Route(path, endpoint, methods=[method], name=handler.__name__)

    other = service.settings.other_creates
    g = _generations
    tracks = "/v1/playlists/{id}/tracks"
    app = Starlette(
        routes=[
            Route("/health", _health),
            route("GET", "/v1/me", g.me, "reads"),
            route("POST", "/v1/generations", g.create, "creates"),
            route("GET", "/v1/generations", g.list_generations, "reads"),
            route("POST", "/v1/generations/bulk-delete", g.bulk_delete, "reads"),
            route("GET", "/v1/generations/{id}", g.get_generation, "reads"),
            route("POST", "/v1/instrumental", g.create_instrumental, other),
            route("POST", "/v1/sound-effects", _sound_effects.create, other),
            route("GET", "/v1/sound-effects", _sound_effects.list_effects, "reads"),
            route("GET", "/v1/sound-effects/{id}", _sound_effects.get, "reads"),
            route("GET", "/v1/playlists", _playlists.list_playlists, "reads"),
            route("GET", "/v1/playlists/{id}", _playlists.get, "reads"),
            route("POST", tracks, _playlists.add, "reads"),
            route("POST", f"{tracks}/bulk-remove", _playlists.remove, "reads"),
            route("POST", f"{tracks}/move", _playlists.move, "reads"),
            Route("/audio/{name}", _media.endpoint(service)),
        ],
        exception_handlers={404: _not_found, 405: _not_found},
    )
    app.router.redirect_slashes = False
    return app


def _endpoint(service: Service, handler: Handler, bucket: Bucket) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        call = await _call(service, request)
        headers: dict[str, str] = {}
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
        key=request.headers.get("x-api-key"),
        media=_media_base(service, request),
    )


def _media_base(service: Service, request: Request) -> str:
    """Base URL of this client's audio: the media host, or a path on the same port."""
    public = service.settings.base_url.rstrip("/")
    if str(request.base_url).rstrip("/") == public:
        return service.settings.media_url.rstrip("/")
    return f"{str(request.base_url).rstrip('/')}{MEDIA_PREFIX}"


def _refuse(request: Request, error: ApiError, headers: dict[str, str]) -> Response:
    request.scope["emulator.record"].code = error.code
    return JSONResponse(error.body, error.status, headers | error.headers)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _not_found(request: Request, _error: Exception) -> Response:
    return _refuse(request, refusal("NOT_FOUND"), {})
