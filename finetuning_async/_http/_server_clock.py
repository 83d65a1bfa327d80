"""The service's clock relative to the loop's, learned from ``Date`` headers. Pure.

Each response carries a ``Date`` in whole seconds (RFC 9110, section 6.6.1), written
between the moment the request left and the moment the response was complete. So the
difference of the two clocks lies between ``date - received`` and ``date + 1 - sent``,
and many responses narrow it down.

Local wall time is not used: it may be wrong by hours. One of several machines that
respond may be wrong as well: a ``Date`` that contradicts all earlier ones is believed
once the next one agrees with it.
"""

from __future__ import annotations

import datetime as dt
from math import inf
from typing import Final

YEARS: Final = range(2000, 2200)
"""A ``Date`` outside of them is nonsense, and arithmetic with it could overflow."""


class ServerClock:
    """Bounds on (service's time - loop's time), in seconds."""

    def __init__(self) -> None:
        self._low = -inf
        self._high = inf
        self._dissent = (inf, -inf)

    def observe(self, date: dt.datetime, *, sent_at: float, received_at: float) -> None:
        """Learn from the ``Date`` of one response.

        Args:
            date: The header, aware, in whole seconds.
            sent_at: When the request left, in seconds of the loop's clock.
            received_at: When the response was complete, likewise.
        """
        if date.year not in YEARS:
            return
        low = date.timestamp() - received_at
        high = date.timestamp() + 1.0 - sent_at
        if low <= self._high and self._low <= high:
            self._low, self._high = max(self._low, low), min(self._high, high)
            self._dissent = (inf, -inf)
            return
        # It contradicts the bounds. If the last observation did so in the same way, a
        # clock was set, and the two of them are the new bounds.
        other_low, other_high = self._dissent
        if low <= other_high and other_low <= high:
            self._low, self._high = max(other_low, low), min(other_high, high)
            low, high = inf, -inf
        self._dissent = low, high

    def not_before(self, moment: float) -> dt.datetime | None:
        """The earliest time the service's clock can have shown at a moment.

        Args:
            moment: In seconds of the loop's clock.

        Returns:
            An aware time in UTC; `None` before any response was observed.
        """
        if self._low == -inf:
            return None
        return dt.datetime.fromtimestamp(moment + self._low, dt.UTC)

    def not_after(self, moment: float) -> dt.datetime | None:
        """The latest time that it can have shown; see `not_before`."""
        if self._high == inf:
            return None
        return dt.datetime.fromtimestamp(moment + self._high, dt.UTC)
