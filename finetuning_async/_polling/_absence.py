"""Whether a track is gone: what a 404 is worth. Pure.

A ``GET`` that says 404 may be wrong: a replica that lags behind a create, a blip. So it
is believed only when the whole list has not shown the track either, and when both have
said so `ROUNDS` times, `ROUND_INTERVAL` seconds apart. A single 404 costs one page and is
nobody's business; where no whole list is to be had, nothing is proved.

    Absence  what was said about one track that its ``GET`` does not show
    Sweeps   the whole lists as they are read for them, page by page
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
    """What is asked: a track's own ``GET``, or the whole list of a family."""

ROUNDS: Final = 3
"""How often ``GET`` and a complete list must have said that a track is not there."""

ROUND_INTERVAL: Final = 15.0
"""Seconds from one such round to the next; three of them span 30 s."""

RETRY_GET_AFTER: Final = 5.0
"""Seconds until the ``GET`` of a track that was not there is made again."""


class Absence:
    """What was said about one track that its ``GET`` does not show.

    Times are seconds of the loop's clock.

    Args:
        now: When the first 404 came.
        families: Where it may be listed: two, if only its id is known.

    Attributes:
        families: Likewise.
        since: When the first 404 came.
        last_404_at: When the last 404 came.
        rounds: How often ``GET`` and complete lists have both said so.
        steps: What is to be asked next, in this order.
    """

    __slots__ = ("families", "last_404_at", "rounds", "since", "steps")

    def __init__(self, now: float, families: Sequence[Family]) -> None:
        self.families = families
        self.since = self.last_404_at = now
        self.rounds = 0
        self.steps: deque[Step] = deque()
        self.begin_round(now)

    def begin_round(self, now: float) -> float:
        """Ask anew.

        Returns:
            When: at the latest when the lists are due as well.
        """
        self.steps.extend(("get", family) for family in self.families)
        due = self.since + ROUND_INTERVAL * self.rounds
        return min(now + RETRY_GET_AFTER, due) if now < due else now + RETRY_GET_AFTER

    def expects(self, step: Step) -> bool:
        """Whether that is to be asked next."""
        return bool(self.steps) and self.steps[0] == step

    def on_404(self, family: Family, now: float) -> None:
        """A ``GET`` was answered with a 404; if a round is due, the lists are next."""
        self.last_404_at = now
        if self.expects(("get", family)):
            self.steps.popleft()
        is_due = now >= self.since + ROUND_INTERVAL * self.rounds
        if not self.steps and is_due:
            self.steps.extend(("list", family) for family in self.families)

    def not_listed(self, family: Family) -> None:
        """A complete list does not show it."""
        if self.expects(("list", family)):
            self.steps.popleft()
            self.rounds += not self.steps

    def abandon_round(self) -> None:
        """A list cannot be had whole: this round does not count."""
        self.steps.clear()

    @property
    def is_proved(self) -> bool:
        """Whether the track is gone."""
        return self.rounds >= ROUNDS

    @property
    def is_guess(self) -> bool:
        """Whether nobody knows if it is a track or an effect."""
        return len(self.families) > 1


@attrs.define(eq=False)
class _Sweep:
    began_at: float
    offset: int = 0
    ids: set[str] = attrs.field(factory=set)


class Sweeps:
    """The whole lists as they are read page by page, from the first to the last."""

    def __init__(self) -> None:
        self._in_progress: dict[Family, _Sweep] = {}

    def next_offset(self, family: Family) -> int:
        """Which page of a list is to be read next."""
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
            family: Of which list.
            offset: Where the page begins.
            page: What came.
            sent_at: When it was asked for, on the loop's clock.

        Returns:
            What that makes of the list, and when its first page was asked for.
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
        if ids <= sweep.ids:  # it pages in circles, or does not say that it has ended
            self.discard(family)
            return "unusable", sweep.began_at
        sweep.ids |= ids
        sweep.offset = offset + len(page.items)
        return "more", sweep.began_at

    def discard(self, family: Family) -> None:
        """Nobody asks any more, or what came is of no use: begin anew."""
        self._in_progress.pop(family, None)
