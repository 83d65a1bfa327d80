"""The log lines, events and errors that report what became of a create."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from finetuning_async._errors import CapacityError, SubmissionUnknownError
from finetuning_async._events import GenerationAccepted, RateLimited, SubmissionUnknown
from finetuning_async._submission._submission import OutcomeUnknown

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from finetuning_async._errors import APIStatusError, QueueFullError
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
    """Emit that a create was accepted."""
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
    """Emit that a create may have been accepted."""
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


def response_lost(
    hook: Hook | None,
    submission: Submission,
    reason: str,
    error: APIStatusError | None = None,
) -> OutcomeUnknown:
    """Record and report a lost response; the result is for the caller to raise.

    This is done at once and not by the recovery, which a cancellation may prevent.

    Args:
        hook: Receives the event; may be `None`.
        submission: The create.
        reason: What arrived instead of a usable response.
        error: The error response, if there was one.
    """
    submission.mark_lost(reason)
    logger.warning(
        "a create got no usable response (%s); it may have been charged, its seed is"
        " %s",
        reason,
        submission.seed,
    )
    if hook is not None:
        emit_unknown(hook, submission, reason, given_up=False)
    return OutcomeUnknown(reason, error)


def unknown_error(
    hook: Hook | None,
    submission: Submission,
    reason: str,
    found: str,
    *,
    sent_at: dt.datetime | None,
    candidates: tuple[str, ...],
) -> SubmissionUnknownError:
    """Report a create whose outcome could not be learned; the caller raises the result.

    Args:
        hook: Receives the event; may be `None`.
        submission: The create.
        reason: What arrived instead of a usable response.
        found: What the recovery saw, as text.
        sent_at: When it was sent, by the service's clock, if that is known.
        candidates: Ids of tracks that may be its track.
    """
    if hook is not None:
        emit_unknown(hook, submission, reason, given_up=True, candidates=candidates)
    mark = "its prompt" if submission.seed is None else f"seed={submission.seed}"
    effects = submission.request.kind == "sound_effect"
    where = "sound_effects.list()" if effects else "generations.list()"
    return SubmissionUnknownError(
        f"a create was sent and its outcome is unknown ({reason}); {found}. It may"
        f" have been charged: look for {mark} in {where} before you create it again",
        prompt=submission.request.prompt,
        seed=submission.seed,
        sent_at=sent_at,
        candidates=candidates,
    )


def report_queue_full(
    hook: Hook | None, error: QueueFullError, *, was_known: bool
) -> None:
    """Log and emit that the service's queue is full.

    Args:
        hook: Receives the event; may be `None`.
        error: The refusal.
        was_known: Whether the capacity had been learned before; then the create only
            tested whether it has grown, and the log line is for debugging.
    """
    logger.log(
        logging.DEBUG if was_known else logging.INFO,
        "the service's queue is full: creates wait until a track ends",
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


def wait_too_long(
    submission: Submission, expected: float | None = None
) -> CapacityError:
    """The error of a create that would wait, or has waited, longer than `max_wait`.

    Args:
        submission: The create.
        expected: Seconds from now until it would go out; `None` if its time is over.
    """
    nothing = "accepted" if submission.attempts > 1 else "sent"
    found: list[str] = []
    waited = f"{submission.waited:.1f} s"
    if expected is None or waited != "0.0 s":
        found.append(f"it waited {waited} for the rate limit or the queue")
    if expected is not None:
        found.append(f"it is expected to go out in {expected:.1f} s")
    found.append(f"and max_wait={submission.max_wait:g} allows no more")
    over = None if expected is None else max(expected - submission.max_wait, 0.0)
    return CapacityError(
        f"nothing was {nothing}: {', '.join(found)}; raise max_wait, or try again"
        " later",
        retry_after=over,
        safe_to_retry=True,
    )
