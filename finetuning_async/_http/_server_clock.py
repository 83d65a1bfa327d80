"""What the service's clock shows, laid over the loop's. Pure.

Each answer carries a ``Date`` in whole seconds (RFC 9110, section 6.6.1), written
somewhere between the moments at which the request left and the answer was complete. So
the difference of the two clocks lies between ``date - received`` and ``date + 1 -
sent``, and many answers narrow it down. Local wall time is not used: it may be wrong by
hours. So may the clock of one machine among many that answer: one that disagrees with
all before is believed once the next one says the same.
"""

from __future__ import annotations

import datetime as dt
from math import inf
from typing import Final

YEARS: Final = range(2000, 2200)
"""A ``Date`` outside them is nonsense, and arithmetic with it may overflow."""


class ServerClock:
    """Bounds on (service's time - loop's time), in seconds."""

    def __init__(self) -> None:
        self._low = -inf
        self._high = inf
        self._dissent = (inf, -inf)

    def seen(self, date: dt.datetime, *, sent_at: float, received_at: float) -> None:
        """Learn from the ``Date`` of one answer.

        Args:
            date: The header, aware, whole seconds.
            sent_at: When the request left, in seconds of the loop's clock.
            received_at: When the answer was complete, likewise.
        """
        if date.year not in YEARS:
            return
        low = date.timestamp() - received_at
        high = date.timestamp() + 1.0 - sent_at
        if low <= self._high and self._low <= high:
            self._low, self._high = max(self._low, low), min(self._high, high)
            self._dissent = (inf, -inf)
            return
        other_low, other_high = self._dissent
        if low <= other_high and other_low <= high:  # one of the clocks was set
            self._low, self._high = max(other_low, low), min(other_high, high)
            low, high = inf, -inf
        self._dissent = low, high

    def not_before(self, moment: float) -> dt.datetime | None:
        """The earliest the service's clock can have shown at a moment of the loop's.

        Returns:
            An aware time in UTC, or `None` before any answer was seen.
        """
        if self._low == -inf:
            return None
        return dt.datetime.fromtimestamp(moment + self._low, dt.UTC)
