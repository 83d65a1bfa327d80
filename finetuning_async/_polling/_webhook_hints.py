"""Hints that something happened to a track, from webhooks as a rule. Pure.

A hint may be wrong, early, late, repeated or lost. So it is never taken for a state: it
only changes when the poll loop looks. Hints about tracks that are not watched yet are
kept for a while, since a webhook may arrive before the response to the create.
"""

from __future__ import annotations

from math import inf
from typing import Final

REMEMBERED: Final = 60.0
"""Seconds that a hint about an unknown track is kept; to find a create whose response
was lost takes half of that."""

KEPT: Final = 1024
"""Unknown tracks whose hints are kept, the newest ones."""

TRUSTED_AFTER: Final = 5
"""The last tracks with a webhook, all of which must have been announced by it before
webhooks are relied on. With two worker processes half of the webhooks reach the other
one, and five in a row reach this one once in 32 times."""


class WebhookHints:
    """The hints of one account in one process."""

    def __init__(self) -> None:
        self._early: dict[str, float] = {}
        self._ends: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"<Hints early={len(self._early)} hooks_arrive={self.hooks_arrive}>"

    @property
    def hooks_arrive(self) -> bool:
        """Whether webhooks are known to reach this process."""
        return len(self._ends) == TRUSTED_AFTER and all(self._ends.values())

    def remember(self, track_id: str, now: float) -> None:
        """Keep a hint about a track that is not watched, or not any more."""
        if track_id in self._ends:
            self._ends[track_id] = True  # polling was only a little faster
            return
        self._early.pop(track_id, None)  # keeps the newest last
        self._early[track_id] = now
        while len(self._early) > KEPT:
            del self._early[next(iter(self._early))]

    def take(self, track_id: str, now: float) -> bool:
        """Whether there was a recent hint about a track that is watched from now on."""
        return now - self._early.pop(track_id, -inf) <= REMEMBERED

    def record_end(self, track_id: str, *, announced: bool) -> None:
        """Note that a track with a webhook has ended.

        Args:
            track_id: Its id.
            announced: Whether a hint came before the poll loop saw the end.
        """
        self._ends.pop(track_id, None)
        self._ends[track_id] = announced
        while len(self._ends) > TRUSTED_AFTER:
            del self._ends[next(iter(self._ends))]
