"""The two routers: a track's states for browsers, and deliveries of webhooks.

A track's states are sent as server-sent events to those who may see it. Every listener
is one more waiter of the account's one poll loop, so a thousand browsers cost no more
reads than one. The events:

- ``state``: a track as `public` returns it, with its ``progress``; the event id is its
  status;
- ``problem``: the stream ends without a final state; ``code`` and ``message``.

A browser connects again when a stream ends, unless it has seen the track's end; see
`event_response`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.encoders import ENCODERS_BY_TYPE
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.routing import Route

from finetuning_async._api import Outcome, models
from finetuning_async._client import AsyncClient  # noqa: TC001 - users may resolve it
from finetuning_async._errors import FinetuningError
from finetuning_async.fastapi._errors import answer_to
from finetuning_async.fastapi._event_source import event_response
from finetuning_async.fastapi._lifespan import Client  # noqa: TC001 - FastAPI reads it
from finetuning_async.fastapi._models import ProgressResponse, fields_of

if TYPE_CHECKING:
    import datetime as dt

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async.webhooks import WebhookReceiver

Authorize: TypeAlias = Callable[[Request, str], bool | Awaitable[bool]]
"""Whether the sender of a request may see the track with an id; plain or async.

Example:
    from fastapi import Request
    from finetuning_async.fastapi import Authorize

    owners: dict[str, str] = {}

    def may_see(request: Request, track_id: str) -> bool:
        user = request.cookies.get("user")
        return user is not None and owners.get(track_id) == user

    authorize: Authorize = may_see
"""

EVENTS_PATH: Final = "/tracks/{track_id}/events"
WEBHOOK_PATH: Final = "/finetuning"
WATCH_TIMEOUT: Final = 600.0
"""Seconds of one stream, after which a browser connects again."""


def events_router(
    authorize: Authorize,
    *,
    path: str = EVENTS_PATH,
    timeout: float | None = WATCH_TIMEOUT,
) -> APIRouter:
    """The endpoint at which browsers follow a track.

    Middleware that compresses must skip it: it would delay the events.

    Args:
        authorize: Called with the request and the track's id. Ids are not secrets, so
            there is no default. If it does not return `True`, the response is 404, as
            for a track that does not exist.
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
        # Exactly `True`: a forgotten `return`, or a truthy object, grants nothing.
        if allowed is not True:
            raise HTTPException(404)
        stream = event_stream(client, track_id, timeout=timeout)
        return event_response(request, stream)

    return router


async def event_stream(
    client: AsyncClient, track_id: str, *, timeout: float | None = WATCH_TIMEOUT
) -> AsyncGenerator[ServerSentEvent]:
    """The events of one track, for your own endpoint.

    Args:
        client: Watches the track.
        track_id: The track; check first who may see it.
        timeout: Seconds; `None` for no limit.

    Example:
        from finetuning_async.fastapi import event_stream

        track = await client.generations.create("rain")
        async for event in event_stream(client, track.id, timeout=300):
            print(event.event, event.data)
    """
    # The response has started, so an error cannot become a status code any more: it is
    # the last event of the stream.
    try:
        async with aclosing(client.watch(track_id, timeout=timeout)) as states:
            async for track in states:
                shown = {**public(track), "progress": _progress(client, track)}
                yield _event("state", shown, track.status)
    except FinetuningError as error:
        response = json.loads(bytes(answer_to(error).body))
        yield _event("problem", response["error"])


def _progress(
    client: AsyncClient, track: Generation | SoundEffect
) -> dict[str, float] | None:
    """How far a track is, for a bar that a browser moves on until the next event."""
    if track.is_final:
        return None
    return ProgressResponse.of(client.progress(track)).model_dump()


def _event(
    name: str, data: dict[str, Any], event_id: str | None = None
) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name, id=event_id)


def public(track: Generation | SoundEffect) -> dict[str, Any]:
    """A track as a JSON object for browsers: no webhook, credits or raw response.

    Times are ISO 8601 in UTC, durations are seconds.

    Example:
        from finetuning_async.fastapi import public

        print(public(await client.generations.create("rain")))
    """
    fields = fields_of(track)
    for name in ("created_at", "completed_at"):
        fields[name] = _iso(fields[name])
    return fields


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


# A model of ours has no pydantic schema, because it holds the webhook's secret query.
# As an annotation FastAPI refuses it when the route is added; returned without one, it
# would be encoded field by field. This raises the same error, which names `public`.
def _refuse(model: Any) -> Any:
    return model.__get_pydantic_core_schema__(type(model), None)


for _model in (Outcome, *vars(models).values()):
    if hasattr(_model, "__get_pydantic_core_schema__"):
        ENCODERS_BY_TYPE[_model] = _refuse


def webhook_router(receiver: WebhookReceiver, *, path: str = WEBHOOK_PATH) -> APIRouter:
    """The endpoint to which the service posts, with or without a slash at its end.

        import os
        from fastapi import FastAPI
        from finetuning_async.fastapi import WebhookReceiver, webhook_router

        receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
        app = FastAPI()
        app.include_router(webhook_router(receiver), prefix="/hooks")
        hook = receiver.url("https://me.example/hooks/finetuning")
        await client.generate("rain", webhook=hook)

    It is not part of the OpenAPI schema.

    Args:
        receiver: Handles the deliveries.
        path: The endpoint's path, below the prefix.
    """
    router = APIRouter()
    # Both spellings: a sender need not follow the redirect from one to the other.
    bare = path.rstrip("/")
    for spelling in (bare, bare + "/") if bare else ("/",):
        router.routes.append(
            Route(
                spelling, receiver, name="finetuning_webhook", include_in_schema=False
            )
        )
    return router
