"""One create of an item: its seed, its lookalikes, and what its error says about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._errors import (
    BadRequestError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async.journal._state_machine import Ended, Rejected

if TYPE_CHECKING:
    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._errors import FinetuningError
    from finetuning_async._submission import Submission
    from finetuning_async.journal._records import Item

RETRY_DELAYS: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds before a create is sent again after a transient failure; then every 60 s."""

MAX_REFUSALS: Final = 5
"""Refusals after which an item counts as failed that a 5xx or a 404 refuses."""


@attrs.frozen
class Retry:
    """Wait here, then send the create again."""

    seconds: float


@attrs.frozen
class Pause:
    """Give the item back, to be processed again after some seconds."""

    seconds: float


def reuse_seed(submission: Submission, seed: int | None) -> None:
    """Let a create carry the seed of the first create of its item, if there was one.

    The track of either create is then recognized as the item's.
    """
    request = submission.request
    if seed is not None and getattr(request, "seed", None) is None:
        body = request.to_body(seed=seed)
        submission.call = attrs.evolve(submission.call, body=body)
        submission.seed = seed


def is_in_doubt(submission: Submission) -> bool:
    """Whether a create may have been accepted, though no response says so.

    Even a response that says the create was not queued does not prove it: services have
    queued a create and answered with an error (see test_absence.py).
    """
    return submission.accepted is None and submission.in_doubt_since is not None


def retry_delay(error: FinetuningError, refusals: int) -> float:
    """Seconds to wait after a number of refusals in a row, this one included."""
    delay = RETRY_DELAYS[min(refusals, len(RETRY_DELAYS)) - 1]
    return max(delay, error.retry_after or 0.0)


def end_of(track: Generation | SoundEffect, facts: str | None) -> Ended:
    """How a track ended.

    Args:
        track: Completed or failed.
        facts: What the journal keeps of it, as JSON.
    """
    if track.status != "failed":
        return Ended(False, facts)
    message = track.error_message or "the service gave no reason"
    return Ended(True, facts, "FAILED", message)


def usual_reply(error: FinetuningError, refusals: int) -> Retry | Rejected | None:
    """What follows a refusal that concerns this item; `None` if it concerns others too.

    A 404 says nothing about the item itself, since a create names nothing that could
    have been deleted; a 5xx neither. So they end an item only when they are repeated.

    Args:
        error: Why the create was not accepted.
        refusals: How many there were in a row, this one included.
    """
    is_final = isinstance(error, InvalidRequestError | BadRequestError)
    is_passing = isinstance(error, InternalServerError | NotFoundError)
    if is_final or (is_passing and refusals >= MAX_REFUSALS):
        return Rejected(error.code, str(error))
    return Retry(retry_delay(error, refusals)) if is_passing else None


def lookalike_key(item: Item) -> tuple[str, str, int] | None:
    """A key shared by items whose tracks look the same in a listing.

    Such items have the same kind, prompt and seed, chosen by the caller. They go one at
    a time. `None` for an item whose seed is drawn here.
    """
    if '"seed"' not in item.body:  # cheaper than to build the request
        return None
    request = item.request
    return None if request.seed is None else (item.kind, request.prompt, request.seed)
