"""Reads that fail one after another: when to try again, and when to say so.

A single failure is nobody's business: the next read makes up for it. When none has
worked for half a minute, whoever looks after the program wants to know why its tracks
do not end, once, and again when it is over.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Final

logger = logging.getLogger("finetuning_async")

LONGEST_PAUSE: Final = 8
"""Turns passed over after a failure, at most."""

TOLD_AFTER: Final = 30.0
"""Seconds of failures after which a warning is due, at a period of a minute."""


class Trouble:
    """The failures since the last read that worked.

    Args:
        scale: The period of the reads, in minutes.

    Attributes:
        failures: How many, one after another.
    """

    __slots__ = ("_is_told", "_scale", "_since", "failures")

    def __init__(self, *, scale: float) -> None:
        self._scale = scale
        self._since = inf
        self._is_told = False
        self.failures = 0

    def failed(self, now: float, error: Exception) -> int:
        """Count a failure; how many turns to pass over before the next read."""
        self._since = min(self._since, now)
        self.failures += 1
        logger.debug("polling goes on after: %s", error)
        if not self._is_told and now >= self._since + TOLD_AFTER * self._scale:
            self._is_told = True
            logger.warning(
                "no track could be looked at for %.0f s; trying on after: %s",
                now - self._since,
                error,
            )
        doubled = (1 << min(self.failures, LONGEST_PAUSE)) - 1
        return min(doubled, LONGEST_PAUSE)

    def over(self, now: float) -> None:
        """A read has worked."""
        if self._is_told:
            logger.warning(
                "tracks can be looked at again, after %.0f s", now - self._since
            )
        self.failures = 0
        self.rest()

    def rest(self) -> None:
        """Nobody waits any more; the time until somebody does is no trouble."""
        self._since, self._is_told = inf, False
