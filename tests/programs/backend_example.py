"""A backend that makes music for its users: owners, webhooks, live states."""

import os
from typing import Any

from fastapi import FastAPI, Request

from finetuning_async import AsyncClient
from finetuning_async.fastapi import (
    Client,
    WebhookReceiver,
    add_exception_handlers,
    client_lifespan,
    events_router,
    public,
    webhook_router,
)

client = AsyncClient()
receiver = WebhookReceiver(client, secrets=os.environ["HOOK_SECRETS"].split())
owners: dict[str, str] = {}  # a database table in a real application


def may_see(request: Request, track_id: str) -> bool:
    user = request.cookies.get("user")
    return user is not None and owners.get(track_id) == user


app = FastAPI(lifespan=client_lifespan(lambda: client))
add_exception_handlers(app)
app.include_router(webhook_router(receiver), prefix="/hooks")
app.include_router(events_router(may_see))


@app.post("/tracks", status_code=202)
async def create(request: Request, tags: str, client: Client) -> dict[str, Any]:
    hook = receiver.url(os.environ["PUBLIC_URL"] + "/hooks/finetuning")
    track = await client.generations.create(tags, webhook=hook, timeout=20)
    owners[track.id] = request.cookies["user"]
    return public(track)
