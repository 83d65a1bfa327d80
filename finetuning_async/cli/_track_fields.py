"""What is shown of a track, an instrumental or a sound effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetuning_async import Generation, SoundEffect


def track_fields(track: Generation | SoundEffect) -> dict[str, object]:
    """The rows to print for one."""
    facts: dict[str, object] = {
        "id": track.id,
        "status": track.status,
        "kind": track.kind,
        "title": getattr(track, "title", None),
        "prompt": track.prompt,
        "seconds": track_seconds(track),
        "asked for": None if track_seconds(track) else _asked_for(track),
    }
    made: Any = getattr(track, "parameters", None)
    if made is not None:
        names = ("bpm", "keyscale", "timesignature", "language", "seed")
        facts |= {name: getattr(made, name) for name in names}
    return facts | {
        "created": track.created_at,
        "completed": track.completed_at,
        "audio": track.audio_url,
        "error": track.error_message,
    }


def track_seconds(track: Generation | SoundEffect) -> float | None:
    """The length of a completed one; others have none, whatever was asked for."""
    if track.status != "completed":
        return None
    return track.duration or _asked_for(track)


def _asked_for(track: Generation | SoundEffect) -> float | None:
    """The length that was asked for."""
    if track.kind == "sound_effect":
        asked: float | None = getattr(track, "requested_duration", None)
        return asked
    made: Any = getattr(track, "parameters", None)
    return None if made is None else made.duration
