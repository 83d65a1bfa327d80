"""What other clients of the account use: their share of the limit is not ours.

The service reports how many requests are used (its limit less
``X-RateLimit-Remaining``). Those that our own requests cannot explain were sent by
another client: another program, a colleague, or this program before a restart. They are
assumed to hold that much of the limit for one period after the last response that
showed them; no header says when a window ends, so nothing better is known. Our share
shrinks accordingly, instead of competing for theirs.
"""

from __future__ import annotations

from math import inf
from typing import Any, Self


class ForeignUsage:
    """How much of the limit other clients of the account hold.

    Args:
        per: Period in seconds, above 0, with the margin for timers.

    Attributes:
        until: When they are assumed to hold nothing any more, in seconds.
    """

    __slots__ = ("_count", "_per", "until")

    def __init__(self, per: float) -> None:
        self._per = per
        self._count = 0
        self.until = -inf

    def __repr__(self) -> str:
        return f"<ForeignUsage {self._count} until {self.until:.3f}>"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON; see `from_state`."""
        return {"count": self._count, "until": self.until}

    @classmethod
    def from_state(cls, state: dict[str, Any], per: float) -> Self:
        """Restore what `to_state` returned."""
        made = cls(per)
        made._count, made.until = state["count"], state["until"]
        return made

    @property
    def ever_seen(self) -> bool:
        """Whether a response has ever shown other clients."""
        return self.until > -inf

    def forget(self) -> None:
        """Forget what was seen, because it was the usage of a process of ours."""
        self._count, self.until = 0, -inf

    def observe(self, now: float, used: int, own_min: int, own_max: int) -> None:
        """Learn from a response that reports the usage.

        Args:
            now: Seconds.
            used: Requests that it says are used, in any range, since headers can lie.
            own_min: Requests of our own that it has certainly counted, at least 1.
            own_max: Requests of our own that it may have counted.
        """
        # Of `used`, between `own_min` and `own_max` are ours, so others hold between
        # used - own_max and used - own_min. Within that range, keep what an earlier
        # response showed: a response that many of ours may explain is a vague one.
        count = max(used - own_max, min(self.count(now), used - own_min), 0)
        if count >= self.count(now) and count:
            self.until = now + self._per
        self._count = count

    def may_still_weigh(self, now: float) -> bool:
        """Whether a sliding counter may still count them: for one period more."""
        return now < self.until + self._per

    def count(self, now: float) -> int:
        """Requests that others hold now, at least 0."""
        return self._count if now < self.until else 0
