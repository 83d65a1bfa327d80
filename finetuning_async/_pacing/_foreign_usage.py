"""Somebody else on the same account: what they hold is not ours.

The service says how many are used (its limit less ``X-RateLimit-Remaining``). What our
own requests cannot explain was sent by others: another program, a colleague, or this
one before it was started again. They are taken as holding that much of the limit for
one period after the last answer that showed it; without a header that says when a
window ends, nothing better is known. So our share shrinks, and nobody is fought.
"""

from __future__ import annotations

from math import inf
from typing import Any, Self


class ForeignUsage:
    """How much of the limit others hold.

    Args:
        per: Seconds, above 0, with the margin for timers.
    """

    __slots__ = ("_count", "_per", "until")

    def __init__(self, per: float) -> None:
        self._per = per
        self._count = 0
        self.until = -inf

    def __repr__(self) -> str:
        return f"<SomebodyElse: {self._count} until {self.until:.3f}>"

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON; see `from_state`."""
        return {"count": self._count, "until": self.until}

    @classmethod
    def from_state(cls, state: dict[str, Any], per: float) -> Self:
        """One that remembers what `to_state` told."""
        made = cls(per)
        made._count, made.until = state["count"], state["until"]
        return made

    @property
    def were_ever(self) -> bool:
        """Whether others were shown at any time."""
        return self.until > -inf

    def forget(self) -> None:
        """What was seen was somebody of ours."""
        self._count, self.until = 0, -inf

    def seen(self, now: float, used: int, least: int, most: int) -> None:
        """An answer says how many are used.

        Args:
            now: Seconds.
            used: What it says; may be anything, headers can lie.
            least: How many of our own it counted for certain; at least 1.
            most: How many of our own it may have counted.
        """
        # A larger number shown before stays, unless this answer rules it out.
        count = max(used - most, min(self.taken(now), used - least), 0)
        if count >= self.taken(now) and count:
            self.until = now + self._per
        self._count = count

    def were_there(self, now: float) -> bool:
        """Whether others were shown so lately that a sliding counter knows of them."""
        return now < self.until + self._per

    def taken(self, now: float) -> int:
        """Requests that others hold; at least 0."""
        return self._count if now < self.until else 0
