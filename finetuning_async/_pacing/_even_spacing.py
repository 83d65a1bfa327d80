"""Creates that no one waits for go out evenly rather than in bursts. Pure.

Leases come back in the bursts in which they were taken. A batch that spends ten permits
at once leaves a person who comes a second later a minute without any. So while more
`low` creates wait than a burst holds, one goes per `per / limit` seconds, 6 s by
default. In the long run that costs the batch nothing, since the leases allow no more:
only its last burst is stretched, by less than a period. A person then finds a permit
within those 6 s, whenever he comes.
"""

from __future__ import annotations

from math import inf
from typing import Any, Self


class EvenSpacing:
    """When the next of many `low` requests may go out."""

    __slots__ = ("_last_sent_at",)

    def __init__(self) -> None:
        self._last_sent_at = -inf

    def __repr__(self) -> str:
        return f"<EvenSpacing last={self._last_sent_at:g}>"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON with infinities; see `from_state`."""
        return {"last_sent_at": self._last_sent_at}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        made = cls()
        made._last_sent_at = state["last_sent_at"]
        return made

    def on_sent(self, now: float) -> None:
        """A `low` request is sent."""
        self._last_sent_at = now

    def earliest(self, now: float, waiting: int, limit: int, per: float) -> float:
        """When the next `low` request may go out: `now` or later.

        Args:
            now: Seconds.
            waiting: `low` requests that wait, this one included.
            limit: Requests allowed in any `per` seconds.
            per: Seconds.
        """
        if waiting <= limit:
            return now
        return max(now, self._last_sent_at + per / limit)
