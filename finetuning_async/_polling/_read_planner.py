"""Which read shows most of what is due. Pure: it decides, and sends nothing.

- One track is due: its own ``GET``.
- Several are due that should be on one page of the list, which is sorted newest first:
  that page. A track that is not where it was last seen is looked for on the next page.
  If that does not show it either, and none of the others, or if there is no next page,
  it gets its own ``GET``. So rows beyond a page, missing rows and rows that new tracks
  moved down are all found, and each read shows something that was due.
- Several are due that are spread over more than one page, between tracks that have
  ended: the first page of the *completed* list. One read shows for all of them whether
  they have completed, but no failure and no other status. So every now and then each
  gets a look that shows its status.
- Pages get no response: a ``GET``, so that `ListingHealth` can compare the two.
- The ``GET`` of the track responds 404: the read that its `Absence` expects next.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import attrs

from finetuning_async._api import Call
from finetuning_async._polling._watch_list import Watched
from finetuning_async._types import Family

if TYPE_CHECKING:
    from finetuning_async._api import Page
    from finetuning_async._polling._absence import Step, Sweeps
    from finetuning_async._polling._listing_health import ListingHealth, ListKind
    from finetuning_async._polling._waiters import AnyTrack

PAGE_SIZE: Final = 99
"""The largest page that every published source allows."""

MIN_FOR_PAGE: Final = 2
"""Due tracks from which on a page is cheaper than a ``GET`` for each."""

PATHS: Final[dict[Family, str]] = {
    "generations": "/v1/generations",
    "sound_effects": "/v1/sound-effects",
}


@attrs.frozen(eq=False)
class Read:
    """One read of the poll loop.

    Attributes:
        family: The list, or the kind of the track, that it reads.
        tracks: What it should show: one track, those of one page, or those whose
            completion it would show.
        offset: Where the page begins; `None` for a track's own ``GET``.
        is_filtered: Whether the page is of the completed list.
    """

    family: Family
    tracks: Sequence[Watched]
    offset: int | None = None
    is_filtered: bool = False

    @property
    def is_guess(self) -> bool:
        """Whether it looks among the effects for a track that most likely is none."""
        if self.family == "generations":
            return False
        return all(t.absence is not None and t.absence.is_guess for t in self.tracks)

    @property
    def listing(self) -> ListKind:
        """The list that the page is of."""
        return self.family, self.is_filtered

    @property
    def call(self) -> Call:
        """The request to send."""
        path = PATHS[self.family]
        if self.offset is None:
            track_id = self.tracks[0].track_id
            path += f"/{quote(track_id, safe='')}"
            return Call(method="GET", path=path, shows=track_id)
        query: dict[str, str | int] = {"limit": PAGE_SIZE, "offset": self.offset}
        if self.is_filtered:
            query["status"] = "completed"
        return Call(method="GET", path=path, query=query)


def choose(
    due: Sequence[Watched], *, now: float, listings: ListingHealth, sweeps: Sweeps
) -> Read:
    """The read that shows the first due track, and as many others as possible.

    Args:
        due: At least one track, the most urgent first.
        now: On the loop's clock.
        listings: Which lists can be used.
        sweeps: The complete lists that are being read for missing tracks.
    """
    first = due[0]
    if first.absence is not None and first.absence.steps:
        return _next_step(first.absence.steps[0], due, sweeps)
    family, offset = first.family, first.offset
    whole = family, False
    usable = listings.is_usable(whole, now) and not listings.is_suspect(whole)
    if not usable or not _is_listed(first):
        return Read(family, [first])
    listed = [t for t in due if t.family == family and _is_listed(t)]
    # If they are all on the first page of the whole list, that page costs the same and
    # shows every status.
    if listings.can_use_completed_list(first, now):
        others = [t for t in listed if listings.can_use_completed_list(t, now)]
        if len(others) >= MIN_FOR_PAGE and not listings.on_first_page(others, now):
            return Read(family, others, 0, is_filtered=True)
    peers = [t for t in listed if t.offset == offset]
    if len(peers) >= MIN_FOR_PAGE:
        return Read(family, peers, offset)
    return Read(family, [first])


def _next_step(step: Step, due: Sequence[Watched], sweeps: Sweeps) -> Read:
    """The read for the first, a missing track; a page shows others as well."""
    how, family = step
    if how == "get":
        return Read(family, [due[0]])
    offset = sweeps.next_offset(family)
    asked = [t for t in due if t.absence is not None and t.absence.expects(step)]
    peers = [t for t in due if t.family == family and t.offset == offset]
    return Read(family, asked + [t for t in peers if _is_listed(t)], offset)


def _is_listed(track: Watched) -> bool:
    """Whether a page can show all that is needed of a track."""
    is_there = track.absence is None
    return track.offset is not None and track.partial_row is None and is_there


def relocate_missing(
    read: Read, page: Page[AnyTrack], *, reach: float = -inf
) -> list[Watched]:
    """The tracks that a page should have shown; sets the offset where each may be.

    Args:
        read: The read of the page.
        page: The page.
        reach: When its oldest row was created, on the loop's clock.
    """
    shown = {row.id for row in page.items}
    absent = [track for track in read.tracks if track.track_id not in shown]
    absent = [track for track in absent if track.absence is None]
    some_found = len(absent) < len(read.tracks)
    for track in absent:
        # Go on to the next page if this one was the right region of the list: it showed
        # others, or its oldest row is still newer than the track. With few tracks on
        # many pages their own GETs are cheaper.
        is_older = track.accepted_at is not None and track.accepted_at < reach
        may_be_near = is_older and len(absent) * PAGE_SIZE > page.next_offset
        goes_on = page.has_more and (some_found or may_be_near)
        track.offset = page.next_offset if goes_on else None
    return absent
