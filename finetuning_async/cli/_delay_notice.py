"""Why a create is not accepted yet, from the events of its client. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async._events import (
    RateLimited,
    RequestFailed,
    RequestSent,
    SubmissionUnknown,
)
from finetuning_async._secrets import shown

if TYPE_CHECKING:
    from finetuning_async._events import Event

NO_RESPONSE: Final = "no response from the service for {:.0f} s"
RETRY_AFTER: Final = "rate limited; the service allows the next try in {:.0f} s"
RATE_LIMIT: Final = "waiting for the rate limit"
QUEUE_FULL: Final = "the service's queue is full; waiting for a track to end"
RESPONSE_LOST: Final = "the response was lost; looking for the track in the list"

SLOW: Final = 3.0
"""Seconds without a response that are worth a notice; before that, the reason of the
last attempt still holds."""


class DelayTracker:
    """Follows the events of a client that creates one track."""

    def __init__(self) -> None:
        self._reason = RATE_LIMIT
        self._sent_at: float | None = None

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, SubmissionUnknown):
            self._attempt_ended(RESPONSE_LOST)
        elif isinstance(event, RateLimited):
            self._attempt_ended(QUEUE_FULL if event.budget == "queue" else RATE_LIMIT)
        elif isinstance(event, RequestSent) and event.method == "POST":
            self._sent_at = event.at
        elif isinstance(event, RequestFailed) and event.method == "POST":
            # The caller formats the reason, so braces of the service are doubled.
            problem = shown(event.reason).replace("{", "{{").replace("}", "}}")
            self._attempt_ended(f"cannot reach the service ({problem}); retrying")

    def _attempt_ended(self, reason: str) -> None:
        """An attempt has ended; its reason holds until the next one has ended."""
        self._reason = reason
        self._sent_at = None

    @property
    def may_be_accepted(self) -> bool:
        """Whether the service may have accepted it without us knowing."""
        return self._sent_at is not None or self._reason == RESPONSE_LOST

    def reason(self, now: float, closed_for: float) -> tuple[str, float]:
        """What the create waits for: a format string, and the number to put into it.

        Args:
            now: Seconds on the loop's clock.
            closed_for: Seconds until creates may go out again after a 429; 0 if they
                may now.
        """
        silent_for = 0.0 if self._sent_at is None else now - self._sent_at
        if silent_for >= SLOW:
            return NO_RESPONSE, silent_for
        return (RETRY_AFTER, closed_for) if closed_for > 0 else (self._reason, 0.0)
