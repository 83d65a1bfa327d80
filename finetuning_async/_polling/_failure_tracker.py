"""Reads that fail in a row: when to retry, when to warn, when to end the waits.

A single failure is not worth a line in the log: the next read makes up for it. If none
has worked for half a minute, one warning says why no track ends, and another one that
reads work again.

A refusal that is not in the service's own form comes from something in between: the
challenge page of a firewall, the login page of a network. As a rule that passes, so it
ends no wait until nothing else has arrived for `BELIEVED_AFTER` seconds.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Final, TypeGuard

from finetuning_async._api import is_in_own_form
from finetuning_async._errors import APIResponseError, APIStatusError

logger = logging.getLogger("finetuning_async")

MAX_SKIPPED: Final = 8
"""Slots skipped after a failure, at most."""

WARN_AFTER: Final = 30.0
"""Seconds of failures after which a warning is logged, at 60 reads a minute."""

BELIEVED_AFTER: Final = 90.0
"""Seconds of nothing but refusals that may not be the service's, until they end the
waits: longer than a restart or a challenge takes."""

BELIEVED_COUNT: Final = 3
"""The least number of such refusals until they end the waits."""

WARN_AGAIN_AFTER: Final = 600.0
"""Seconds until the next warning about such refusals, if reads worked in between."""

PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""The 4xx that say nothing about what was read."""


def is_refusal(error: Exception) -> TypeGuard[APIStatusError]:
    """Whether the service itself refused, and would refuse a repetition as well."""
    return (
        isinstance(error, APIStatusError)
        and 400 <= error.status_code < 500
        and error.status_code not in PASSING_STATUSES
        and is_in_own_form(error)
    )


def is_unclear(error: Exception) -> bool:
    """Whether something in between may have refused, and not the service."""
    if isinstance(error, APIResponseError):
        return True
    return (
        isinstance(error, APIStatusError)
        and error.status_code < 500
        and error.status_code not in PASSING_STATUSES
        and not is_in_own_form(error)
    )


class FailureTracker:
    """The failures since the last read that worked.

    Args:
        scale: Seconds per allowed read.

    Attributes:
        failures: How many in a row.
        last: The last of them; `None` if the last read worked.
    """

    __slots__ = (
        "_has_warned",
        "_scale",
        "_since",
        "_unclear",
        "_unclear_since",
        "_unclear_warned_at",
        "failures",
        "last",
    )

    def __init__(self, *, scale: float) -> None:
        self._scale = scale
        self._since = inf
        self._has_warned = False
        self._unclear_warned_at = -inf
        self._unclear = 0
        self._unclear_since = inf
        self.failures = 0
        self.last: Exception | None = None

    def on_failure(self, now: float, error: Exception) -> int:
        """Count a failure; return how many slots to skip before the next read."""
        self._since = min(self._since, now)
        self.failures += 1
        self.last = error
        logger.debug("a read of the poll loop failed: %s", error)
        if is_unclear(error):
            self._on_unclear(now, error)
        if not self._has_warned and now >= self._since + WARN_AFTER * self._scale:
            self._has_warned = True
            logger.warning(
                "reading tracks has failed for %.0f s and is being retried: %s",
                now - self._since,
                error,
            )
        doubled = (1 << min(self.failures, MAX_SKIPPED)) - 1
        return min(doubled, MAX_SKIPPED)

    def _on_unclear(self, now: float, error: Exception) -> None:
        self._unclear += 1
        self._unclear_since = min(self._unclear_since, now)
        if now >= self._unclear_warned_at + WARN_AGAIN_AFTER:
            self._unclear_warned_at, self._has_warned = now, True
            logger.warning(
                "a gateway may have responded in place of the service, whose errors are"
                " JSON with a code: %.300s. Waits continue; they end with this error if"
                " no other response arrives for %.0f s",
                error,
                BELIEVED_AFTER,
            )

    def persists(self, now: float) -> bool:
        """Whether such refusals are all that has arrived for too long."""
        is_last = self.last is not None and is_unclear(self.last)
        is_long = now >= self._unclear_since + BELIEVED_AFTER
        return is_last and is_long and self._unclear >= BELIEVED_COUNT

    def on_success(self, now: float) -> None:
        """Note that a read worked."""
        if self._has_warned and now >= self._since + WARN_AFTER * self._scale:
            logger.warning(
                "reading tracks works again, after %.0f s of failures",
                now - self._since,
            )
        self.reset()

    def reset(self) -> None:
        """Start over: a read worked, or the last waiter left and none will be sent."""
        self._since, self._has_warned = inf, False
        self._unclear, self._unclear_since = 0, inf
        self.failures, self.last = 0, None
