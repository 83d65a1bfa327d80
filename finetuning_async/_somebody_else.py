"""Somebody else on the same account: what they hold is not ours.

The service says how many are used (its limit less ``X-RateLimit-Remaining``). What our
own requests cannot explain was sent by others: another program, a colleague, or this
one before it was started again. They are taken as holding that much of the limit for
one period after the last answer that showed it; without a header that says when a
window ends, nothing better is known. So our share shrinks, and nobody is fought.
"""

from __future__ import annotations

from math import inf


class SomebodyElse:
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

    def seen(self, now: float, used: int, least: int, most: int) -> None:
        """An answer says how many are used.

        Args:
            now: Seconds.
            used: What it says; may be anything, headers can lie.
            least: How many of our own it counted for certain; at least 1.
            most: How many of our own it may have counted.
        """
        unexplained = used - most
        if unexplained > 0:
            # Keep a larger number shown before, unless this answer rules it out.
            self._count = max(unexplained, min(self.taken(now), used - least))
            self.until = now + self._per
        elif self._count > used - least:
            self._count = max(used - least, 0)

    def taken(self, now: float) -> int:
        """Requests that others hold; at least 0."""
        return self._count if now < self.until else 0
