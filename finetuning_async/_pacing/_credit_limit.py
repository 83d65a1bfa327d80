"""The rule of a budget of credits, and what counts in it. Pure.

A credit is *reserved* from the call on, until it is known what became of the create.
Then it is *spent* if the create was accepted or is in doubt; if not, it is free again.
With `per` a spent credit counts for so many seconds.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._errors import BudgetExceededError

if TYPE_CHECKING:
    from collections.abc import Iterable

TOLERANCE: Final = 1e-6
"""Seconds by which a credit may be free early: clocks are read in finite steps."""


@attrs.frozen
class CreditLimit:
    """The rule of a budget.

    Attributes:
        credits: The most that may be spent.
        per: In any so many seconds; `None` for in all.
        share: Only credits of this share count; `None` for all.
        name: What messages call it.
    """

    credits: int
    per: float | None = None
    share: str | None = None
    name: str = "the budget"

    def since(self, now: float) -> float:
        """What was spent until this moment, and at it, counts no more."""
        return -inf if self.per is None else now - self.per + TOLERANCE

    def allows(self, used: int) -> bool:
        """Whether one more credit may be spent beside those used."""
        return used < self.credits

    def refusal(
        self,
        spent: int,
        reserved: int,
        spent_at: Iterable[tuple[float, int]],
        now: float,
    ) -> BudgetExceededError:
        """The error for a create that it does not allow.

        Args:
            spent: Credits that count now.
            reserved: Credits reserved for creates that were not sent yet.
            spent_at: When each of the spent ones was, and how many, the oldest first.
            now: The time, in seconds of the same clock.
        """
        whose = "" if self.share is None else f" for share {self.share!r}"
        period = "" if self.per is None else f" in any {self.per:g} s"
        waiting = f" and {reserved} reserved for creates that wait" if reserved else ""
        wait = self._retry_after(spent, reserved, spent_at, now)
        advice = f"raise {self.name}" if wait is None else f"try again in {wait:.0f} s"
        return BudgetExceededError(
            f"nothing was sent: {spent} of {self.credits} credits{whose}{period} are"
            f" spent{waiting}; {advice}",
            retry_after=wait,
            safe_to_retry=wait is not None,
        )

    def _retry_after(
        self,
        spent: int,
        reserved: int,
        spent_at: Iterable[tuple[float, int]],
        now: float,
    ) -> float | None:
        """Seconds until so much counts no more that a credit is free.

        Reserved credits are taken for spent now; one that is returned is free sooner.
        """
        if self.per is None:
            return None
        excess = spent + reserved + 1 - self.credits
        for at, count in chain(spent_at, [(now, reserved)]):
            excess -= count
            if excess <= 0:
                return max(at + self.per - now, 0.0)
        return None


class CreditCount:
    """What was reserved and spent of one limit. Pure; times are of one clock."""

    def __init__(self, limit: CreditLimit) -> None:
        self._limit = limit
        self._total = 0
        self._spent_at: deque[float] = deque()  # only with `per`; the oldest first
        self.reserved = 0

    def spent(self, now: float) -> int:
        """Credits that count now, without those reserved."""
        since = self._limit.since(now)
        while self._spent_at and self._spent_at[0] <= since:
            self._spent_at.popleft()
        return self._total if self._limit.per is None else len(self._spent_at)

    def reserve(self, now: float) -> None:
        """Reserve a credit.

        Raises:
            BudgetExceededError: None is left.
        """
        spent = self.spent(now)
        if not self._limit.allows(spent + self.reserved):
            each = ((at, 1) for at in self._spent_at)
            raise self._limit.refusal(spent, self.reserved, each, now)
        self.reserved += 1

    def settle(self, now: float, *, is_charged: bool) -> None:
        """Count a reserved credit as spent, or return it."""
        self.reserved -= 1
        if not is_charged:
            return
        self._total += 1
        if self._limit.per is not None:
            # Clocks of several loops may differ by a little.
            latest = self._spent_at[-1] if self._spent_at else now
            self._spent_at.append(max(now, latest))
