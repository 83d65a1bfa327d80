"""Records as JSON: every success body of sections 3 and 6.

``media`` is the base URL of audio for the client that reads: a client in a container
reaches the emulator by another host name than one beside it. A webhook has no reader,
so it names the host at which the create came in.

Reads give the length of music in whole seconds, as documented (quirk Q7): the vendor's
program decodes it into an integer, and one fraction would break its whole list.
Webhooks and sound effects keep fractions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from finetuning_async.emulator._records import audio_url

if TYPE_CHECKING:
    from finetuning_async.emulator._clock import WallClock
    from finetuning_async.emulator._records import Account, Job, Playlist

FAILURE = "renderer ran out of time"


def me(account: Account) -> dict[str, Any]:
    """``GET /v1/me``."""
    monthly = max(0, account.monthly - account.used)
    return {
        "id": account.id,
        "email": account.email,
        "name": account.name,
        "tier": account.tier,
        "limits": {
            "monthlyGenerations": account.monthly,
            "generationsUsed": account.used,
            "monthlyRemaining": monthly,
            "packCredits": account.pack,
            "totalRemaining": account.remaining,
            "queueDepth": account.in_progress,
        },
    }


def created(job: Job, wall: WallClock, now: float) -> dict[str, Any]:
    """The 202 of a track. ``timesignature`` is a string here only (quirk Q1)."""
    body: dict[str, Any] = {"id": job.id}
    parameters = dict(job.parameters)
    if job.kind == "instrumental":
        body["type"] = job.kind
    else:
        parameters["timesignature"] = str(parameters["timesignature"])
    return body | {
        "status": job.status_at(now),
        "prompt": job.prompt,
        "parameters": parameters,
        "webhook": job.webhook,
        "creditsRemaining": job.owner.remaining,
        "createdAt": wall.iso_seconds(job.created_at),
    }


def row(job: Job, wall: WallClock, now: float, media: str) -> dict[str, Any]:
    """One row of the list; `detail` has more members."""
    ended = now >= job.ends_at
    done = ended and not job.fails
    return {
        "id": job.id,
        "title": job.title,
        "prompt": job.prompt,
        "type": job.kind,
        "status": job.status_at(now),
        "audioUrl": audio_url(job, media) if done else None,
        "duration": whole_seconds(job) if done else None,
        "isPublic": job.is_public,
        "playCount": job.plays,
        "likeCount": 0,
        "parameters": read_parameters(job),
        "createdAt": wall.plain(job.created_at),
        "completedAt": wall.iso_millis(job.ends_at) if ended else None,
    }


def detail(
    job: Job, wall: WallClock, now: float, media: str, file_size: int | None
) -> dict[str, Any]:
    """``GET /v1/generations/:id``. ``fileSize`` is null for music, as documented."""
    ended = now >= job.ends_at
    done = ended and not job.fails
    seconds = round(job.ends_at - job.starts_at, 3) if done else None
    return row(job, wall, now, media) | {
        "fileSize": file_size if done else None,
        "downloadCount": job.downloads,
        "errorMessage": FAILURE if ended and job.fails else None,
        "generationTime": seconds,
        "webhook": job.webhook,
    }


def whole_seconds(job: Job) -> int:
    """The length of a track, halves rounded up."""
    seconds: float = job.parameters["duration"]
    return math.floor(seconds + 0.5)


def read_parameters(job: Job) -> dict[str, Any]:
    """The parameters without ``language``, which reads never show (quirk Q23)."""
    return {k: v for k, v in job.parameters.items() if k != "language"}


def effect(job: Job, wall: WallClock, now: float, media: str) -> dict[str, Any]:
    """A sound effect in lists and ``GET /v1/sound-effects/:id``."""
    ended = now >= job.ends_at
    done = ended and not job.fails
    return {
        "id": job.id,
        "status": job.status_at(now),
        "prompt": job.prompt,
        "requestedDuration": job.parameters["duration"],
        "audioUrl": audio_url(job, media) if done else None,
        "duration": job.parameters["duration"] if done else None,
        "webhook": job.webhook,
        "errorMessage": FAILURE if ended and job.fails else None,
        "createdAt": wall.plain(job.created_at),
        "completedAt": wall.iso_millis(job.ends_at) if ended else None,
    }


def effect_created(
    job: Job, wall: WallClock, now: float, daily_remaining: int
) -> dict[str, Any]:
    """The 202 of a sound effect."""
    body = effect(job, wall, now, job.media)
    del body["errorMessage"]
    created_at = wall.iso_seconds(job.created_at)
    return body | {"createdAt": created_at, "dailyRemaining": daily_remaining}


def playlist(entry: Playlist, wall: WallClock) -> dict[str, Any]:
    """One row of ``GET /v1/playlists``."""
    return {
        "id": entry.id,
        "name": entry.name,
        "description": entry.description,
        "trackCount": len(entry.tracks),
        "totalDuration": sum(whole_seconds(track) for track in entry.tracks),
        "isPublic": entry.is_public,
        "createdAt": wall.plain(entry.created_at),
        "updatedAt": wall.plain(entry.updated_at),
    }


def playlist_track(job: Job, wall: WallClock, now: float, media: str) -> dict[str, Any]:
    """One track of ``GET /v1/playlists/:id``."""
    whole = row(job, wall, now, media)
    shown = ("id", "title", "prompt", "status", "audioUrl", "duration", "isPublic")
    return {k: whole[k] for k in shown} | {"createdAt": whole["createdAt"]}


def webhook(job: Job, wall: WallClock) -> dict[str, Any]:
    """The webhook's body: the bare object, without an envelope (section 6, U21)."""
    if job.kind == "effect":
        return effect(job, wall, job.ends_at, job.media)
    length = None if job.fails else float(job.parameters["duration"])
    body: dict[str, Any] = {
        "id": job.id,
        "status": job.status_at(job.ends_at),
        "audioUrl": None if job.fails else job.audio_url,
        "duration": length,
        "prompt": job.prompt,
        "parameters": read_parameters(job),
        "createdAt": wall.iso_millis(job.created_at),
        "completedAt": wall.iso_millis(job.ends_at),
    }
    if job.kind == "instrumental":
        body["type"] = job.kind
    if job.fails:
        body["errorMessage"] = FAILURE
    return body
