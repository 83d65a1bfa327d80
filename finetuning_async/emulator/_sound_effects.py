"""Handlers of sound effects: known only from the vendor's CLI (sections 3.13 to 3.15).

Effects cost no credit, but count against a daily cap (UTC), and take a slot in the
queue like any job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async.emulator import _payloads, _validation
from finetuning_async.emulator._errors import refusal
from finetuning_async.emulator._generations import (
    effect_parameters,
    listed,
    page,
    webhook_of,
)
from finetuning_async.emulator._service import Reply

if TYPE_CHECKING:
    from finetuning_async.emulator._records import Account, Job
    from finetuning_async.emulator._service import Call, Service


def create(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/sound-effects``; lengths snap to 0.5 s, the default is 4 s (U18)."""
    body = _validation.json_object(call.body)
    prompt = _validation.required_text(body, "prompt", 700)
    _validation.flag(body, "enhance")
    parameters = effect_parameters(service, body)
    webhook = webhook_of(service, body)
    _check_daily_cap(service, account, call.now)
    service.check_queue(account)
    job = service.start(call, account, "effect", prompt, parameters, webhook)
    account.effects_today += 1
    left = service.effects_left(account, call.now)
    return Reply(_payloads.effect_created(job, service.wall, call.now, left), 202)


def list_effects(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/sound-effects``: newest first."""
    jobs = [job for job in reversed(service.jobs.values()) if job.kind == "effect"]
    found = listed(jobs, call, account)

    def write(job: Job) -> dict[str, object]:
        return _payloads.effect(job, service.wall, call.now, call.media)

    return page(service, "soundEffects", found, call, write)


def get(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/sound-effects/:id``."""
    job = service.jobs.get(call.path["id"])
    if job is None or job.owner is not account or job.kind != "effect":
        raise refusal("NOT_FOUND")
    data = _payloads.effect(job, service.wall, call.now, call.media)
    service.note_read(job, call.now)
    return Reply(data)


def _check_daily_cap(service: Service, account: Account, now: float) -> None:
    if service.effects_left(account, now) > 0:
        return
    error = refusal("DAILY_LIMIT_REACHED")
    error.status = service.settings.daily_limit_status
    raise error
