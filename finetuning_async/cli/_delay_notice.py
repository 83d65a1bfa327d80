"""Why a create is not accepted yet, in words, by the events of its client. Pure."""

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

SILENT: Final = "the service has not answered for {:.0f} s"
GATE: Final = "the service asks to wait {:.0f} s more (rate limit)"
TURN: Final = "it waits for its turn (rate limit)"
QUEUE: Final = "the service's queue is full, it takes one when a track has ended"
LOST: Final = "the answer was lost, the track is looked for in the list"

SLOW: Final = 3.0
"""Seconds without an answer that are worth a word; before that, what was true is."""


class Delay:
    """Listens to a client that creates one track."""

    def __init__(self) -> None:
        self._cause = TURN
        self._sent_at: float | None = None

    def __call__(self, event: Event) -> None:
        """Note what has happened."""
        if isinstance(event, SubmissionUnknown):
            self._end(LOST)
        elif isinstance(event, RateLimited):
            self._end(QUEUE if event.budget == "queue" else TURN)
        elif isinstance(event, RequestSent) and event.method == "POST":
            self._sent_at = event.at
        elif isinstance(event, RequestFailed) and event.method == "POST":
            reason = shown(event.reason).replace("{", "{{").replace("}", "}}")
            self._end(f"the service cannot be reached ({reason}), it is tried again")

    def _end(self, cause: str) -> None:
        """An attempt has ended; this holds until the next one has."""
        self._cause = cause
        self._sent_at = None

    @property
    def may_be_accepted(self) -> bool:
        """Whether the service may have taken it although nothing has said so."""
        return self._sent_at is not None or self._cause == LOST

    def cause(self, now: float, closed_for: float) -> tuple[str, float]:
        """What it waits for: words with room for a number, and the number.

        Args:
            now: Seconds of the loop's clock.
            closed_for: Seconds for which a 429 holds all creates still; 0 for none.
        """
        silent_for = 0.0 if self._sent_at is None else now - self._sent_at
        if silent_for >= SLOW:
            return SILENT, silent_for
        return (GATE, closed_for) if closed_for > 0 else (self._cause, 0.0)
