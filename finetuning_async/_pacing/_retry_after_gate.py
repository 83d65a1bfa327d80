"""The gate of a rate budget: a 429 blocks all its requests for the time it names.

The gate never opens before that time. It opens a little later, by random jitter, so
that several programs of one account do not all come back in the same instant.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import random

MAX_JITTER = 0.5 / 60
"""Largest jitter, as a share of the period: 0.5 s of a minute."""

FIRST_PAUSE = 1 / 12
"""Pause after a 429 that names no time, as a share of the period: 5 s of a minute. It
doubles with each further one, up to a whole period, after which any window is over."""


class RetryAfterGate:
    """Closed by a 429, opened by time alone.

    Args:
        per: Period of the rate budget in seconds, above 0.
        rng: Source of the jitter.

    Attributes:
        opens_at: When it opens, in seconds; a time in the past if it is open.
    """

    __slots__ = ("_per", "_refusals", "_rng", "opens_at")

    def __init__(self, per: float, rng: random.Random) -> None:
        self.opens_at = -inf
        self._per = per
        self._rng = rng
        self._refusals = 0  # since the last response other than a 429

    def __repr__(self) -> str:
        return f"<RetryAfterGate opens at {self.opens_at:.3f}>"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON; see `from_state`."""
        return {"opens_at": self.opens_at, "refusals": self._refusals}

    @classmethod
    def from_state(cls, state: dict[str, Any], per: float, rng: random.Random) -> Self:
        """Restore what `to_state` returned."""
        made = cls(per, rng)
        made.opens_at, made._refusals = state["opens_at"], state["refusals"]
        return made

    def on_refused(self, now: float, retry_after: float | None) -> None:
        """A 429 arrived.

        Args:
            now: Seconds.
            retry_after: Pause in seconds that it asks for, at least 0; `None` if it
                names none.
        """
        # A pause of 0 counts as none: taken literally, each waiter would send at once
        # and be refused in turn.
        pause = retry_after or self._backoff()
        self._refusals += 1
        jitter = self._rng.random() * min(MAX_JITTER * self._per, pause / 10)
        # Of two 429s the later opening holds, in whatever order they arrive.
        self.opens_at = max(self.opens_at, now + pause + jitter)

    def reset_backoff(self) -> None:
        """Note that something other than a 429 arrived: the backoff starts again."""
        self._refusals = 0

    def earliest(self, now: float) -> float:
        """When the next request may go out: `now` or later, never `inf`."""
        return max(now, self.opens_at)

    def _backoff(self) -> float:
        return min(self._per, self._per * FIRST_PAUSE * 2.0 ** min(self._refusals, 10))
