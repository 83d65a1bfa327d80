"""Webhooks: one delivery when a job ends, never a second one (section 6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio

from finetuning_async.emulator import _payloads
from finetuning_async.emulator._records import WebhookRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetuning_async.emulator._records import Job
    from finetuning_async.emulator._service import Service

HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "finetuning-webhook/1.0",
    "X-Emulator": "1",
}


async def deliver(service: Service, job: Job) -> None:
    """Wait for a job's end, then send its webhook once, whatever the receiver responds.

    A job deleted before its end sends none (U22).
    """
    if job.webhook is None or not await _has_ended(service, job):
        return
    job.webhook_sent = True
    body = json.dumps(_payloads.webhook(job, service.wall)).encode()
    record = WebhookRecord(service.clock.now(), job.webhook, body)
    service.webhooks.append(record)
    with anyio.move_on_after(service.settings.webhook_timeout):
        record.status = await _send(service, job.webhook, body)


async def _has_ended(service: Service, job: Job) -> bool:
    """Wait for a job's end, which may be moved meanwhile; false if none will come."""
    while not (service.over or job.deleted):
        left = job.ends_at - service.clock.now()
        if left <= 0:
            return True
        await service.clock.wait(left)
    return False


async def _send(service: Service, url: str, body: bytes) -> int:
    if service.settings.webhook_sender is not None:
        return await service.settings.webhook_sender(url, HEADERS, body)
    return await _post(url, HEADERS, body)


async def _post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Send a webhook over the real network; returns the status, or 0 without one."""
    import httpx  # takes 6 MiB, which an emulator without webhooks does not need

    try:
        async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113 - the caller limits it
            response = await client.post(url, content=body, headers=headers)
    except httpx.HTTPError:
        return 0
    return response.status_code
