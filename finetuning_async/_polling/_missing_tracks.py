"""Tracks whose ``GET`` responds 404: reading on until they appear or do not exist.

`_absence` decides which reads that takes; here they are scheduled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from finetuning_async._errors import NotFoundError
from finetuning_async._polling._absence import RETRY_GET_AFTER, ROUNDS, Absence, Sweeps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._api import Page
    from finetuning_async._polling._listing_health import ListingHealth
    from finetuning_async._polling._read_planner import Read
    from finetuning_async._polling._waiters import AnyTrack
    from finetuning_async._polling._watch_list import Watched, WatchList
    from finetuning_async._types import Family


class MissingTracks:
    """The watched tracks whose ``GET`` responds 404.

    Args:
        watched: The watched tracks.
        listings: Which lists can be used.

    Attributes:
        sweeps: The complete lists that are being read for them.
    """

    def __init__(self, watched: WatchList, listings: ListingHealth) -> None:
        self._watch_list = watched
        self._listings = listings
        self.sweeps = Sweeps()

    def on_404(
        self, track: Watched, family: Family, sent_at: float
    ) -> NotFoundError | None:
        """Take a 404 to a ``GET``.

        Args:
            track: The track that was read.
            family: Where it was looked for.
            sent_at: When it was requested, on the loop's clock.

        Returns:
            The error that ends its waits, if it is proved not to exist.
        """
        now = anyio.current_time()
        if track.absence is None:
            track.absence = Absence(now, _families(track))
        track.absence.on_404(family, now)
        return self._advance(track, track.absence, sent_at)

    def on_page(
        self, read: Read, offset: int, page: Page[AnyTrack], sent_at: float
    ) -> list[tuple[Watched, NotFoundError]]:
        """Take a page of a complete list, after its rows were dispatched.

        Args:
            read: The read that it responds to.
            offset: Where the page begins.
            page: The page.
            sent_at: When it was requested, on the loop's clock.

        Returns:
            The tracks that are proved not to exist, and the errors that end their
            waits.
        """
        family = read.family
        expecting = [t for t in self._watch_list.absent() if _expects_list(t, family)]
        if not expecting:
            self.sweeps.discard(family)
            return []
        outcome, began_at = self.sweeps.add_page(family, offset, page, sent_at)
        proved = []
        for track in expecting:
            absence = track.absence
            assert absence is not None  # noqa: S101 - `_expects_list` says so
            # The sweep may have been started for another track. It counts only for
            # those whose 404 it came after: an older list could not show a new track.
            if outcome == "whole" and began_at >= absence.last_404_at:
                absence.not_listed(family)
            elif outcome == "unusable":
                absence.abandon_round()
            error = self._advance(track, absence, sent_at)
            if error is not None:
                proved.append((track, error))
        return proved

    def on_page_failed(
        self, read: Read, sent_at: float
    ) -> list[tuple[Watched, NotFoundError]]:
        """Take the failure of a page; arguments and result as for `on_page`."""
        proved = []
        for track in read.tracks:
            absence = track.absence
            if absence is None or not absence.expects(("list", read.family)):
                continue
            if read.is_guess:
                absence.not_listed(read.family)  # there may be no such list
            error = self._advance(track, absence, sent_at, pause=RETRY_GET_AFTER)
            if error is not None:
                proved.append((track, error))
        return proved

    def _advance(
        self, track: Watched, absence: Absence, sent_at: float, *, pause: float = 0.0
    ) -> NotFoundError | None:
        """Schedule the next read, after a pause, or return the error."""
        now = anyio.current_time()
        self._skip_unusable_lists(absence, now)
        if absence.is_proved:
            return _not_found(track, absence, now)
        if absence.steps and absence.steps[0][0] == "get":
            # Where only the id is known, one look takes two reads: both families.
            self._watch_list.schedule_now(track)
            return None
        # A GET has said all it can. A waiter whose deadline has passed does not wait
        # for the list as well.
        track.end_overtime(sent_at)
        look = now + pause if absence.steps else absence.begin_round(now)
        if not track.is_urgent:
            self._watch_list.schedule_look(track, look)
        return None

    def _skip_unusable_lists(self, absence: Absence, now: float) -> None:
        while absence.steps and absence.steps[0][0] == "list":
            family = absence.steps[0][1]
            if self._listings.is_usable((family, False), now):
                return
            if absence.is_guess and family == "sound_effects":
                absence.not_listed(family)  # an account may have no effects at all
            else:
                absence.abandon_round()


def _families(track: Watched) -> Sequence[Family]:
    """Where to look for a track whose ``GET`` does not show it."""
    is_known = track.accepted_at is not None or track.latest is not None
    if is_known or any(watcher.latest is not None for watcher in track.watchers):
        return (track.family,)
    return ("generations", "sound_effects")


def _expects_list(track: Watched, family: Family) -> bool:
    return track.absence is not None and track.absence.expects(("list", family))


def _not_found(track: Watched, absence: Absence, now: float) -> NotFoundError:
    return NotFoundError(
        f"there is no track {track.track_id}: in {now - absence.since:.0f} s neither"
        f" GET nor the complete list showed it, {ROUNDS} times each; check the id",
        status_code=404,
        code="NOT_FOUND",
        generation_id=track.track_id,
    )
