"""How long to wait before a retry when the service names no time. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    import random

MIN_SHARE: Final = 0.75
"""The smallest share of the nominal delay that jitter leaves."""


@attrs.frozen(kw_only=True)
class Backoff:
    """Exponential backoff with a little jitter downwards.

    Attributes:
        first: Nominal delay after the first failure, in seconds, above 0.
        factor: By how much each further failure lengthens it, at least 1.
        cap: The longest nominal delay, in seconds, at least `first`.

    Raises:
        ValueError: If the three do not fit together.
    """

    first: float = 0.5
    factor: float = 2.0
    cap: float = 8.0

    def __attrs_post_init__(self) -> None:
        if not (0 < self.first <= self.cap and self.factor >= 1):
            raise ValueError(f"{self} must have 0 < first <= cap and factor >= 1")

    def nominal(self, attempt: int) -> float:
        """``min(cap, first * factor ** (attempt - 1))`` seconds."""
        try:
            return min(self.cap, self.first * self.factor ** (attempt - 1))
        except OverflowError:
            return self.cap

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after a failure.

        ``nominal(attempt) * u`` with ``u`` uniform in [0.75, 1). By default that is
        [0.375, 0.5) after the first failure, then [0.75, 1), [1.5, 2), [3, 4), and
        [6, 8) from the fifth on. The jitter is small and only shortens the delay, so
        `cap` is the longest wait.

        Args:
            attempt: How many attempts have failed, at least 1.
            rng: The source of the jitter.

        Raises:
            ValueError: If `attempt` is below 1.
        """
        if attempt < 1:
            raise ValueError(f"attempt must be at least 1, got {attempt}")
        return self.nominal(attempt) * (MIN_SHARE + (1 - MIN_SHARE) * rng.random())
