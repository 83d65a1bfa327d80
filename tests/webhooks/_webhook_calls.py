"""Deliveries to an ASGI application, without a server."""

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
UNUSED_KEY = "ft_live_" + "0" * 32


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
    chunk_delay: float = 0.0,
) -> int:
    """Send one delivery; returns its status.

    `chunk_delay` is the pause before each chunk of the body, in seconds.
    """
    sent: list[Any] = []
    chunks = iter([body] if isinstance(body, bytes) else body)

    async def receive() -> dict[str, Any]:
        if chunk_delay:
            await anyio.sleep(chunk_delay)
        chunk = next(chunks, None)
        if chunk is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    header_list = list((headers or {}).items())
    scope = {"type": "http", "method": method, "path": "/hooks", "headers": header_list}
    await app({**scope, "query_string": query}, receive, send)
    assert all(not message.get("body") for message in sent)
    return int(sent[0]["status"])


def sender_to(receivers: list[WebhookReceiver]) -> WebhookSender:
    """A webhook sender for an emulator; it delivers to the first receiver of a list.

    The list may be filled later.
    """

    async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        del headers
        return await deliver(receivers[0], query_of(url), body)

    return send
