"""The response that streams a track's states to a browser's ``EventSource``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sniffio
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from finetuning_async._types import FINAL_STATUSES
from finetuning_async.fastapi._lifespan import STOP_GRACE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sse_starlette import ServerSentEvent
    from starlette.requests import Request

SEND_TIMEOUT: Final = 30.0
"""Seconds after which a browser that reads nothing is disconnected."""


def event_response(
    request: Request, events: AsyncGenerator[ServerSentEvent]
) -> Response:
    """The response with these events.

    A browser connects again when a stream ends. One that has seen the track's end says
    so by its ``Last-Event-ID``, and stops at a 204.

    Args:
        request: The browser's.
        events: Not begun yet. The id of each is the track's status.

    Raises:
        RuntimeError: The application does not run on asyncio.
    """
    if request.headers.get("last-event-id") in FINAL_STATUSES:
        return Response(status_code=204)
    if sniffio.current_async_library() != "asyncio":
        raise RuntimeError(
            "event streams run on asyncio only, because sse-starlette does; run"
            " this application on asyncio"
        )
    # A stop ends the wait, and the stream says so with its last event. Without a
    # grace period sse-starlette may cut the response off just before that.
    return EventSourceResponse(
        events, send_timeout=SEND_TIMEOUT, shutdown_grace_period=STOP_GRACE
    )
