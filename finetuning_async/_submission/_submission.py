"""The state of one create, from the call until its outcome is known."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import attrs

from finetuning_async._api import Generation, SoundEffect
from finetuning_async._pacing import NORMAL, Claim, Terms, TrackInProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._api import AnyRequest, Call
    from finetuning_async._errors import APIStatusError
    from finetuning_async._event_hook import Hook
    from finetuning_async._events import CreateWaiting
    from finetuning_async._http import RetryPolicy
    from finetuning_async._pacing import QueueGate, RatePermit, SeedMark
    from finetuning_async._types import OnUnknown

Created: TypeAlias = Generation | SoundEffect


class OutcomeUnknown(Exception):  # noqa: N818 - starts a recovery, is not an error
    """A create may have been accepted, but its response is lost.

    Attributes:
        reason: What arrived instead of a usable response.
        error: The error response, if there was one.
    """

    def __init__(self, reason: str, error: APIStatusError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in progress any more that could still commit the create.

        Either the service itself said that it could not queue the job, or a proxy said
        that it did not forward the create.
        """
        error = self.error
        return error is not None and (
            error.code == "GENERATION_FAILED" or self.is_throttled
        )

    @property
    def is_throttled(self) -> bool:
        """Whether something in front of the service sent a 429.

        The service's own 429 does not get here: it is a refusal.
        """
        return self.error is not None and self.error.status_code == 429

    @property
    def error_if_absent(self) -> APIStatusError | None:
        """What to raise once the list does not show the track.

        `None` unless the service itself reported a failure, or the response was a 4xx:
        a proxy's 5xx does not prove anything.
        """
        error = self.error
        if error is not None and (self.is_settled or _is_4xx(error)):
            return error
        return None


def _is_4xx(error: APIStatusError) -> bool:
    return 400 <= error.status_code < 500


@attrs.define(kw_only=True, eq=False)
class Submission:
    """One create, from the call until its outcome is known.

    Times are seconds of the loop's clock.

    Attributes:
        request: What the caller asked for.
        call: What is sent; identical at every attempt, the seed included.
        retry: How often it is sent again where that cannot cost a second credit.
        seed: The seed sent; `None` for a sound effect, which has none.
        on_unknown: What to do when the outcome cannot be learned.
        on_submitted: Called with the accepted state before anything else happens to it.
        on_waiting: Called while it waits for its permit, as `CreateWaiting` says.
        before_wait: Awaited before each attempt waits for its queue slot and permit.
        before_send: Awaited with the permit held, before the first byte of each
            attempt. If it raises or is cancelled, nothing is sent and the permit is
            returned at once.
        send_by: When the first byte of the current attempt must have left at the
            latest; what leaves it unsent is not an error of the request. `before_send`
            sets it.
        send_by_wall: The same in seconds since 1970.
        rank: Of its priority; see `RANKS`.
        share: For whom it is; `None` is a share as well.
        max_wait: Seconds that it may wait for its permit and its slot, over all tries.
        waited: Seconds that it has waited for them so far.
        gate: The service's queue in the line of its permit; `None` while it does not
            wait there.
        permit: Its permit, where it was taken before it is submitted.
        deadline: For all attempts together.
        started_at: When the call began; only set if there is an event hook.
        attempts: How many were made.
        resubmissions: How often it was sent again after its absence was proved.
        holds_queue_slot: Whether it holds a slot in the service's queue that was
            neither accepted nor refused yet.
        seed_mark: Says whether another create with this seed is in flight.
        sent_at: When the current attempt was sent; `None` while nothing of it can have
            been accepted.
        first_lost_sent_at: `sent_at` of the first attempt whose response was lost.
        last_lost_sent_at: `sent_at` of the last attempt whose response was lost.
        unknown_reason: What arrived instead of a usable response, if one was lost.
        accepted: The accepted state, once there is one.
        callback_error: What `on_submitted` raised.
    """

    request: AnyRequest
    call: Call
    retry: RetryPolicy
    seed: int | None
    on_unknown: OnUnknown = "raise"
    on_submitted: Callable[[Any], Awaitable[None] | None] | None = None
    on_waiting: Callable[[CreateWaiting], object] | None = None
    before_wait: Callable[[], Awaitable[None]] | None = None
    before_send: Callable[[], Awaitable[None]] | None = None
    send_by: float = inf
    send_by_wall: float = inf
    rank: int = NORMAL
    share: str | None = None
    max_wait: float = inf
    waited: float = 0.0
    gate: QueueGate | None = None
    permit: RatePermit | None = None
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

    @property
    def terms(self) -> Terms:
        """How it is dealt its permit."""
        return Terms(self.rank, self.share, self.gate)

    @property
    def may_still_leave(self) -> bool:
        """Whether the first byte of the current attempt is not too late."""
        if self.send_by == inf:
            return True
        # The loop's clock stands still while its machine sleeps, or is paused as a
        # virtual one. Meanwhile others may have taken over; they have the wall's time.
        is_late = anyio.current_time() > self.send_by
        return not is_late and time.time() <= self.send_by_wall

    def mark_unsent(self) -> None:
        """Note that the current attempt was abandoned before its first byte left."""
        self.sent_at = None

    def mark_lost(self, reason: str) -> None:
        """Note that the response to the current attempt is lost.

        Args:
            reason: What arrived instead.
        """
        # A resubmission may be lost as well. The track may then be of any attempt, so
        # the search goes back to the first, and only a create sent after the last one
        # can prove absence.
        if self.first_lost_sent_at is None:
            self.first_lost_sent_at = self.sent_at
        self.last_lost_sent_at = self.sent_at
        self.sent_at, self.unknown_reason = None, reason

    @property
    def in_doubt_since(self) -> float | None:
        """Since when the service may have accepted it, as far as is known."""
        if self.first_lost_sent_at is not None:
            return self.first_lost_sent_at
        return self.sent_at

    @property
    def costs_credits(self) -> bool:
        """Whether its track takes a credit, as all but sound effects do."""
        return self.request.kind != "sound_effect"

    @property
    def is_charged(self) -> bool:
        """Whether it has taken its credit, or may have."""
        return self.accepted is not None or self.in_doubt_since is not None

    @property
    def claim(self) -> Claim | None:
        """Its seed and the earliest time of its track; `None` if it cannot have one."""
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
        """Whether the seed was drawn here at random rather than given by the caller."""
        return getattr(self.request, "seed", None) is None

    @property
    def lock_key(self) -> tuple[object, ...] | None:
        """Equal for creates whose rows in a list look alike; those run one at a time.

        `None` if the seed was drawn here, so that no other create looks like this one.
        """
        if self.seed is None or self.seed_is_ours:
            return None
        return (self.request.kind, self.request.prompt, self.seed)
