"""FastAPI: one client per application, webhooks, live progress, error responses.

    from typing import Any
    from fastapi import FastAPI
    from finetuning_async.fastapi import Client, add_exception_handlers
    from finetuning_async.fastapi import client_lifespan, public

    app = FastAPI(lifespan=client_lifespan())
    add_exception_handlers(app)

    @app.post("/tracks", status_code=202)
    async def create(tags: str, client: Client) -> dict[str, Any]:
        return public(await client.generations.create(tags, timeout=10))

It runs on asyncio only, because sse-starlette does. The files:

    _routers        a track's states as server-sent events; deliveries of webhooks
    _tracks_router  the tracks of end users, each user's own: `tracks_router`
    _owned_tracks   what one end user may do with tracks
    _audio          a track's audio, passed on with ranges
    _event_source   the response with a track's server-sent events
    _models         what browsers get and send, as pydantic models
    _errors         the response to each of our errors
    _lifespan       opens the client, closes it, and hands it to endpoints
    _followers      tasks that follow tracks while browsers come and go
    _owned_keys     the journal's key of an end user's track
    _stop_signals   ends the client's waits when the process is asked to stop
"""

from __future__ import annotations

try:
    import fastapi as _fastapi  # noqa: F401 - only to see that it is installed
    import sse_starlette as _sse  # noqa: F401 - only to see that it is installed
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.fastapi needs {_missing.name}:"
        " pip install 'finetuning-async[fastapi]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.fastapi._errors import add_exception_handlers, answer_to
from finetuning_async.fastapi._lifespan import Client, client_lifespan, client_of
from finetuning_async.fastapi._models import (
    ErrorBody,
    ErrorResponse,
    LineResponse,
    OwnedTrackResponse,
    OwnedTracksResponse,
    ProgressResponse,
    SoundEffectResponse,
    TrackPageResponse,
    TrackResponse,
)
from finetuning_async.fastapi._routers import (
    Authorize,
    event_stream,
    events_router,
    public,
    webhook_router,
)
from finetuning_async.fastapi._tracks_router import OwnerHook, tracks_router
from finetuning_async.webhooks import WebhookReceiver, hide_tokens

__all__ = [
    "Authorize",
    "Client",
    "ErrorBody",
    "ErrorResponse",
    "LineResponse",
    "OwnedTrackResponse",
    "OwnedTracksResponse",
    "OwnerHook",
    "ProgressResponse",
    "SoundEffectResponse",
    "TrackPageResponse",
    "TrackResponse",
    "WebhookReceiver",
    "add_exception_handlers",
    "answer_to",
    "client_lifespan",
    "client_of",
    "event_stream",
    "events_router",
    "hide_tokens",
    "public",
    "tracks_router",
    "webhook_router",
]
