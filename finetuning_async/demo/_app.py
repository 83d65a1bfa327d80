"""The routes of the demo."""

from __future__ import annotations

import json
import re
import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request
from sse_starlette import EventSourceResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from finetuning_async import GenerationRequest
from finetuning_async._downloads import default_file_name
from finetuning_async.demo._studio import Studio
from finetuning_async.fastapi import add_exception_handlers, client_lifespan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from finetuning_async import AsyncClient

PAGE: Final = Path(__file__).parent / "page"

FIELDS: Final = frozenset(
    {"tags", "lyrics", "duration", "bpm", "language", "key", "scale", "timesignature"}
    | {"seed"}
)

MAX_BODY: Final = 64 * 1024
"""Bytes; the longest texts that are allowed take 33,000, with every character
escaped."""

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The page loads nothing from other hosts, and the browser enforces it."""

VISITOR: Final = "visitor"
"""The cookie by which the songs of a browser wait in turn with those of others."""

VISITOR_VALUE: Final = re.compile(r"[\w-]{22}", re.ASCII)

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost")


def _studio(request: Request) -> Studio:
    studio: Studio = request.state.studio
    return studio


StudioDependency = Annotated[Studio, Depends(_studio)]


def create_app(
    client: AsyncClient, *, service: str, hosts: Sequence[str] = LOOPBACK_NAMES
) -> FastAPI:
    """The application; it closes the client when it stops.

    Args:
        client: Makes the music.
        service: The name of the service, which the page shows.
        hosts: The host names under which a browser may reach it. Another name means
            that a foreign site points its own name at this machine (DNS rebinding), to
            spend credits.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        async with client_lifespan(lambda: client)(app) as state:
            with TemporaryDirectory(prefix="finetuning-demo-") as folder:
                async with Studio(client, Path(folder)).open() as studio:
                    # `serve` calls it before it stops the server: an open event
                    # stream would keep the server from stopping.
                    app.state.close_streams = studio.close
                    yield {**state, "studio": studio}

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.close_streams = lambda: None  # before the lifespan starts
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    add_exception_handlers(app)
    app.mount("/page", StaticFiles(directory=PAGE))
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: str) -> None:
    @app.get("/")
    def page(request: Request) -> FileResponse:
        response = FileResponse(PAGE / "index.html", headers=HEADERS)
        if _visitor(request) is None:
            value = secrets.token_urlsafe(16)
            response.set_cookie(VISITOR, value, httponly=True, samesite="strict")
        return response

    @app.get("/favicon.ico")
    def icon() -> FileResponse:
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    @app.get("/api/service")
    def about() -> dict[str, str]:
        return {"service": service}

    @app.post("/api/songs")
    async def make(request: Request, studio: StudioDependency) -> Response:
        return await _make(request, studio)

    @app.get("/api/songs/{key}/audio")
    async def audio(
        key: str, studio: StudioDependency, download: bool = False
    ) -> FileResponse:
        return await _audio(studio, key, download=download)

    @app.get("/api/events")
    async def events(studio: StudioDependency) -> EventSourceResponse:
        return EventSourceResponse(studio.events(), send_timeout=30.0)


def _visitor(request: Request) -> str | None:
    """The share of a browser; all that send no such cookie have one together.

    In an application with accounts it is the user's id.
    """
    value = request.cookies.get(VISITOR, "")
    return value if VISITOR_VALUE.fullmatch(value) else None


async def _make(request: Request, studio: Studio) -> Response:
    """Start a song.

    Only JSON is accepted: a form on a foreign site cannot send it without a preflight
    request, which is refused.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415)
    fields = await _json(request)
    if not isinstance(fields, dict) or not fields.keys() <= FIELDS:
        raise HTTPException(400)
    generation = GenerationRequest(**{"tags": "", **fields}, share=_visitor(request))
    problems = {p.field: p.allowed for p in generation.problems()}
    if problems:
        return JSONResponse({"problems": problems}, 422)
    return JSONResponse({"key": studio.make(generation).key}, 202)


async def _json(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # the latter for deeply nested JSON
        raise HTTPException(400) from None


async def _audio(studio: Studio, key: str, *, download: bool) -> FileResponse:
    song = studio.songs.get(key)
    if song is None or song.track is None or song.track.audio_url is None:
        raise HTTPException(404)
    return FileResponse(
        await studio.audio(song),
        media_type="audio/mpeg",
        filename=default_file_name(song.track),
        content_disposition_type="attachment" if download else "inline",
    )
