"""A track's states as server-sent events, for those who may see it.

Every listener is one more waiter of the account's one poll loop, so a thousand browsers
cost no more reads than one. The events:

- ``state``: a track as `public` shows it; its event id is the status;
- ``problem``: the watch has ended without a final state; ``code`` and ``message``.

A browser's ``EventSource`` connects again when a stream ends. One that has seen the end
says so in ``Last-Event-ID`` and is answered 204, which tells it to stop.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import sniffio
from fastapi import APIRouter, HTTPException, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from finetuning_async._client import AsyncClient  # noqa: TC001 - users may resolve it
from finetuning_async._errors import FinetuningError
from finetuning_async._types import FINAL_STATUSES
from finetuning_async.fastapi._errors import answer_to
from finetuning_async.fastapi._lifespan import Client  # noqa: TC001 - FastAPI reads it
from finetuning_async.fastapi._public import public

Authorize: TypeAlias = Callable[[Request, str], bool | Awaitable[bool]]
"""Whether the sender of a request may see the track with an id; plain or async.

Example:
    from fastapi import Request
    from finetuning_async.fastapi import Authorize

    owners: dict[str, str] = {}

    def may_see(request: Request, track_id: str) -> bool:
        return owners.get(track_id, "nobody") == request.cookies.get("user")

    authorize: Authorize = may_see
"""

PATH: Final = "/tracks/{track_id}/events"
WATCH_TIMEOUT: Final = 600.0
SEND_TIMEOUT: Final = 30.0
"""Seconds after which a browser that reads nothing is dropped."""


def events_router(
    authorize: Authorize,
    *,
    path: str = PATH,
    timeout: float | None = WATCH_TIMEOUT,
) -> APIRouter:
    """The endpoint at which browsers follow a track.

    Middleware that compresses must leave it alone: it would hold events back.

    Args:
        authorize: Called with the request and the id. Ids are no secrets, so there is
            no default. Whoever may not see the track is told 404, as if it were not.
        path: With ``{track_id}``.
        timeout: Seconds for one stream; `None` for no limit.

    Example:
        from fastapi import FastAPI, Request
        from finetuning_async.fastapi import client_lifespan, events_router

        def may_see(request: Request, track_id: str) -> bool:
            return request.cookies.get("user") == "the-only-one"

        app = FastAPI(lifespan=client_lifespan())
        app.include_router(events_router(may_see, timeout=600))
    """
    router = APIRouter()

    @router.get(path, response_class=EventSourceResponse)
    async def events(request: Request, track_id: str, client: Client) -> Response:
        allowed = authorize(request, track_id)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if allowed is not True:
            raise HTTPException(404)
        if request.headers.get("last-event-id") in FINAL_STATUSES:
            return Response(status_code=204)
        if sniffio.current_async_library() != "asyncio":
            raise RuntimeError("event streams need asyncio, because sse-starlette does")
        stream = event_stream(client, track_id, timeout=timeout)
        return EventSourceResponse(stream, send_timeout=SEND_TIMEOUT)

    return router


async def event_stream(
    client: AsyncClient, track_id: str, *, timeout: float | None = WATCH_TIMEOUT
) -> AsyncGenerator[ServerSentEvent]:
    """The events of one track, for an endpoint of your own.

    Args:
        client: Who asks.
        track_id: Which track; check before who may see it.
        timeout: Seconds; `None` for no limit.

    Example:
        from finetuning_async.fastapi import event_stream

        track = await client.generations.create("rain")
        async for event in event_stream(client, track.id, timeout=300):
            print(event.event, event.data)
    """
    try:
        async with aclosing(client.watch(track_id, timeout=timeout)) as states:
            async for track in states:
                yield _event("state", public(track), track.status)
    except FinetuningError as error:
        answer = json.loads(bytes(answer_to(error).body))
        yield _event("problem", answer["error"])


def _event(
    name: str, data: dict[str, Any], ident: str | None = None
) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name, id=ident)
