"""Why a create is not accepted yet, from the events of its client. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._events import (
    CreateWaiting,
    RateLimited,
    RequestFailed,
    RequestSent,
    SubmissionUnknown,
)
from finetuning_async._secrets import shown

if TYPE_CHECKING:
    from finetuning_async._events import Event

NO_RESPONSE: Final = "no response from the service for {:.0f} s"
RETRY_AFTER: Final = "rate limited; waiting as long as the service asked"
RATE_LIMIT: Final = "waiting for the rate limit"
QUEUE_FULL: Final = "the service's queue is full; waiting for a track to end"
RESPONSE_LOST: Final = "the response was lost; looking for the track in the list"

WORDS: Final = {
    "rate_limit": RATE_LIMIT,
    "retry_after": RETRY_AFTER,
    "queue": QUEUE_FULL,
}
"""The reasons of `CreateWaiting`."""

SHORT: Final = {
    RATE_LIMIT: "rate limit",
    RETRY_AFTER: "rate limited",
    QUEUE_FULL: "the queue is full",
    RESPONSE_LOST: "the response was lost",
}
"""The same for a narrow terminal."""

SLOW: Final = 3.0
"""Seconds without a response that are worth a notice; before that, the reason of the
last attempt still holds."""

LINE_INTERVAL: Final = 10.0
"""Seconds between two lines about one reason, at least."""


@attrs.frozen
class Delay:
    """Why a create is not accepted yet.

    Attributes:
        reason: In words.
        left: Seconds until it is expected to go out; `None` if that is not known.
        before: How many creates go before it.
        is_wait: Whether it waits for its permit or the service's queue, and nothing is
            wrong.
    """

    reason: str
    left: float | None = None
    before: int = 0
    is_wait: bool = False

    def __str__(self) -> str:
        return self.forms[0]

    @property
    def forms(self) -> tuple[str, ...]:
        """The same in words, from the longest form to the shortest."""
        if self.left is None:
            return (self.reason, SHORT.get(self.reason, self.reason))
        next_in = f"next in {clock_text(self.left)}"
        ahead = f", {self.before} before it" if self.before else ""
        short = SHORT.get(self.reason, self.reason)
        return (
            f"{self.reason}, {next_in}{ahead}",
            f"{self.reason}, {next_in}",
            f"{next_in} ({short})",
        )


def clock_text(seconds: float) -> str:
    """Seconds as a clock shows them.

    >>> clock_text(42.3), clock_text(3725)
    ('0:42', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class DelayTracker:
    """Follows the events of a client that creates one track."""

    def __init__(self) -> None:
        self._reason = RATE_LIMIT
        self._sent_at: float | None = None
        self._waiting: CreateWaiting | None = None

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, CreateWaiting):
            self._waiting, self._sent_at = event, None
        elif isinstance(event, SubmissionUnknown):
            self._attempt_ended(RESPONSE_LOST)
        elif isinstance(event, RateLimited):
            self._attempt_ended(QUEUE_FULL if event.budget == "queue" else RATE_LIMIT)
        elif isinstance(event, RequestSent) and event.method == "POST":
            self._sent_at = event.at
        elif isinstance(event, RequestFailed) and event.method == "POST":
            self._attempt_ended(
                f"cannot reach the service ({shown(event.reason)}); retrying"
            )

    def _attempt_ended(self, reason: str) -> None:
        """An attempt has ended; its reason holds until the next one has ended."""
        self._reason = reason
        self._sent_at = self._waiting = None

    @property
    def may_be_accepted(self) -> bool:
        """Whether the service may have accepted it without us knowing."""
        return self._sent_at is not None or self._reason == RESPONSE_LOST

    def delay(self, now: float, closed_for: float) -> Delay:
        """What the create waits for.

        Args:
            now: Seconds on the loop's clock.
            closed_for: Seconds until creates may go out again after a 429; 0 if they
                may now.
        """
        silent_for = 0.0 if self._sent_at is None else now - self._sent_at
        if silent_for >= SLOW:
            return Delay(NO_RESPONSE.format(silent_for))
        waiting = self._waiting
        if waiting is not None and self._sent_at is None:
            left = waiting.expected_start - now
            # Below a second it should be out already, so the estimate says nothing.
            known = left if 1 <= left < inf else None
            return Delay(WORDS[waiting.reason], known, waiting.position, is_wait=True)
        if closed_for > 0:
            return Delay(RETRY_AFTER, closed_for, is_wait=True)
        return Delay(self._reason, is_wait=self._reason in WORDS.values())


class LineInterval:
    """Says when the next line about a delay is due.

    It is due when the reason changes. While that stays the same, lines come further
    apart the longer the wait is: after a tenth of what is left. Between any two there
    are 10 s.
    """

    def __init__(self) -> None:
        self._reason = ""
        self._printed_at = -inf

    def is_due(self, delay: Delay, now: float) -> bool:
        """Whether to print it now. If so, it counts as printed.

        Args:
            delay: What is to be printed.
            now: Seconds.
        """
        # The seconds without a response grow, but the reason is the same.
        reason = delay.reason.rstrip(" s0123456789")
        pause = LINE_INTERVAL
        if reason == self._reason:
            pause = inf if delay.left is None else max(pause, delay.left / 10)
        if now - self._printed_at < pause:
            return False
        self._reason, self._printed_at = reason, now
        return True
