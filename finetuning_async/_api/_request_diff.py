"""What the service made of a request otherwise than asked (Q6, Q30)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from finetuning_async._api._models import Generation, SoundEffect
from finetuning_async._api._requests import AnyRequest, GenerationRequest
from finetuning_async._api._validation import FLATS

if TYPE_CHECKING:
    from collections.abc import Iterator

_Change: TypeAlias = tuple[str, Any, Any]
_SHARPS: Final = {flat.lower(): sharp.lower() for flat, sharp in FLATS.items()}


def changes(
    request: AnyRequest,
    accepted: Generation | SoundEffect,
    *,
    seed: int | None = None,
) -> dict[str, tuple[Any, Any]]:
    """Compare what was asked for with what was accepted.

    Looked at is what was set and what came back; what either side leaves out is no
    change. A prompt that the service was allowed to enhance is none either.

    Args:
        request: What was asked for.
        accepted: The answer to the create.
        seed: The seed that was sent, when the request had none of its own.

    Returns:
        By parameter: (asked, got). Empty if all is as asked.
    """
    pairs = _pairs(request, accepted, seed)
    return {name: (asked, got) for name, asked, got in pairs if _differ(asked, got)}


def _pairs(
    request: AnyRequest, accepted: Generation | SoundEffect, seed: int | None
) -> Iterator[_Change]:
    if isinstance(request, GenerationRequest) or not request.enhance:
        yield "prompt", request.prompt, accepted.prompt or None
    if isinstance(accepted, SoundEffect):
        yield "duration", request.duration, accepted.requested_duration
        return
    got = accepted.parameters
    yield "duration", request.duration, got.duration
    yield "seed", seed if request.seed is None else request.seed, got.seed
    if isinstance(request, GenerationRequest):
        yield "bpm", request.bpm, got.bpm
        yield "language", request.language, got.language
        yield "timesignature", request.timesignature, got.timesignature
        yield _keyscale(request, got.keyscale)


def _differ(asked: Any, got: Any) -> bool:
    if asked is None or got is None or asked == got:
        return False
    # A time signature goes out as text and comes back as a number (Q1).
    return str(asked).strip() != str(got).strip()


def _keyscale(request: GenerationRequest, got: str | None) -> _Change:
    """Key and scale come back as one text; each is compared if it was set."""
    key, scale = request.key, request.scale
    asked = " ".join(part for part in (key, scale) if part)
    same = got is None or not asked or _fits(key, scale, got.lower().split())
    return "keyscale", asked or None, None if same else got


def _fits(key: str | None, scale: str | None, got: list[str]) -> bool:
    if key and got and _sharp(key.lower()) != _sharp(got[0]):
        return False
    return not scale or len(got) < 2 or scale.lower() == got[1]


def _sharp(key: str) -> str:
    return _SHARPS.get(key, key)
