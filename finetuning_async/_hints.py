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


class Hints:
    """The hints of one account in one process.

    Attributes:
        hooks_arrive: Whether webhooks are seen to come here: the last track that had
            one, and ended, was announced.
    """

    def __init__(self) -> None:
        self.hooks_arrive = False
        self._early: dict[str, float] = {}
        self._unannounced: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Hints early={len(self._early)} hooks_arrive={self.hooks_arrive}>"

    def unknown(self, track_id: str, now: float) -> None:
        """There was one about a track that is not watched, or not any more."""
        if now - self._unannounced.pop(track_id, -inf) <= REMEMBERED:
            self.hooks_arrive = True  # polling was only a little faster
        else:
            _remember(self._early, track_id, now)

    def take(self, track_id: str, now: float) -> bool:
        """Whether there was one of late about a track that is watched from now on."""
        return now - self._early.pop(track_id, -inf) <= REMEMBERED

    def ended(self, track_id: str, now: float, *, announced: bool) -> None:
        """A track with a webhook has ended.

        Args:
            track_id: Which.
            now: On the loop's clock.
            announced: Whether there was a hint about it.
        """
        self.hooks_arrive = announced
        if not announced:
            _remember(self._unannounced, track_id, now)


def _remember(moments: dict[str, float], track_id: str, now: float) -> None:
    moments.pop(track_id, None)  # so that the newest stand last
    moments[track_id] = now
    while len(moments) > KEPT:
        del moments[next(iter(moments))]
