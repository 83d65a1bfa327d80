"""Records as JSON for people and suites: accounts, tracks, playlists, faults, logs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from finetuning_async.emulator import _fields
from finetuning_async.emulator._settings import RESET_ONLY, EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from finetuning_async.emulator._faults import Fault
    from finetuning_async.emulator._records import (
        Account,
        Bucket,
        Job,
        LedgerEntry,
        Playlist,
        RequestRecord,
        WebhookRecord,
    )
    from finetuning_async.emulator._service import Service

STATUSES = ("pending", "processing", "completed", "failed")
BUCKETS: tuple[Bucket, ...] = ("creates", "reads")


def state(service: Service) -> dict[str, Any]:
    """What there is, in numbers, and each account with its limits."""
    now = service.clock.now()
    tracks = dict.fromkeys(STATUSES, 0)
    for job in service.jobs.values():
        tracks[job.status_at(now)] += 1
    return {
        "now": service.wall.iso_millis(now),
        "advanced": service.clock.ahead,
        "seed": service.settings.seed,
        "accounts": [account(service, found) for found in accounts_of(service)],
        "tracks": tracks,
        "playlists": len(service.playlists),
        "faults": len(service.faults.numbered),
        "requests": len(service.requests),
        "ledger": len(service.ledger),
        "webhooks": len(service.webhooks),
    }


def settings(current: EmulatorSettings, waiting: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and those that a reset will bring."""
    names = _fields.hints_of(EmulatorSettings)
    return {
        "settings": _fields.write(current),
        "after_reset": {name: _fields.plain(value) for name, value in waiting.items()},
        "reset_only": [name for name in names if name in RESET_ONLY],
    }


def accounts_of(service: Service) -> Iterable[Account]:
    """Each account once, oldest first."""
    return dict.fromkeys(service.accounts.values())


def account(service: Service, found: Account) -> dict[str, Any]:
    """An account, its keys and what its limits have left."""
    now = service.clock.now()
    service.roll_month(found, now)
    keys = [key for key, owner in service.accounts.items() if owner is found]
    return {
        "api_key": found.api_key,
        "api_keys": keys,
        "id": found.id,
        "tier": found.tier,
        "credits": found.monthly,
        "pack_credits": found.pack,
        "used": found.used,
        "remaining": found.remaining,
        "in_progress": found.in_progress,
        "queue_size": service.settings.queue_size,
        "limits": {bucket: _limit(service, found, bucket, now) for bucket in BUCKETS},
    }


def _limit(
    service: Service, found: Account, bucket: Bucket, now: float
) -> dict[str, Any]:
    window = found.windows[bucket]
    limit = getattr(service.settings.rate_limits, bucket)
    return {
        "limit": limit.limit,
        "per": limit.per,
        "remaining": window.remaining(now),
        "retry_after": round(max(0.0, window.retry_after(now)), 3),
    }


def track(service: Service, job: Job) -> dict[str, Any]:
    """A track or sound effect. ``ends_at`` is null while nothing says when it ends."""
    now, wall = service.clock.now(), service.wall
    endless = math.isinf(job.ends_at)
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status_at(now),
        "prompt": job.prompt,
        "parameters": job.parameters,
        "api_key": job.owner.api_key,
        "webhook": job.webhook,
        "public": job.is_public,
        "after_reads": job.reads_left,
        "stuck": endless and job.reads_left is None,
        "created_at": wall.iso_millis(job.created_at),
        "ends_at": None if endless else wall.iso_millis(job.ends_at),
        "plays": job.plays,
        "downloads": job.downloads,
    }


def playlist(service: Service, entry: Playlist) -> dict[str, Any]:
    """A playlist with the ids of its tracks."""
    return {
        "id": entry.id,
        "name": entry.name,
        "description": entry.description,
        "public": entry.is_public,
        "api_key": entry.owner.api_key,
        "tracks": [job.id for job in entry.tracks],
        "created_at": service.wall.iso_millis(entry.created_at),
        "updated_at": service.wall.iso_millis(entry.updated_at),
    }


def fault(number: int, found: Fault) -> dict[str, Any]:
    """A fault with its number and how often it has hit."""
    return {"number": number, **_fields.write(found), "hits": found.hits}


def request(service: Service, record: RequestRecord) -> dict[str, Any]:
    """A line of the request log. ``status`` is 0 until the response was made."""
    return {
        "number": record.number,
        "at": service.wall.iso_millis(record.at),
        "method": record.method,
        "path": record.path,
        "query": record.query,
        "headers": dict(record.headers),
        "bucket": record.bucket,
        "counted": record.counted,
        "status": record.status,
        "code": record.code,
        "delivered": record.delivered,
        "fault": record.fault.action if record.fault else None,
    }


def ledger_entry(service: Service, number: int, entry: LedgerEntry) -> dict[str, Any]:
    """A charge or a refund."""
    return {
        "number": number,
        "at": service.wall.iso_millis(entry.at),
        "request": entry.request,
        "track": entry.track,
        "amount": entry.amount,
        "balance": entry.balance,
    }


def webhook(service: Service, number: int, record: WebhookRecord) -> dict[str, Any]:
    """A delivery; ``status`` is 0 without a response. The query may hold a secret."""
    return {
        "number": number,
        "at": service.wall.iso_millis(record.at),
        "url": record.url,
        "body": record.body.decode(),
        "status": record.status,
    }
