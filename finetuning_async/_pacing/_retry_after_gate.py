"""The gate of a budget: a 429 holds all its requests until the time it names is over.

Never earlier than it asked; later by a little, so that several programs of one account
do not all come back in the same instant.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import random

MOST_JITTER = 0.5 / 60
"""Share of a period by which an opening is put off at most: 0.5 s of a minute."""

FIRST_PAUSE = 1 / 12
"""Share of a period to wait after a 429 that names no time: 5 s of a minute. It doubles
with each further one, up to a whole period, after which any window is over."""


class RetryAfterGate:
    """Closed by a 429, opened by time alone.

    Args:
        per: The period of the budget, in seconds; above 0.
        rng: Where the jitter comes from.
    """

    __slots__ = ("_per", "_refusals", "_rng", "opens_at")

    def __init__(self, per: float, rng: random.Random) -> None:
        self.opens_at = -inf
        self._per = per
        self._rng = rng
        self._refusals = 0

    def __repr__(self) -> str:
        return f"<RateGate until {self.opens_at:.3f}>"

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON; see `from_state`."""
        return {"opens_at": self.opens_at, "refusals": self._refusals}

    @classmethod
    def from_state(cls, state: dict[str, Any], per: float, rng: random.Random) -> Self:
        """One that remembers what `to_state` told."""
        made = cls(per, rng)
        made.opens_at, made._refusals = state["opens_at"], state["refusals"]
        return made

    def on_refused(self, now: float, retry_after: float | None) -> None:
        """A 429 arrived.

        Args:
            now: Seconds.
            retry_after: The seconds it asks for, at least 0; `None` if it does not say.
                Zero says no more than that, or every waiter would be refused in turn.
        """
        pause = retry_after or self._pause()
        self._refusals += 1
        jitter = self._rng.random() * min(MOST_JITTER * self._per, pause / 10)
        self.opens_at = max(self.opens_at, now + pause + jitter)

    def let_through(self) -> None:
        """Something else than a 429 arrived: the next unnamed pause is short again."""
        self._refusals = 0

    def earliest(self, now: float) -> float:
        """When the next request may go out: `now` or later, never `inf`."""
        return max(now, self.opens_at)

    def _pause(self) -> float:
        return min(self._per, self._per * FIRST_PAUSE * 2.0 ** min(self._refusals, 10))
