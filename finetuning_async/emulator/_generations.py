"""Handlers of tracks: me, create, instrumental, list, get, bulk delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuning_async.emulator import _payloads, _validation
from finetuning_async.emulator._audio import file_size
from finetuning_async.emulator._errors import refusal
from finetuning_async.emulator._service import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from finetuning_async.emulator._records import Account, Job, Kind
    from finetuning_async.emulator._service import Call, Service

NOT_YOURS = "Track not found or not owned by you"


def me(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/me``."""
    service.roll_month(account, call.now)
    return Reply(_payloads.me(account))


def create(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/generations``."""
    body = _validation.json_object(call.body)
    prompt = _validation.required_text(body, "tags", 700)
    parameters = _music_parameters(service, body)
    webhook = webhook_of(service, body)
    return _start(service, call, account, "music", prompt, parameters, webhook)


def create_instrumental(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/instrumental``; lengths snap to 15 s (U19: to the nearest)."""
    body = _validation.json_object(call.body)
    prompt = _validation.required_text(body, "prompt", 700)
    _validation.flag(body, "enhance")
    parameters = _instrumental_parameters(service, body)
    webhook = webhook_of(service, body)
    return _start(service, call, account, "instrumental", prompt, parameters, webhook)


def list_generations(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/generations``: newest first, no sound effects."""
    kind = _validation.choice(call.query, "type", _validation.KINDS)
    jobs = [
        job
        for job in reversed(service.jobs.values())
        if job.kind != "effect" and kind in (None, job.kind)
    ]
    found = listed(jobs, call, account)

    def write(job: Job) -> dict[str, Any]:
        return _payloads.row(job, service.wall, call.now, call.media)

    return page(service, "generations", found, call, write)


def get_generation(service: Service, call: Call, account: Account) -> Reply:
    """``GET /v1/generations/:id``, for instrumentals too."""
    job = service.jobs.get(call.path["id"])
    if job is None or job.owner is not account or job.kind == "effect":
        raise refusal("NOT_FOUND")
    size = file_size(service.settings, job) if job.kind == "instrumental" else None
    data = _payloads.detail(job, service.wall, call.now, call.media, size)
    service.note_read(job, call.now)
    return Reply(data)


def bulk_delete(service: Service, call: Call, account: Account) -> Reply:
    """``POST /v1/generations/bulk-delete``; a repeated id fails as an item (U24)."""
    body = _validation.json_object(call.body)
    deleted: list[str] = []
    errors: list[dict[str, str]] = []
    for track_id in _validation.ids(body, "ids"):
        job = service.jobs.get(track_id)
        if job is None or job.owner is not account or job.kind == "effect":
            errors.append({"id": track_id, "error": NOT_YOURS})
        else:
            service.delete(job)
            deleted.append(track_id)
    return Reply({"deleted": deleted} | ({"errors": errors} if errors else {}))


def listed(jobs: list[Job], call: Call, account: Account) -> list[Job]:
    """The ``jobs`` that this account's lists show, filtered by status."""
    status = _validation.choice(call.query, "status", _validation.STATUSES)
    return [
        job
        for job in jobs
        if job.owner is account
        and job.listed_from <= call.now
        and status in (None, job.status_at(call.now))
    ]


def page(
    service: Service,
    name: str,
    jobs: list[Job],
    call: Call,
    write: Callable[[Job], dict[str, Any]],
) -> Reply:
    """One page of a list; ``nextOffset`` on the last page as well (U14)."""
    limit, offset = _validation.page(call.query)
    shown = jobs[offset : offset + limit]
    rows = [write(job) for job in shown]
    for job in shown:
        service.note_read(job, call.now)
    following = offset + len(rows)
    more = following < len(jobs)
    return Reply({name: rows, "hasMore": more, "nextOffset": following})


def webhook_of(service: Service, body: Mapping[str, Any]) -> str | None:
    """The webhook of a create, checked."""
    settings = service.settings
    return _validation.webhook(
        body, loopback=settings.loopback_webhooks, hosts=settings.webhook_hosts
    )


def parameters_of(
    service: Service, body: Mapping[str, Any], kind: Kind
) -> dict[str, Any]:
    """The parameters of a create of this kind, checked, with the service's defaults."""
    if kind == "music":
        return _music_parameters(service, body)
    if kind == "instrumental":
        return _instrumental_parameters(service, body)
    return effect_parameters(service, body)


def effect_parameters(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a sound effect; lengths snap to 0.5 s, the default is 4 s (U18)."""
    clamp = service.settings.clamp_out_of_range
    duration = _validation.number(body, "duration", 1, 8, clamp=clamp)
    steps = int((4 if duration is None else duration) * 2 + 0.5)
    return {"duration": steps // 2 if steps % 2 == 0 else steps / 2}


def _instrumental_parameters(
    service: Service, body: Mapping[str, Any]
) -> dict[str, Any]:
    clamp = service.settings.clamp_out_of_range
    duration = _validation.number(body, "duration", 30, 210, clamp=clamp)
    duration = 120 if duration is None else duration
    return {
        "duration": int(duration / 15 + 0.5) * 15,
        "seed": _seed(service, body),
    }


def _music_parameters(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    _validation.text(body, "lyrics", 2000)
    clamp = service.settings.clamp_out_of_range
    duration = _validation.number(body, "duration", 5, 210, clamp=clamp)
    bpm = _validation.number(body, "bpm", 60, 200, clamp=clamp)
    language = _validation.choice(body, "language", _validation.LANGUAGES)
    key = _validation.choice(body, "key", _validation.KEYS)
    scale = _validation.choice(body, "scale", _validation.SCALES)
    beats = _validation.choice(body, "timesignature", _validation.TIME_SIGNATURES)
    key = key or service.choices.choice(_validation.KEYS)
    scale = scale or service.choices.choice(_validation.SCALES)
    return {
        "bpm": 120 if bpm is None else bpm,
        "duration": 60 if duration is None else duration,
        "timesignature": int(beats or "4"),
        "language": language,
        "keyscale": f"{key} {scale}",
        "seed": _seed(service, body),
    }


def _seed(service: Service, body: Mapping[str, Any]) -> int:
    seed = _validation.seed(body)
    if seed is None or service.settings.ignore_seeds:
        return service.choices.randint(0, _validation.HIGHEST_SEED)
    return seed


def _start(
    service: Service,
    call: Call,
    account: Account,
    kind: Kind,
    prompt: str,
    parameters: dict[str, Any],
    webhook: str | None,
) -> Reply:
    service.check_credits(account, call.now)
    service.check_queue(account)
    if service.settings.rewrite_prompts:
        prompt = f"{prompt}, studio quality"
    job = service.start(call, account, kind, prompt, parameters, webhook)
    service.charge(call, job)
    return Reply(_payloads.created(job, service.wall, call.now), 202)
