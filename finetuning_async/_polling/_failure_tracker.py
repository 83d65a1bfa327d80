"""Reads that fail one after another: when to try again, when to say so, when to end.

A single failure is nobody's business: the next read makes up for it. When none has
worked for half a minute, whoever looks after the program wants to know why its tracks
do not end, once, and again when it is over.

A refusal that is not in the service's own form was said by something in between: the
challenge page of a firewall, a login of the network. That passes as a rule, so it ends
no wait until nothing else has come for `BELIEVED_AFTER` seconds.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Final, TypeGuard

from finetuning_async._api import is_in_own_form
from finetuning_async._errors import APIResponseError, APIStatusError

logger = logging.getLogger("finetuning_async")

MAX_SKIPPED: Final = 8
"""Turns passed over after a failure, at most."""

WARN_AFTER: Final = 30.0
"""Seconds of failures after which a warning is due, at a period of a minute."""

BELIEVED_AFTER: Final = 90.0
"""Seconds of nothing but refusals that are not the service's, until they are believed:
longer than a restart or a challenge takes."""

BELIEVED_COUNT: Final = 3
"""Such refusals that it takes at least."""

WARN_AGAIN_AFTER: Final = 600.0
"""Seconds until the next warning about such refusals, if there was a success between
them."""

PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""The 4xx that say nothing about what was asked for."""


def is_refusal(error: Exception) -> TypeGuard[APIStatusError]:
    """Whether the service itself says no: it would be said again."""
    return (
        isinstance(error, APIStatusError)
        and 400 <= error.status_code < 500
        and error.status_code not in PASSING_STATUSES
        and is_in_own_form(error)
    )


def is_unclear(error: Exception) -> bool:
    """Whether something in between may have said no, and not the service."""
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
        scale: The period of the reads, in minutes.

    Attributes:
        failures: How many, one after another.
        last: The last of them; `None` since a read has worked.
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
        """Count a failure; how many turns to pass over before the next read."""
        self._since = min(self._since, now)
        self.failures += 1
        self.last = error
        logger.debug("polling goes on after: %s", error)
        if is_unclear(error):
            self._on_unclear(now, error)
        if not self._has_warned and now >= self._since + WARN_AFTER * self._scale:
            self._has_warned = True
            logger.warning(
                "no track could be looked at for %.0f s; trying on after: %s",
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
                "a look at a track was answered by what may be a gateway, and not by"
                " the service, whose errors are JSON with a code: %.300s. Waits go on,"
                " and end with this error when nothing else has come for %.0f s",
                error,
                BELIEVED_AFTER,
            )

    def persists(self, now: float) -> bool:
        """Whether nothing but refusals from in between has come for too long."""
        is_last = self.last is not None and is_unclear(self.last)
        is_long = now >= self._unclear_since + BELIEVED_AFTER
        return is_last and is_long and self._unclear >= BELIEVED_COUNT

    def on_success(self, now: float) -> None:
        """A read has worked."""
        if self._has_warned and now >= self._since + WARN_AFTER * self._scale:
            logger.warning(
                "tracks can be looked at again, after %.0f s", now - self._since
            )
        self.reset()

    def reset(self) -> None:
        """Nobody waits any more; the time until somebody does is no trouble."""
        self._since, self._has_warned = inf, False
        self._unclear, self._unclear_since = 0, inf
        self.failures, self.last = 0, None
