"""Which parameters of a request the service has changed (Q6, Q30)."""

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
    """Compare a request with the accepted track.

    Only parameters that both have are compared; a prompt only if the service was not
    allowed to enhance it.

    Args:
        request: The request.
        accepted: The track in the response to the create.
        seed: The seed that was sent, if the request has none.

    Returns:
        (requested, got) by parameter; empty if nothing was changed.
    """
    pairs = _pairs(request, accepted, seed)
    return {name: (wanted, got) for name, wanted, got in pairs if _differ(wanted, got)}


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


def _differ(wanted: Any, got: Any) -> bool:
    if wanted is None or got is None or wanted == got:
        return False
    # A time signature is sent as a string and comes back as a number (Q1).
    return str(wanted).strip() != str(got).strip()


def _keyscale(request: GenerationRequest, got: str | None) -> _Change:
    """Key and scale come back in one string; each is compared if it was set."""
    key, scale = request.key, request.scale
    wanted = " ".join(part for part in (key, scale) if part)
    same = got is None or not wanted or _matches(key, scale, got.lower().split())
    return "keyscale", wanted or None, None if same else got


def _matches(key: str | None, scale: str | None, got: list[str]) -> bool:
    if key and got and _sharp(key.lower()) != _sharp(got[0]):
        return False
    return not scale or len(got) < 2 or scale.lower() == got[1]


def _sharp(key: str) -> str:
    return _SHARPS.get(key, key)
