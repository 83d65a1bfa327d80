"""No permits after an outage of the store, until all processes have reported. Pure.

While a process cannot reach the store, it sends its share of the limit. If the ledger
granted the full limit again before all have reported that, the sum of both would exceed
it (P1). A store says nothing about its own outages, so they are inferred: from a
process that knew another ledger, from one that worked without the store, and from
silence while a request waits.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._api import LONGEST_PAUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from finetuning_async._coordination._exchange_messages import ExchangeRequest
    from finetuning_async._coordination._ledger_entries import Member, QueueEntry

MAX_WAIT: Final = 1.75
MIN_WAIT: Final = 0.25
"""Seconds from one exchange of a process to the next, at a period of a minute: at most,
since others may leave the queue; and while it depends on a response that another
process waits for."""

OUTAGE_SILENCE: Final = 2.2
"""Seconds without any exchange that mean an outage of the store if some request waits;
slightly longer than `MAX_WAIT`."""

REPORT_WINDOW: Final = 2.0
"""Seconds for which no permit is granted after the store was emptied or unavailable, so
that all live processes can report what they sent without it. Longer than `MAX_WAIT`,
and than a degraded process takes to notice that the store is available again."""

NOTICED_WITHIN: Final = 1.0
"""Seconds in which a process that cannot reach the store notices it."""


class OutageHold:
    """Until when a ledger grants no permits, and what it knows of outages.

    Args:
        scale: The longest period in minutes, at least 1. With longer periods processes
            exchange less often, and all times here are longer.

    Attributes:
        until: When the last hold ends; in the past if none is in force.
    """

    def __init__(self, scale: float) -> None:
        self.until = -inf
        self._scale = scale
        self._since = -inf
        self._silence_ended_at = -inf
        self._must_forget = False  # after this hold; see `has_ended`

    def detect(
        self,
        request: ExchangeRequest,
        now: float,
        knew_another: bool,
        members: Mapping[str, Member],
        queues: Iterable[Sequence[QueueEntry]],
    ) -> None:
        """Hold, once per outage, if processes may have worked without the store.

        Args:
            request: The exchange.
            now: Seconds.
            knew_another: Whether its process knew another ledger.
            members: Those of the ledger, as before the exchange.
            queues: Likewise.
        """
        if knew_another:  # the store was emptied; a new ledger holds once for that
            if self._since == -inf:
                self._hold(now)
            return
        lost_at = now - request.degraded_for
        is_outage = self._is_after_silence(request, now, members, queues)
        # A process may be cut off alone. Then the others kept exchanging, the ledger
        # knows all that they sent, and holding them would only slow them down.
        if request.degraded_for and len(members) > 1:
            is_outage = is_outage or self._affected_all(request, lost_at, members)
        # The processes come back one by one; a hold since `lost_at` covers them all.
        if is_outage and self._since < lost_at:
            self._hold(now)
            self._must_forget = True

    def _hold(self, now: float) -> None:
        self._since = now
        self.until = now + min(REPORT_WINDOW * self._scale, LONGEST_PAUSE)

    def _is_after_silence(
        self,
        request: ExchangeRequest,
        now: float,
        members: Mapping[str, Member],
        queues: Iterable[Sequence[QueueEntry]],
    ) -> bool:
        """Whether no process exchanged for long, although another one waits.

        A process that waits exchanges at least every `MAX_WAIT` seconds. So silence
        beside a queue entry of another process means that the store was down, or that
        this other process died. The ledger cannot know which, and holds in both cases.
        Silence while no other process waits means nothing.
        """
        last = max((member.seen_at for member in members.values()), default=now)
        if last > now - OUTAGE_SILENCE * self._scale:
            return False
        self._silence_ended_at = now
        waiting = [entry for queue in queues for entry in queue]
        return any(entry.process != request.process for entry in waiting)

    def _affected_all(
        self, request: ExchangeRequest, lost_at: float, members: Mapping[str, Member]
    ) -> bool:
        """Whether no other process had the store while this one was without it.

        An exchange within `NOTICED_WITHIN` seconds of `lost_at` may have been the last
        before the outage. Later ones may come from processes that are back already;
        `_silence_ended_at` remembers the gap before the first of them.
        """
        others = [m for name, m in members.items() if name != request.process]
        was_reached = any(m.seen_at > lost_at + NOTICED_WITHIN for m in others)
        return not was_reached or self._silence_ended_at > lost_at

    def has_ended(self, now: float) -> bool:
        """Whether the hold after an outage has just ended; true once."""
        if not self._must_forget or self.until > now:
            return False
        self._must_forget = False
        return True

    def to_state(self) -> dict[str, Any]:
        """Return it as fields of the ledger's state; see `restore`."""
        # The keys are those of the stored form: they stay when a name changes.
        return {
            "held_until": self.until,
            "held_since": self._since,
            "silent_until": self._silence_ended_at,
            "is_paused": self._must_forget,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `to_state` returned, among the other fields."""
        self.until = state["held_until"]
        self._since = state["held_since"]
        self._silence_ended_at = state["silent_until"]
        self._must_forget = state["is_paused"]
