"""A `WebhookReceiver` as a FastAPI router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.routing import Route

from finetuning_async.webhooks import hide_tokens

if TYPE_CHECKING:
    from finetuning_async.webhooks import WebhookReceiver

PATH: Final = "/finetuning"


def webhook_router(receiver: WebhookReceiver, *, path: str = PATH) -> APIRouter:
    """The endpoint to which the service posts; it also hides tokens in uvicorn's log.

        import os
        from fastapi import FastAPI
        from finetuning_async.fastapi import WebhookReceiver, webhook_router

        receiver = WebhookReceiver(client, secrets=[os.environ["HOOK_SECRET"]])
        app = FastAPI()
        app.include_router(webhook_router(receiver), prefix="/hooks")
        receiver.url("https://me.example/hooks/finetuning")

    It is not part of the OpenAPI schema.

    Args:
        receiver: Takes what comes.
        path: Where, below the prefix.
    """
    hide_tokens()
    router = APIRouter()
    route = Route(path, receiver, name="finetuning_webhook", include_in_schema=False)
    router.routes.append(route)
    return router
