"""What of a track may be shown to a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.encoders import ENCODERS_BY_TYPE

from finetuning_async._api import models

if TYPE_CHECKING:
    import datetime as dt

    from finetuning_async._api import Generation, SoundEffect


def _refuse(model: Any) -> Any:
    return model.__get_pydantic_core_schema__(type(model), None)  # it raises


for _model in vars(models).values():
    if hasattr(_model, "__get_pydantic_core_schema__"):
        # Returned without an annotation, one gets here, and the same clear error.
        ENCODERS_BY_TYPE[_model] = _refuse


def public(track: Generation | SoundEffect) -> dict[str, Any]:
    """A track as a JSON object for browsers: without webhook, credits and raw answer.

    Times are ISO 8601 in UTC, durations are seconds.

    Example:
        from finetuning_async.fastapi import public

        print(public(await client.generations.create("rain")))
    """
    return {
        "id": track.id,
        "kind": track.kind,
        "status": track.status,
        "is_final": track.is_final,
        "prompt": track.prompt,
        "duration": track.duration,
        "audio_url": track.audio_url,
        "error_message": track.error_message,
        "created_at": _iso(track.created_at),
        "completed_at": _iso(track.completed_at),
    }


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
