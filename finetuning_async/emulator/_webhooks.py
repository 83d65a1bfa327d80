"""Webhooks: one delivery when a job ends, never a second (section 6)."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import anyio

from finetuning_async.emulator import _payloads
from finetuning_async.emulator._records import WebhookRecord
from finetuning_async.emulator._transport import post

if TYPE_CHECKING:
    from finetuning_async.emulator._records import Job
    from finetuning_async.emulator._service import Service

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "finetuning-webhook/1.0",
    "X-Emulator": "1",
}


async def deliver(service: Service, job: Job) -> None:
    """Wait for a job's end, then send its webhook once, whatever the receiver says.

    A job that sticks has no end; one deleted meanwhile is not announced (U22).
    """
    if job.webhook is None or math.isinf(job.ends_at):
        return
    await anyio.sleep_until(job.ends_at)
    if job.deleted:
        return
    body = json.dumps(_payloads.webhook(job, service.wall)).encode()
    record = WebhookRecord(anyio.current_time(), job.webhook, body)
    service.webhooks.append(record)
    with anyio.move_on_after(service.settings.webhook_timeout):
        record.status = await _send(service, job.webhook, body)


async def _send(service: Service, url: str, body: bytes) -> int:
    if service.settings.webhook_sender is not None:
        return await service.settings.webhook_sender(url, HEADERS, body)
    return await post(url, HEADERS, body)
