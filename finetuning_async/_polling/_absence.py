"""When a 404 means that a track does not exist. Pure.

A ``GET`` that responds 404 may be wrong: a replica that lags behind the create, or a
hiccup. So a 404 is believed only if the complete list does not show the track either,
and only after `ROUNDS` rounds of both, `ROUND_INTERVAL` seconds apart. A track that was
just created and is not replicated yet costs one page, and its waiter never notices. If
no complete list can be read, nothing is proved and the wait goes on.

    Absence  the checks of one track whose ``GET`` responds 404
    Sweeps   the complete reads of the lists, page by page, shared by these checks

A round is: one ``GET`` for each family, then one complete list for each family. The
next round begins `ROUND_INTERVAL` seconds after the last began; between rounds the
``GET`` is repeated every `RETRY_GET_AFTER` seconds, so that a track that appears late
is seen soon.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._api import Generation, Page, SoundEffect
    from finetuning_async._types import Family

    Step: TypeAlias = tuple[Literal["get", "list"], Family]
    """A read: a track's own ``GET``, or the complete list of a family."""

ROUNDS: Final = 3
"""Rounds in which both ``GET`` and the complete list did not show a track."""

ROUND_INTERVAL: Final = 15.0
"""Seconds from one round to the next; three of them span 30 s."""

RETRY_GET_AFTER: Final = 5.0
"""Seconds until the ``GET`` of a missing track is repeated."""


class Absence:
    """The checks of one track whose ``GET`` responds 404.

    Times are seconds of the loop's clock.

    Args:
        now: When the first 404 arrived.
        families: Where it may be listed: both, if only its id is known.

    Attributes:
        families: Where it may be listed.
        since: When the first 404 arrived.
        last_404_at: When the last 404 arrived.
        rounds: How many are complete.
        steps: The reads that are left in this round, in order.
    """

    __slots__ = ("families", "last_404_at", "rounds", "since", "steps")

    def __init__(self, now: float, families: Sequence[Family]) -> None:
        self.families = families
        self.since = self.last_404_at = now
        self.rounds = 0
        self.steps: deque[Step] = deque()
        self.begin_round(now)

    def begin_round(self, now: float) -> float:
        """Start over with the ``GET``.

        Returns:
            When to read next: not later than the lists are due again.
        """
        self.steps.extend(("get", family) for family in self.families)
        due = self.since + ROUND_INTERVAL * self.rounds
        return min(now + RETRY_GET_AFTER, due) if now < due else now + RETRY_GET_AFTER

    def expects(self, step: Step) -> bool:
        """Whether this read is the next one."""
        return bool(self.steps) and self.steps[0] == step

    def on_404(self, family: Family, now: float) -> None:
        """Take a 404; if the round is due, its lists are next."""
        self.last_404_at = now
        if self.expects(("get", family)):
            self.steps.popleft()
        # Before the round is due only the cheap GET is repeated, not the lists.
        is_due = now >= self.since + ROUND_INTERVAL * self.rounds
        if not self.steps and is_due:
            self.steps.extend(("list", family) for family in self.families)

    def not_listed(self, family: Family) -> None:
        """Take a complete list that does not show the track."""
        if self.expects(("list", family)):
            self.steps.popleft()
            self.rounds += not self.steps

    def abandon_round(self) -> None:
        """A list cannot be read completely, so this round does not count."""
        self.steps.clear()

    @property
    def is_proved(self) -> bool:
        """Whether the track does not exist."""
        return self.rounds >= ROUNDS

    @property
    def is_guess(self) -> bool:
        """Whether it is not known if it is a track or an effect."""
        return len(self.families) > 1


@attrs.define(eq=False)
class _Sweep:
    began_at: float
    offset: int = 0
    ids: set[str] = attrs.field(factory=set)


class Sweeps:
    """The reads of complete lists, page by page, from the first page to the last."""

    def __init__(self) -> None:
        self._in_progress: dict[Family, _Sweep] = {}

    def next_offset(self, family: Family) -> int:
        """The offset of the page to read next."""
        sweep = self._in_progress.get(family)
        return 0 if sweep is None else sweep.offset

    def add_page(
        self,
        family: Family,
        offset: int,
        page: Page[Generation | SoundEffect],
        sent_at: float,
    ) -> tuple[Literal["more", "whole", "unusable"], float]:
        """Take a page.

        Args:
            family: Whose list it is of.
            offset: Where the page begins.
            page: The page.
            sent_at: When it was requested, on the loop's clock.

        Returns:
            Whether the list is complete now, and when its first page was requested.
        """
        sweep = self._in_progress.get(family)
        if sweep is None and offset == 0:
            sweep = self._in_progress[family] = _Sweep(sent_at)
        if sweep is None or sweep.offset != offset:
            return "more", -inf
        if page.raw.get("hasMore") is False:
            self.discard(family)
            return "whole", sweep.began_at
        ids = {row.id for row in page.items}
        # Nothing new: the pages repeat, or the list does not say where it ends.
        if ids <= sweep.ids:
            self.discard(family)
            return "unusable", sweep.began_at
        sweep.ids |= ids
        sweep.offset = offset + len(page.items)
        return "more", sweep.began_at

    def discard(self, family: Family) -> None:
        """Start over with the next page: what was read is not needed, or no use."""
        self._in_progress.pop(family, None)
