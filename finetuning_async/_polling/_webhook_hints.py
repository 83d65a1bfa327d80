"""What others than the service's answers said about tracks: webhooks, as a rule. Pure.

A hint may be wrong, early, late, repeated or lost, so it only changes when the poll
loop looks. Hints about tracks that nobody waits for yet are kept for a while: a webhook
may overtake the answer of the create.
"""

from __future__ import annotations

from math import inf
from typing import Final

REMEMBERED: Final = 60.0
"""Seconds for which a hint about an unknown track is worth something; a create whose
answer was lost takes half of them to be found."""

KEPT: Final = 1024
"""Unknown tracks remembered, the newest."""

TRUSTED_AFTER: Final = 5
"""Tracks with a webhook that must all have been announced, the last so many. With two
worker processes half of the webhooks land in the other one, and five in a row here once
in 32 times."""


class WebhookHints:
    """The hints of one account in one process."""

    def __init__(self) -> None:
        self._early: dict[str, float] = {}
        self._ends: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"<Hints early={len(self._early)} hooks_arrive={self.hooks_arrive}>"

    @property
    def hooks_arrive(self) -> bool:
        """Whether webhooks are seen to come to this process."""
        return len(self._ends) == TRUSTED_AFTER and all(self._ends.values())

    def remember(self, track_id: str, now: float) -> None:
        """There was one about a track that is not watched, or not any more."""
        if track_id in self._ends:
            self._ends[track_id] = True  # polling was only a little faster
            return
        self._early.pop(track_id, None)  # so that the newest stand last
        self._early[track_id] = now
        while len(self._early) > KEPT:
            del self._early[next(iter(self._early))]

    def take(self, track_id: str, now: float) -> bool:
        """Whether there was one of late about a track that is watched from now on."""
        return now - self._early.pop(track_id, -inf) <= REMEMBERED

    def record_end(self, track_id: str, *, announced: bool) -> None:
        """A track with a webhook has ended.

        Args:
            track_id: Which.
            announced: Whether there was a hint about it before.
        """
        self._ends.pop(track_id, None)
        self._ends[track_id] = announced
        while len(self._ends) > TRUSTED_AFTER:
            del self._ends[next(iter(self._ends))]
