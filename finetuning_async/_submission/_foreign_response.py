"""Whether a 2xx to a create is the response to another request. Pure.

A broken proxy, or a server that writes a response twice, shifts the responses of a
connection: each request gets the one of the request before. If such a response were
taken as it is, one track would be returned twice and another never.

A service may respell a prompt, pick a seed or round a duration. So a single difference
proves nothing, and a response counts as foreign only for what cannot be true of one of
ours:

    an id that an earlier create of ours has claimed;
    a body that has none of the fields of a track;
    a seed with which another create of ours is in flight;
    a foreign seed (of an effect: a foreign length) and a foreign prompt together.
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
"""Letters and digits from which on a prompt may be the beginning of the one sent, or
the other way round: some services cut prompts, others append to them."""

SNAPPING: Final = 0.5
"""Seconds by which the service may round the length of an effect (Q30)."""

_TRACK_FIELDS: Final = frozenset(
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
"""A response to a create has at least one of these if it has more than an id and a
date."""


@attrs.frozen(kw_only=True)
class SentRequest:
    """What is known beside the response.

    Attributes:
        seed: The seed sent; `None` for a sound effect, which has none.
        is_claimed: Whether the id belongs to an earlier create of ours.
        is_open_elsewhere: Whether another create of ours is in flight with the seed
            that the response shows.
        echoes: Whether the service is known to show the seeds that it was sent.
    """

    seed: int | None
    is_claimed: bool
    is_open_elsewhere: bool = False
    echoes: bool = False


def foreign_reason(
    request: AnyRequest, track: Created, known: SentRequest
) -> str | None:
    """Why a response cannot be the one to a create of ours; `None` if it can be.

    Args:
        request: What was asked for.
        track: What the response shows.
        known: What is known beside it.
    """
    if known.is_claimed:
        return f"{track.id} is the track of an earlier create"
    raw = track.raw
    # A body of an id and a date is the least that a service may send; it stays ours.
    if len(raw) > 2 and _TRACK_FIELDS.isdisjoint(raw):
        return (
            f"{track.id} is not a track: its fields are {', '.join(sorted(raw))[:80]}"
        )
    if isinstance(track, SoundEffect):
        is_foreign = _has_foreign_length(request, track)
    else:
        if known.is_open_elsewhere:
            return f"{track.id} has the seed of another create"
        is_foreign = _has_foreign_seed(track, known)
    # One difference may be the service's doing: it takes two to be another's.
    if is_foreign and _has_foreign_prompt(request, track, known):
        return f"{track.id} has another prompt, {track.prompt[:40]!r}"
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

    A prompt that the service may enhance proves nothing, unless seeds are known to be
    echoed: then a wrong seed alone is suspicious enough.
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
    """The letters and digits of a text, normalized."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, plain))
