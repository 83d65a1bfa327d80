"""Whether a 2xx to a create is the answer to another request. Pure.

A broken proxy or a server that writes an answer twice shifts the answers of a
connection: each request gets that of the one before. Taken for its own, one track would
be handed out twice and another never.

Only what cannot be true of an answer of ours counts, for a service may respell a
prompt, pick a seed, or snap a duration: two marks of another's together, or an id, or a
seed, that is known to be another's.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from finetuning_async._api import Generation, SoundEffect

if TYPE_CHECKING:
    from finetuning_async._api import AnyRequest

    Created: TypeAlias = Generation | SoundEffect

CUT_SHORT: Final = 20
"""Letters and digits from which on a prompt may be the beginning of another: they are
cut at some length, and some services add to them."""

SNAPPING: Final = 0.5
"""Seconds by which the service may snap the length of an effect (Q30)."""

_MARKS: Final = frozenset(
    {
        "status",
        "type",
        "prompt",
        "parameters",
        "requestedDuration",
        "audioUrl",
        "webhook",
        "creditsRemaining",
        "dailyRemaining",
    }
)
"""Of these an answer to a create has at least one, if it has more than an id and a
date."""


@attrs.frozen(kw_only=True)
class SentRequest:
    """What is known beside the response.

    Attributes:
        seed: The seed sent; `None` for a sound effect, which has none.
        is_claimed: Whether the id belongs to an earlier create of ours.
        is_open_elsewhere: Whether another create of ours is on its way with the seed
            shown.
        echoes: Whether the service is known to show the seeds that it was sent.
    """

    seed: int | None
    is_claimed: bool
    is_open_elsewhere: bool = False
    echoes: bool = False


def foreign_reason(
    request: AnyRequest, track: Created, known: SentRequest
) -> str | None:
    """Say why an answer cannot be that to a create of ours; `None` if it can.

    Args:
        request: What was asked for.
        track: What the answer shows.
        known: What is known beside it.
    """
    if known.is_claimed:
        return f"{track.id} is the track of an earlier create"
    raw = track.raw
    if len(raw) > 2 and _MARKS.isdisjoint(raw):
        return f"{track.id} is no track: it has {', '.join(sorted(raw))[:80]}"
    if isinstance(track, SoundEffect):
        is_foreign = _has_foreign_length(request, track)
    else:
        if known.is_open_elsewhere:
            return f"{track.id} has the seed of another create"
        is_foreign = _has_foreign_seed(track, known)
    if is_foreign and _has_foreign_prompt(request, track, known):
        return f"{track.id} is of another prompt, {track.prompt[:40]!r}"
    return None


def _has_foreign_seed(track: Generation, known: SentRequest) -> bool:
    shown = track.parameters.seed
    # A seed of 0 may mean that the service picks one (Q27).
    return shown is not None and bool(known.seed) and shown != known.seed


def _has_foreign_length(request: AnyRequest, effect: SoundEffect) -> bool:
    asked, got = request.duration, effect.requested_duration
    return asked is not None and got is not None and abs(asked - got) > SNAPPING


def _has_foreign_prompt(
    request: AnyRequest, track: Created, known: SentRequest
) -> bool:
    """Whether a prompt is not the one sent, however it was respelled.

    One that may be enhanced says nothing, unless seeds are known to be told faithfully:
    then a wrong seed alone is strange.
    """
    if getattr(request, "enhance", False) and not known.echoes:
        return False
    asked, got = _folded(request.prompt), _folded(track.prompt)
    shorter, longer = sorted((asked, got), key=len)
    if not shorter:
        return False
    return shorter != longer and not (
        len(shorter) >= CUT_SHORT and longer.startswith(shorter)
    )


def _folded(text: str) -> str:
    """Its letters and digits, in one spelling."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, plain))
