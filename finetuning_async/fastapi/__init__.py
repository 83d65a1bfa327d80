"""FastAPI: a client for the app's life, webhooks, live progress, and fitting errors.

    from typing import Any
    from fastapi import FastAPI
    from finetuning_async.fastapi import Client, add_exception_handlers
    from finetuning_async.fastapi import client_lifespan, public

    app = FastAPI(lifespan=client_lifespan())
    add_exception_handlers(app)

    @app.post("/tracks", status_code=202)
    async def create(tags: str, client: Client) -> dict[str, Any]:
        return public(await client.generations.create(tags, timeout=10))

`_lifespan` owns the client and hands it out, `_events` streams a track's states,
`_errors` maps errors to answers, `_router` mounts a `WebhookReceiver`. It runs on
asyncio only, because sse-starlette does.
"""

from __future__ import annotations

try:
    import fastapi as _fastapi  # noqa: F401 - only to see that it is there
    import sse_starlette as _sse  # noqa: F401 - only to see that it is there
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.fastapi needs {_missing.name}:"
        " pip install 'finetuning-async[fastapi]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

from finetuning_async.fastapi._errors import add_exception_handlers, answer_to
from finetuning_async.fastapi._events import Authorize, event_stream, events_router
from finetuning_async.fastapi._lifespan import Client, client_lifespan, client_of
from finetuning_async.fastapi._public import public
from finetuning_async.fastapi._router import webhook_router
from finetuning_async.webhooks import WebhookReceiver, hide_tokens

__all__ = [
    "Authorize",
    "Client",
    "WebhookReceiver",
    "add_exception_handlers",
    "answer_to",
    "client_lifespan",
    "client_of",
    "event_stream",
    "events_router",
    "hide_tokens",
    "public",
    "webhook_router",
]
