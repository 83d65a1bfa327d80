"""`tracks_router`: the tracks of end users, from the request to the audio.

=======  ======================  =====================================================
Method   Path                    What
=======  ======================  =====================================================
POST     ``/tracks``             ask for a track, once for its ``Idempotency-Key``
GET      ``/tracks``             the owner's tracks, the newest first
GET      ``/tracks/{key}``       one of them, by its key or by the service's id
GET      ``/tracks/{key}/events``  its states as server-sent events
GET      ``/tracks/{key}/audio``   its audio, with ranges
=======  ======================  =====================================================

The events: ``waiting`` with its place in the line, ``state`` at each change of its
status, ``progress`` in between, and ``problem`` if the stream ends before the track.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import anyio
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import JSONResponse

from finetuning_async._api import check_timeout
from finetuning_async._errors import InvalidRequestError
from finetuning_async._session import session_of
from finetuning_async.fastapi._audio import AudioResponse
from finetuning_async.fastapi._event_source import event_response
from finetuning_async.fastapi._followers import followers_of
from finetuning_async.fastapi._lifespan import Client  # noqa: TC001 - FastAPI reads it
from finetuning_async.fastapi._models import (
    ErrorResponse,
    OwnedTrackResponse,
    OwnedTracksResponse,
    TrackBody,
    request_of,
)
from finetuning_async.fastapi._owned_keys import HEADER, check_key
from finetuning_async.fastapi._owned_tracks import OwnedTrack, OwnedTracks

if TYPE_CHECKING:
    from pydantic import BaseModel

OwnerHook: TypeAlias = Callable[..., Awaitable[str] | str]
"""A FastAPI dependency that returns the id of the end user who sent a request.

It raises `fastapi.HTTPException` with 401 or 403 for whom it does not let in.

Example:
    from fastapi import HTTPException, Request
    from finetuning_async.fastapi import OwnerHook

    def owner_of(request: Request) -> str:
        user = request.cookies.get("user")
        if user is None:
            raise HTTPException(401)
        return user

    owner: OwnerHook = owner_of
"""

ACCEPTED_WITHIN: Final = 10.0
"""Seconds that ``POST`` waits by default."""

STREAM_TIMEOUT: Final = 600.0
"""Seconds of one stream by default, after which a browser connects again."""

PROGRESS_EVERY: Final = 2.0
"""Seconds between two events while nothing else changes."""

LARGEST_PAGE: Final = 100
BODY_PARTS: Final = frozenset(
    {"body", "header", "query", "path", "music", "instrumental", "sound_effect"}
)
"""Parts of the place of an error that a person need not see."""

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "the owner hook refused the sender"},
    404: {"model": ErrorResponse, "description": "the owner has no such track"},
    422: {"model": ErrorResponse, "description": "a parameter is invalid"},
    500: {"model": ErrorResponse, "description": "see the application's log"},
    503: {"model": ErrorResponse, "description": "busy, or stopping; try again"},
}
_CREATE_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": ErrorResponse, "description": "the key is known with other content"},
    502: {"model": ErrorResponse, "description": "the music service has a problem"},
    504: {"model": ErrorResponse, "description": "the music service is too slow"},
}
_AUDIO: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"audio/mpeg": {}}, "description": "all of it"},
    206: {"content": {"audio/mpeg": {}}, "description": "the range asked for"},
    409: {"model": ErrorResponse, "description": "it is not completed"},
    416: {"description": "there are no such bytes"},
}


def tracks_router(
    owner: OwnerHook,
    *,
    prefix: str = "/tracks",
    wait: float = ACCEPTED_WITHIN,
    timeout: float | None = STREAM_TIMEOUT,
) -> APIRouter:
    """The tracks of an application's end users, each user's own.

    It asks for tracks, shows and lists them, streams their states, and passes on their
    audio; the module's table has the paths. The application's client needs a `journal`:
    it alone knows which track is whose, so that a restart loses nothing, and several
    workers show the same. Each end user is a share of the line.

    ``POST`` answers 202 as soon as the service has accepted the track, and after `wait`
    seconds in any case: it is then in the line, and will be made even if the browser
    goes away or the server stops. A browser that sends the same ``Idempotency-Key``
    again, after a reload say, gets the same track for the same credit. Without that
    header each request is a track of its own.

    Args:
        owner: Returns the id of the end user who sent a request; any non-empty string.
            There is no default: without it every user could hear every track.
        prefix: Where the paths begin.
        wait: Seconds that ``POST`` waits at most until the service has accepted it.
        timeout: Seconds for one stream of states, after which the browser reconnects;
            `None` for no limit.

    Raises:
        InvalidRequestError: `wait` or `timeout` is not a number of seconds.

    Example:
        from fastapi import FastAPI, HTTPException, Request
        from finetuning_async import AsyncClient
        from finetuning_async.fastapi import add_exception_handlers, client_lifespan
        from finetuning_async.fastapi import tracks_router

        def owner_of(request: Request) -> str:
            user = request.cookies.get("user")
            if user is None:
                raise HTTPException(401)
            return user

        app = FastAPI(
            lifespan=client_lifespan(
                lambda: AsyncClient(journal="tracks.db"), resume=True
            )
        )
        add_exception_handlers(app)
        app.include_router(tracks_router(owner_of))
    """
    check_timeout(wait, "wait")
    if timeout is not None:
        check_timeout(timeout)
    router = APIRouter(
        prefix=prefix, route_class=_Route, responses=_ERRORS, tags=["tracks"]
    )
    owned = Depends(_dependency(owner))
    _add_reading(router, owned)
    _add_streams(router, owned, timeout)

    @router.post("", status_code=202, responses=_CREATE_ERRORS)
    async def create_track(
        body: TrackBody,
        request: Request,
        response: Response,
        key: Annotated[str, Depends(_key_of)],
        tracks: OwnedTracks = owned,
    ) -> OwnedTrackResponse:
        made = request_of(body, tracks.journal_key(key))
        found = tracks.response(await tracks.create(made, wait=wait))
        response.headers["Location"] = f"{request.url.path}/{found.key}"
        response.headers["Cache-Control"] = "no-store"
        return found

    return router


def _add_reading(router: APIRouter, owned: Any) -> None:
    @router.get("")
    async def list_tracks(
        response: Response,
        before: Annotated[str | None, Query(description="`next` of a page")] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 20,
        tracks: OwnedTracks = owned,
    ) -> OwnedTracksResponse:
        response.headers["Cache-Control"] = "no-store"
        return await tracks.newest(before, limit)

    @router.get("/{key}")
    async def read_track(
        key: str, response: Response, tracks: OwnedTracks = owned
    ) -> OwnedTrackResponse:
        response.headers["Cache-Control"] = "no-store"
        return tracks.response(await tracks.get(key))


def _add_streams(router: APIRouter, owned: Any, timeout: float | None) -> None:
    @router.get("/{key}/events", response_class=EventSourceResponse)
    async def track_events(
        key: str, request: Request, tracks: OwnedTracks = owned
    ) -> Response:
        found = await tracks.get(key)
        return event_response(request, _until(timeout, track_stream(tracks, found)))

    @router.head("/{key}/audio", include_in_schema=False)
    @router.get("/{key}/audio", responses=_AUDIO)
    async def track_audio(
        key: str, request: Request, tracks: OwnedTracks = owned
    ) -> Response:
        track = (await tracks.get(key)).track
        if track is None or track.audio_url is None:
            error = {"code": "not_completed", "message": "It has no audio yet."}
            return JSONResponse({"error": error}, 409, {"Cache-Control": "no-store"})
        return AudioResponse(tracks.client, track, request)


async def track_stream(
    tracks: OwnedTracks, found: OwnedTrack
) -> AsyncGenerator[ServerSentEvent]:
    """The events of one track, from its state now to its end."""
    shown: Any = None
    while True:
        state = tracks.response(found)
        what = (state.status, state.line and state.line.position)
        if what != shown:
            shown = what
            name = "waiting" if state.status == "waiting" else "state"
            yield _event(name, state, state.status)
        elif state.progress is not None:
            yield _event("progress", state.progress)
        elif state.line is not None:
            yield _event("waiting", state, state.status)
        if state.is_final or found.followed is None:
            return
        if state.error is not None:
            yield _event("problem", state.error)
            return
        with anyio.move_on_after(PROGRESS_EVERY):
            await found.followed.change()


def _event(name: str, data: BaseModel, event_id: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(data.model_dump_json(), event=name, id=event_id)


async def _until(
    timeout: float | None, events: AsyncGenerator[ServerSentEvent]
) -> AsyncGenerator[ServerSentEvent]:
    """The events that come within a time; then the browser connects again."""
    ends_at = anyio.current_time() + (inf if timeout is None else timeout)
    async with aclosing(events):
        async for event in events:
            yield event
            if anyio.current_time() >= ends_at:
                return


def _dependency(owner: OwnerHook) -> Callable[..., Coroutine[Any, Any, OwnedTracks]]:
    hook = Depends(owner)

    async def owned_tracks(client: Client, found: Any = hook) -> OwnedTracks:
        if session_of(client).keyed is None:
            raise RuntimeError(
                "tracks_router needs a client with a journal, which knows whose each"
                ' track is: client_lifespan(lambda: AsyncClient(journal="tracks.db"))'
            )
        if found is None or found == "":
            raise HTTPException(401)  # a hook that forgets its `return` lets no one in
        if not isinstance(found, str):
            raise TypeError(
                f"the owner hook must return the owner's id as a str, got {found!r}"
            )
        return OwnedTracks(client, followers_of(client), found)

    return owned_tracks


def _key_of(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            description="the same one for the same track: it is then paid once",
            examples=["5c6e4f0a-8c1f-4d7f-9a55-5a6b1d0f3a11"],
        ),
    ] = None,
) -> str:
    given = request.headers.getlist(HEADER)
    if len(given) > 1:
        raise InvalidRequestError(HEADER, ", ".join(given), "given once")
    return uuid.uuid4().hex if key is None else check_key(key)


class _Route(APIRoute):
    """Answers a body that FastAPI refuses like one that we refuse."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise _invalid(error) from None

        return handler


def _invalid(error: RequestValidationError) -> InvalidRequestError:
    first: Any = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in BODY_PARTS]
    return InvalidRequestError(
        ".".join(where) or "the body", first.get("input"), f"valid; {first['msg']}"
    )
