"""The application under measurement; uvicorn runs it in processes of its own.

Environment: key and URL of the service, ``SECRETS``, ``PUBLIC_URL``, and ``SHARE``: the
processes among which the account's limits are divided, and ``PER``, their seconds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import FastAPI
from starlette.responses import Response

from finetuning_async import AsyncClient, RateLimit, RateLimits
from finetuning_async.fastapi import WebhookReceiver, client_lifespan

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

SHARE = int(os.environ.get("SHARE", "1"))
PER = float(os.environ.get("PER", "60"))

client = AsyncClient(
    rate_limits=RateLimits(
        creates=RateLimit(10 // SHARE, per=PER), reads=RateLimit(60 // SHARE, per=PER)
    )
)
receiver = WebhookReceiver(client, secrets=[os.environ["SECRETS"]])
app = FastAPI(lifespan=client_lifespan(lambda: client))


async def receive_hook(scope: Scope, receive: Receive, send: Send) -> None:
    """The receiver; its response names the process."""

    async def send_with_pid(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-pid", b"%d" % os.getpid()))
        await send(message)

    await receiver(scope, receive, send_with_pid)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The anchor: looks at nothing."""
    await Response(status_code=204)(scope, receive, send)


app.mount("/hooks", receive_hook)
app.mount("/bare", bare)


@app.post("/make")
async def make() -> dict[str, Any]:
    """Make a track; says who noticed its end, and when (on the machine's clock)."""
    hook = receiver.url(os.environ["PUBLIC_URL"] + "/hooks/")
    track = await client.generate("x", webhook=hook, wait_timeout=None)
    return {"id": track.id, "pid": os.getpid(), "noticed_at": anyio.current_time()}
