"""When a create may go out although the service's queue has an unknown length. Pure.

The service answers ``QUEUE_FULL`` when too many tracks of the account are under way;
the number is not published. It is learned from one refusal: what was under way then is
the capacity. From there on a create goes out when a track ends.

Before anything is known, creates go out in full but for one caution: beyond the number
that has already been seen under way, at most `CAUTION` are without an answer at a time,
so that learning costs at most that many refusals.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final, Self

CAUTION: Final = 3
"""Creates without an answer beyond what is known to fit; so many refusals teach it."""

FOREIGN_PAUSES: Final = (5.0, 10.0, 20.0, 30.0)
"""Seconds between tries while the queue is full and none of it is ours."""

TRIAL_PAUSE: Final = 1800.0
"""Seconds after a refusal until one more than the capacity is tried. Each that fits is
followed by the next; one that does not costs a refusal every half hour."""


class QueueCapacity:
    """The capacity of the service's queue, as far as it is known.

    Every method that takes `under_way` is told how many accepted tracks of ours have
    not been seen to end. Times are seconds of one clock.

    Attributes:
        capacity: How many fit; `None` while no refusal has told.
        pending: Creates let through that have no answer yet.
    """

    def __init__(self) -> None:
        self.capacity: int | None = None
        self.pending = 0
        self._seen_to_fit = 0
        self._refused_at = -inf
        self._asked_pause = 0.0
        self._foreign_refusals = 0

    def __repr__(self) -> str:
        return f"QueueGate(capacity={self.capacity}, pending={self.pending})"

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON; see `from_state`."""
        return {
            "capacity": self.capacity,
            "entering": self.pending,
            "seen_to_fit": self._seen_to_fit,
            "refused_at": self._refused_at,
            "asked_pause": self._asked_pause,
            "foreign_refusals": self._foreign_refusals,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """One that remembers what `to_state` told."""
        made = cls()
        made.capacity, made.pending = state["capacity"], state["entering"]
        made._seen_to_fit = state["seen_to_fit"]
        made._refused_at = state["refused_at"]
        made._asked_pause = state["asked_pause"]
        made._foreign_refusals = state["foreign_refusals"]
        return made

    def opens_at(self, under_way: int) -> float:
        """When the next create may go out.

        Returns:
            ``-inf`` for now, a time, or ``inf`` if that only depends on an answer or on
            the end of a track.
        """
        taken = under_way + self.pending
        if self.capacity is None:
            cautious = self.pending < CAUTION or taken < self._seen_to_fit
            return -inf if cautious else inf
        if taken < self.capacity:
            return -inf
        if self.pending:  # one at a time beyond the capacity
            return inf
        return self._refused_at + self._pause(under_way)

    def _pause(self, under_way: int) -> float:
        if under_way:
            return TRIAL_PAUSE
        return max(self._foreign_pause(), self._asked_pause)

    def _foreign_pause(self) -> float:
        if not self._foreign_refusals:
            return 0.0
        return FOREIGN_PAUSES[min(self._foreign_refusals, len(FOREIGN_PAUSES)) - 1]

    def on_sent(self) -> None:
        """A create goes out; one of the methods below ends it."""
        self.pending += 1

    def on_accepted(self, under_way: int) -> None:
        """It was taken; `under_way` counts it."""
        self.pending -= 1
        self._seen_to_fit = max(self._seen_to_fit, under_way)
        self._foreign_refusals = 0
        if self.capacity is not None and under_way > self.capacity:
            # None of ours was under way at the last refusal: somebody else's were, and
            # what we saw then says nothing about what fits now.
            self.capacity = under_way if self.capacity else None

    def on_refused(self, now: float, under_way: int, asked_pause: float = 0.0) -> None:
        """It was answered with ``QUEUE_FULL``.

        Args:
            now: Seconds.
            under_way: See above.
            asked_pause: Seconds that the answer asks for. An end of a track of ours
                comes first; while none is under way, they hold.
        """
        self.pending -= 1
        # What went out together is one try, however many of it were refused.
        if not under_way and now >= self._refused_at + self._foreign_pause():
            self._foreign_refusals += 1
        self._refused_at = now
        self._asked_pause = asked_pause
        self._seen_to_fit = min(self._seen_to_fit, under_way)
        if self.capacity is None or under_way < self.capacity:
            self.capacity = under_way

    def on_other_outcome(self) -> None:
        """It ended in another way; nothing is learned."""
        self.pending -= 1
