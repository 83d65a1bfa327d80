"""Which read shows most of what is due. Pure: it decides, and reads nothing.

One track due: its own ``GET``. Several that should stand on one page of the list,
newest first: that page. A track that is not where it was last seen is looked for on the
following page, and when that shows none of the others either, or there is none, it gets
its own ``GET``. So rows deeper than a page, missing rows and rows shifted by new tracks
are all found, and each read shows something that was due.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from finetuning_async._watch_list import Family, Watched
from finetuning_async._wire import Call

if TYPE_CHECKING:
    from collections.abc import Collection

    from finetuning_async._models import Page
    from finetuning_async._watch_list import AnyTrack

PAGE_SIZE: Final = 99
"""The largest page that every published source allows."""

WORTH_A_PAGE: Final = 2
"""From so many tracks on, a page is cheaper than a read for each."""

ENOUGH_FAILURES: Final = 3
"""Pages in a row that could not be used, until the list is given up for a while."""

REST_AFTER_FAILURES: Final = 60.0
REST_AFTER_REFUSAL: Final = 600.0
"""Seconds without the list after failures, and after a 4xx, at 60 reads a minute."""

PATHS: Final[dict[Family, str]] = {
    "generations": "/v1/generations",
    "sound_effects": "/v1/sound-effects",
}


@attrs.frozen(eq=False)
class Read:
    """One read of the poll loop.

    Attributes:
        family: Where it reads.
        tracks: What it should show: one track, or those of one page.
        offset: Where the page begins; `None` for a track's own ``GET``.
    """

    family: Family
    tracks: Sequence[Watched]
    offset: int | None = None

    @property
    def call(self) -> Call:
        """What to send."""
        path = PATHS[self.family]
        if self.offset is None:
            track_id = quote(self.tracks[0].track_id, safe="")
            return Call(method="GET", path=f"{path}/{track_id}")
        query = {"limit": PAGE_SIZE, "offset": self.offset}
        return Call(method="GET", path=path, query=query)


def choose(due: Sequence[Watched], *, lists: Collection[Family]) -> Read:
    """The read for the first of the tracks that are due.

    Args:
        due: At least one track, the most urgent first.
        lists: The families whose list can be used.
    """
    first = due[0]
    family, offset = first.family, first.offset
    if family in lists and offset is not None and first.row is None:
        peers = [t for t in due if t.offset == offset and t.family == family]
        peers = [t for t in peers if t.row is None]
        if len(peers) >= WORTH_A_PAGE:
            return Read(family, peers, offset)
    return Read(family, [first])


def missing(read: Read, page: Page[AnyTrack]) -> list[Watched]:
    """The tracks that a page should have shown; they are told where to be looked for.

    Args:
        read: What was read.
        page: What came.
    """
    shown = {row.id for row in page.items}
    absent = [track for track in read.tracks if track.track_id not in shown]
    goes_on = page.has_more and len(absent) < len(read.tracks)
    for track in absent:
        track.offset = page.next_offset if goes_on else None
    return absent


class ListHealth:
    """Which lists can be used: not one that was refused, or that fails and fails.

    Args:
        scale: Seconds per read of the budget.
    """

    def __init__(self, *, scale: float) -> None:
        self._scale = scale
        self._failures: dict[Family, int] = {}
        self._resting: dict[Family, float] = {}

    def usable(self, now: float) -> set[Family]:
        """The families whose list may be asked."""
        return {name for name in PATHS if self._resting.get(name, now) <= now}

    def worked(self, family: Family) -> None:
        """A page was read."""
        self._failures.pop(family, None)

    def failed(self, family: Family, now: float) -> None:
        """A page came as an error of the service, or could not be read."""
        failures = self._failures.get(family, 0) + 1
        self._failures[family] = failures % ENOUGH_FAILURES
        if failures == ENOUGH_FAILURES:
            self._resting[family] = now + REST_AFTER_FAILURES * self._scale

    def refused(self, family: Family, now: float) -> None:
        """A page was answered with a 4xx."""
        self._resting[family] = now + REST_AFTER_REFUSAL * self._scale
