"""When a create may go out although the service's queue has an unknown length. Pure.

The service refuses a create with ``QUEUE_FULL`` when too many tracks of the account are
in progress. It does not publish that number. One refusal shows it: what was in progress
then is the capacity. From there on, a create goes out when a track ends.

Where the caller has stated the capacity, there is nothing to learn, but other clients
of the account may fill a part of the queue: after a refusal it is tried again at
growing pauses.

Before anything is known, creates go out in full, with one caution: beyond the number
that has already fit, at most `MAX_PROBES` may be without a response at a time, so that
learning costs at most that many refusals.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final, Self

MAX_PROBES: Final = 3
"""Creates without a response beyond what is known to fit; the most refusals that
learning the capacity can cost."""

FOREIGN_PAUSES: Final = (5.0, 10.0, 20.0, 30.0)
"""Seconds between retries while the queue is full and no track in it is ours."""

TRIAL_PAUSE: Final = 1800.0
"""Seconds after a refusal until one create more than the capacity is tried. If it fits,
the next one follows at once; if not, it costs a refusal every half hour."""


class QueueCapacity:
    """The capacity of the service's queue, as far as it is known.

    Methods that take `in_progress` need the number of accepted tracks of ours that have
    not been seen to end. Times are seconds of one clock.

    Args:
        stated: How many tracks fit, as the caller says; `None` to learn it.

    Attributes:
        capacity: How many tracks fit; `None` until a refusal has shown it.
        pending: Creates that were sent and have no response yet.
    """

    def __init__(self, stated: int | None = None) -> None:
        self.capacity: int | None = stated
        self._stated = stated
        self.pending = 0
        self._seen_to_fit = 0
        self._refused_at = -inf
        self._retry_after = 0.0
        self._foreign_refusals = 0  # in a row, while none of our tracks was in progress

    def __repr__(self) -> str:
        return f"<QueueCapacity {self.capacity}: {self.pending} pending>"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON; see `from_state`."""
        # The keys are those of the stored form: they stay when a name changes.
        return {
            "capacity": self.capacity,
            "entering": self.pending,
            "seen_to_fit": self._seen_to_fit,
            "refused_at": self._refused_at,
            "asked_pause": self._retry_after,
            "foreign_refusals": self._foreign_refusals,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], stated: int | None = None) -> Self:
        """Restore what `to_state` returned."""
        made = cls(stated)
        made.capacity, made.pending = state["capacity"], state["entering"]
        if stated is not None:  # it may be new, or lower than what was learned
            made.capacity = min(
                stated if made.capacity is None else made.capacity, stated
            )
        made._seen_to_fit = state["seen_to_fit"]
        made._refused_at = state["refused_at"]
        made._retry_after = state["asked_pause"]
        made._foreign_refusals = state["foreign_refusals"]
        return made

    def opens_at(self, in_progress: int) -> float:
        """When the next create may go out.

        Returns:
            ``-inf`` for now, a time, or ``inf`` if only a response or the end of a
            track can make room.
        """
        taken = in_progress + self.pending
        if self.capacity is None:
            may_go = self.pending < MAX_PROBES or taken < self._seen_to_fit
            return -inf if may_go else inf
        if taken < self.capacity:
            return -inf
        if self.pending or self.capacity == self._stated:
            return inf  # beyond what was learned, one at a time; beyond a fact, none
        return self._refused_at + self._pause(in_progress)

    def _pause(self, in_progress: int) -> float:
        """Seconds to wait after a refusal before the full queue is tried again."""
        if in_progress and self._stated is None:
            return TRIAL_PAUSE  # the end of one of ours makes room before that
        return max(self._foreign_pause(), self._retry_after)

    def _foreign_pause(self) -> float:
        if not self._foreign_refusals:
            return 0.0
        return FOREIGN_PAUSES[min(self._foreign_refusals, len(FOREIGN_PAUSES)) - 1]

    def on_sent(self) -> None:
        """A create goes out; exactly one of the methods below ends it."""
        self.pending += 1

    def on_accepted(self, in_progress: int) -> None:
        """It was accepted; `in_progress` counts it."""
        self.pending -= 1
        self._seen_to_fit = max(self._seen_to_fit, in_progress)
        self._foreign_refusals = 0
        if self.capacity is not None and in_progress > self.capacity:
            # One more fits than was known. But a capacity of 0 was learned while other
            # clients filled the queue, and says nothing about what fits now: it is
            # unknown again, rather than 1.
            known = self.capacity or self._stated
            self.capacity = in_progress if known else None

    def on_refused(
        self, now: float, in_progress: int, retry_after: float = 0.0
    ) -> None:
        """It was refused with ``QUEUE_FULL``.

        Args:
            now: Seconds.
            in_progress: See above.
            retry_after: Pause in seconds that the response asks for, 0 if none. It
                counts only while no track of ours is in progress, since the end of one
                makes room earlier.
        """
        self.pending -= 1
        # Creates that went out together are one attempt, however many were refused; so
        # only a refusal after the pause of the last one makes the next pause longer.
        is_foreign = not in_progress or self._stated is not None
        if is_foreign and now >= self._refused_at + self._foreign_pause():
            self._foreign_refusals += 1
        self._refused_at = now
        self._retry_after = retry_after
        self._seen_to_fit = min(self._seen_to_fit, in_progress)
        if self.capacity is None or in_progress < self.capacity:
            self.capacity = in_progress

    def on_other_outcome(self) -> None:
        """It ended in another way, which shows nothing about the queue."""
        self.pending -= 1
