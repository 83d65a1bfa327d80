"""One create, from the call to its end, and the fate that is not known."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from finetuning_async._api import Generation, SoundEffect
from finetuning_async._pacing import Claim, TrackInProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import AnyRequest, Call
    from finetuning_async._errors import APIStatusError
    from finetuning_async._event_hook import Hook
    from finetuning_async._http import RetryPolicy
    from finetuning_async._pacing import SeedMark
    from finetuning_async._types import OnUnknown

Created: TypeAlias = Generation | SoundEffect


class OutcomeUnknown(Exception):  # noqa: N818 - a fate on its way to a lookup
    """A create may have been accepted, and its answer is lost.

    Attributes:
        reason: What was seen instead of an response.
        error: The service's own error, if it sent one.
    """

    def __init__(self, reason: str, error: APIStatusError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way that could still commit.

        The service itself said that the job could not be queued, or a proxy that it
        did not pass the create on.
        """
        said = self.error
        return said is not None and (
            said.code == "GENERATION_FAILED" or self.is_throttled
        )

    @property
    def is_throttled(self) -> bool:
        """Whether something in front of the service said that it was asked too often.

        The service's own 429 is not unknown, but a refusal.
        """
        return self.error is not None and self.error.status_code == 429

    @property
    def error_if_absent(self) -> APIStatusError | None:
        """What to raise once the track is known not to exist.

        `None` if the service said nothing of its own: a proxy's word is not enough.
        """
        said = self.error
        return said if said is not None and (self.is_settled or _is_4xx(said)) else None


def _is_4xx(error: APIStatusError) -> bool:
    return 400 <= error.status_code < 500


@attrs.define(kw_only=True, eq=False)
class Submission:
    """One create, from the call to its end.

    Attributes:
        request: What the caller asked for.
        call: What is sent; the same at every attempt, seed included.
        retry: How often it is sent again, where that costs nothing.
        seed: The seed sent; `None` for a sound effect, which has none.
        on_unknown: What to do when its fate cannot be learned.
        on_submitted: Told the accepted state, before anything else can happen.
        before_wait: Awaited before each attempt waits for its place and its turn.
        before_send: Awaited with the turn in hand, before the first byte of each
            attempt. If it raises or is cancelled, nothing is sent and the turn is back
            at once.
        deadline: For all attempts together, on the loop's clock.
        started_at: When the call began, on the loop's clock, if anybody wants to know.
        attempts: How many were made.
        resubmissions: How often it was sent again although its fate was not known.
        holds_queue_slot: Whether it holds a place that it took at the queue gate.
        seed_mark: Tells whether others with this seed are on their way.
        sent_at: When the attempt under way went out, on the loop's clock; `None` while
            nothing of it can have been accepted.
        first_lost_sent_at: `sent_at` of the first attempt whose answer was lost, if one was.
        last_lost_sent_at: The same of the last one.
        unknown_reason: What was seen instead of a usable response, if one was lost.
        accepted: The accepted state, once there is one.
        callback_error: What `on_submitted` raised.
    """

    request: AnyRequest
    call: Call
    retry: RetryPolicy
    seed: int | None
    on_unknown: OnUnknown = "raise"
    on_submitted: Callable[[Any], Awaitable[None] | None] | None = None
    before_wait: Callable[[], Awaitable[None]] | None = None
    before_send: Callable[[], Awaitable[None]] | None = None
    deadline: float = inf
    started_at: float = 0.0
    attempts: int = 0
    resubmissions: int = 0
    holds_queue_slot: bool = False
    seed_mark: SeedMark | None = None
    sent_at: float | None = None
    first_lost_sent_at: float | None = None
    last_lost_sent_at: float | None = None
    unknown_reason: str | None = None
    accepted: Created | None = None
    callback_error: Exception | None = None

    def mark_unsent(self) -> None:
        """The attempt under way was given up before its first byte left."""
        self.sent_at = None

    @property
    def in_doubt_since(self) -> float | None:
        """Since when something of it may have been accepted, as far as known."""
        return (
            self.sent_at if self.first_lost_sent_at is None else self.first_lost_sent_at
        )

    @property
    def claim(self) -> Claim | None:
        """Its seed, and since when a track may be of it; `None` if none can be."""
        sent_at = self.in_doubt_since
        return None if sent_at is None else Claim(self.seed, sent_at)

    def to_track_in_progress(
        self, accepted_at: float, hook: Hook | None
    ) -> TrackInProgress:
        """What the register keeps of it once it is accepted."""
        return TrackInProgress(
            kind=self.request.kind,
            accepted_at=accepted_at,
            duration=self.request.duration,
            has_webhook=self.request.webhook is not None,
            hook=hook,
            claim=self.claim,
        )

    @property
    def seed_is_ours(self) -> bool:
        """Whether the seed was drawn here rather than chosen by the caller."""
        return getattr(self.request, "seed", None) is None

    @property
    def lock_key(self) -> tuple[object, ...] | None:
        """What creates that look alike in a list share; those go one by one."""
        if self.seed is None or self.seed_is_ours:
            return None
        return (self.request.kind, self.request.prompt, self.seed)
