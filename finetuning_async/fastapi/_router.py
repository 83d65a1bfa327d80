"""A `WebhookReceiver` as a FastAPI router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.routing import Route

if TYPE_CHECKING:
    from finetuning_async.webhooks import WebhookReceiver

PATH: Final = "/finetuning"


def webhook_router(receiver: WebhookReceiver, *, path: str = PATH) -> APIRouter:
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
        receiver: Takes what comes.
        path: Where, below the prefix.
    """
    router = APIRouter()
    bare = path.rstrip("/")
    for spelled in (bare, bare + "/") if bare else ("/",):
        router.routes.append(
            Route(spelled, receiver, name="finetuning_webhook", include_in_schema=False)
        )
    return router
