"""Which read shows most of what is due. Pure: it decides, and reads nothing.

One track due: its own ``GET``. Several that should stand on one page of the list,
newest first: that page. A track that is not where it was last seen is looked for on the
following page, and when that shows none of the others either, or there is none, it gets
its own ``GET``. So rows deeper than a page, missing rows and rows shifted by new tracks
are all found, and each read shows something that was due.

Several that stand on more than one page, between tracks that have ended: the first page
of those *completed*. One read tells for all of them which have, and says nothing about
failures and other statuses, so now and then each is looked at in the usual way.

Where pages get no answer the next read is a ``GET``: `ListingHealth` compares them.

One whose ``GET`` says that it is not there: what its `Absence` asks for next.
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
    from finetuning_async._polling._watch_list import AnyTrack

PAGE_SIZE: Final = 99
"""The largest page that every published source allows."""

MIN_FOR_PAGE: Final = 2
"""From so many tracks on, a page is cheaper than a read for each."""

PATHS: Final[dict[Family, str]] = {
    "generations": "/v1/generations",
    "sound_effects": "/v1/sound-effects",
}


@attrs.frozen(eq=False)
class Read:
    """One read of the poll loop.

    Attributes:
        family: Where it reads.
        tracks: What it should show: one track, those of one page, or those whose
            completion it would show.
        offset: Where the page begins; `None` for a track's own ``GET``.
        is_filtered: Whether the page is one of completed tracks only.
    """

    family: Family
    tracks: Sequence[Watched]
    offset: int | None = None
    is_filtered: bool = False

    @property
    def is_guess(self) -> bool:
        """Whether it asks among the effects for what most likely is none."""
        if self.family == "generations":
            return False
        return all(t.absence is not None and t.absence.is_guess for t in self.tracks)

    @property
    def listing(self) -> ListKind:
        """The list that a page is of."""
        return self.family, self.is_filtered

    @property
    def call(self) -> Call:
        """What to send."""
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
    """The read for the first of the tracks that are due.

    Args:
        due: At least one track, the most urgent first.
        now: On the loop's clock.
        listings: What is known of the listings.
        sweeps: Which pages are to be read for tracks that are not there.
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
    if listings.can_use_completed_list(first, now):
        told = [t for t in listed if listings.can_use_completed_list(t, now)]
        if len(told) >= MIN_FOR_PAGE and not listings.on_first_page(told, now):
            return Read(family, told, 0, is_filtered=True)
    peers = [t for t in listed if t.offset == offset]
    if len(peers) >= MIN_FOR_PAGE:
        return Read(family, peers, offset)
    return Read(family, [first])


def _next_step(step: Step, due: Sequence[Watched], sweeps: Sweeps) -> Read:
    """The read for the first, which is not there: a page shows the others as well."""
    how, family = step
    if how == "get":
        return Read(family, [due[0]])
    offset = sweeps.next_offset(family)
    asked = [t for t in due if t.absence is not None and t.absence.expects(step)]
    peers = [t for t in due if t.family == family and t.offset == offset]
    return Read(family, asked + [t for t in peers if _is_listed(t)], offset)


def _is_listed(track: Watched) -> bool:
    """Whether a page may say all that is to be known of a track."""
    is_there = track.absence is None
    return track.offset is not None and track.partial_row is None and is_there


def relocate_missing(
    read: Read, page: Page[AnyTrack], *, reach: float = -inf
) -> list[Watched]:
    """The tracks that a page should have shown; they are told where to be looked for.

    Args:
        read: What was read.
        page: What came.
        reach: When its oldest row was created, on the loop's clock.
    """
    shown = {row.id for row in page.items}
    absent = [track for track in read.tracks if track.track_id not in shown]
    absent = [track for track in absent if track.absence is None]
    some_found = len(absent) < len(read.tracks)
    for track in absent:
        is_older = track.accepted_at is not None and track.accepted_at < reach
        may_be_near = is_older and len(absent) * PAGE_SIZE > page.next_offset
        goes_on = page.has_more and (some_found or may_be_near)
        track.offset = page.next_offset if goes_on else None
    return absent
