"""What becomes of creates, told: a line of the log, and an event for the hook."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from finetuning_async._errors import SubmissionUnknownError
from finetuning_async._events import GenerationAccepted, RateLimited, SubmissionUnknown

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from finetuning_async._errors import QueueFullError
    from finetuning_async._event_hook import Hook
    from finetuning_async._submission._submission import Created, Submission

logger = logging.getLogger("finetuning_async")


def emit_accepted(
    hook: Hook,
    submission: Submission,
    track: Created,
    *,
    adopted: bool,
    request_id: str | None,
) -> None:
    """A create was accepted; its log line is written before anything can go wrong."""
    now = anyio.current_time()
    hook(
        GenerationAccepted(
            at=now,
            generation_id=track.id,
            kind=submission.request.kind,
            seed=submission.seed,
            attempts=submission.attempts,
            duration=now - submission.started_at,
            adopted=adopted,
            changed=tuple(sorted(track.changed_by_service)),
            credits_remaining=getattr(track, "credits_remaining", None),
            request_id=request_id,
        )
    )


def emit_unknown(
    hook: Hook,
    submission: Submission,
    reason: str,
    *,
    given_up: bool,
    candidates: Sequence[str] = (),
) -> None:
    """A create may have been accepted."""
    hook(
        SubmissionUnknown(
            at=anyio.current_time(),
            kind=submission.request.kind,
            seed=submission.seed,
            reason=reason,
            given_up=given_up,
            candidates=tuple(candidates),
        )
    )


def unknown_error(
    hook: Hook | None,
    submission: Submission,
    reason: str,
    found: str,
    *,
    sent_at: dt.datetime | None,
    candidates: tuple[str, ...],
) -> SubmissionUnknownError:
    """The error for a create whose fate could not be learned, and was told.

    Args:
        hook: Who is told; `None` for nobody.
        submission: It.
        reason: What was seen instead of an response.
        found: What the lookup saw, in words.
        sent_at: When it left, by the service's clock, if that is known.
        candidates: Ids that may be it.
    """
    if hook is not None:
        emit_unknown(hook, submission, reason, given_up=True, candidates=candidates)
    mark = "its prompt" if submission.seed is None else f"seed={submission.seed}"
    effects = submission.request.kind == "sound_effect"
    where = "sound_effects.list()" if effects else "generations.list()"
    return SubmissionUnknownError(
        f"a create was sent and its fate is not known ({reason}); {found}. It may be"
        f" paid: look for {mark} in {where} before creating it again",
        prompt=submission.request.prompt,
        seed=submission.seed,
        sent_at=sent_at,
        candidates=candidates,
    )


def report_queue_full(
    hook: Hook | None, error: QueueFullError, *, was_known: bool
) -> None:
    """The service's queue is full; later times are a test of whether it has grown."""
    logger.log(
        logging.DEBUG if was_known else logging.INFO,
        "the service's queue is full: creates wait for a track to end",
    )
    if hook is not None:
        hook(
            RateLimited(
                at=anyio.current_time(),
                budget="queue",
                duration=error.retry_after,
                code=error.code,
                request_id=error.request_id,
            )
        )
