"""A delivery to an ASGI application, without a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from finetuning_async.emulator._settings import WebhookSender
    from finetuning_async.webhooks import WebhookReceiver

BASE = "https://me.example/hooks"
SECRET = "an old secret of enough length 000"
NEW_SECRET = "a new secret of enough length 1111"
NOBODY = "ft_live_" + "0" * 32


def query_of(url: str) -> bytes:
    return urlsplit(url).query.encode()


def body_of(track_id: object, status: str = "completed") -> bytes:
    return json.dumps({"id": track_id, "status": status}).encode()


async def deliver(
    app: Any,
    query: bytes,
    body: bytes | Iterable[bytes] = b"",
    *,
    method: str = "POST",
    headers: Mapping[bytes, bytes] | None = None,
    stays_for: float = 0.0,
) -> int:
    """The status of one delivery; `stays_for` delays each piece, in seconds."""
    sent: list[Any] = []
    pieces = iter([body] if isinstance(body, bytes) else body)

    async def receive() -> dict[str, Any]:
        if stays_for:
            await anyio.sleep(stays_for)
        piece = next(pieces, None)
        if piece is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    listed = list((headers or {}).items())
    scope = {"type": "http", "method": method, "path": "/hooks", "headers": listed}
    await app({**scope, "query_string": query}, receive, send)
    assert all(not message.get("body") for message in sent)
    return int(sent[0]["status"])


def sender_to(receivers: list[WebhookReceiver]) -> WebhookSender:
    """Lets an emulator deliver to the first of some receivers, filled in later."""

    async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        del headers
        return await deliver(receivers[0], query_of(url), body)

    return send
