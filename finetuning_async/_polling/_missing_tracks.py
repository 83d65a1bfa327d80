"""Tracks whose ``GET`` says that they are not there: asking on, until they are or not.

What that takes is decided in `_absence`; here it is put into the order of the reads.
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
    from finetuning_async._polling._watch_list import AnyTrack, Watched, WatchList
    from finetuning_async._types import Family


class MissingTracks:
    """Tracks that are not there, by their ``GET``.

    Args:
        watched: The tracks under watch.
        listings: What is known of the listings.

    Attributes:
        sweeps: The whole lists, as they are read for them.
    """

    def __init__(self, watched: WatchList, listings: ListingHealth) -> None:
        self._watch_list = watched
        self._listings = listings
        self.sweeps = Sweeps()

    def on_404(
        self, track: Watched, family: Family, sent_at: float
    ) -> NotFoundError | None:
        """A ``GET`` was answered with a 404.

        Args:
            track: Of which.
            family: Where it was looked for.
            sent_at: When it was asked for, on the loop's clock.

        Returns:
            What ends its waits, if it is gone.
        """
        now = anyio.current_time()
        if track.absence is None:
            track.absence = Absence(now, _families(track))
        track.absence.on_404(family, now)
        return self._advance(track, track.absence, sent_at)

    def on_page(
        self, read: Read, offset: int, page: Page[AnyTrack], sent_at: float
    ) -> list[tuple[Watched, NotFoundError]]:
        """Take a page of a whole list, after its rows were given out.

        Args:
            read: What was read.
            offset: Where the page begins.
            page: What came.
            sent_at: When it was asked for, on the loop's clock.

        Returns:
            The tracks that are gone, and what ends their waits.
        """
        family = read.family
        asked = [t for t in self._watch_list.absent() if _expects_list(t, family)]
        if not asked:
            self.sweeps.discard(family)
            return []
        outcome, began_at = self.sweeps.add_page(family, offset, page, sent_at)
        gone = []
        for track in asked:
            absence = track.absence
            assert absence is not None  # noqa: S101 - `_expects_list` says so
            if outcome == "whole" and began_at >= absence.last_404_at:
                absence.not_listed(family)
            elif outcome == "unusable":
                absence.abandon_round()
            error = self._advance(track, absence, sent_at)
            if error is not None:
                gone.append((track, error))
        return gone

    def on_page_failed(
        self, read: Read, sent_at: float
    ) -> list[tuple[Watched, NotFoundError]]:
        """A page of a list did not come; the same otherwise."""
        gone = []
        for track in read.tracks:
            absence = track.absence
            if absence is None or not absence.expects(("list", read.family)):
                continue
            if read.is_guess:
                absence.not_listed(read.family)  # there may be no such list
            error = self._advance(track, absence, sent_at, pause=RETRY_GET_AFTER)
            if error is not None:
                gone.append((track, error))
        return gone

    def _advance(
        self, track: Watched, absence: Absence, sent_at: float, *, pause: float = 0.0
    ) -> NotFoundError | None:
        """Take the next step, after a pause, or say that it is gone."""
        now = anyio.current_time()
        self._skip_unusable_lists(absence, now)
        if absence.is_proved:
            return _gone(track, absence, now)
        if absence.steps and absence.steps[0][0] == "get":
            self._watch_list.schedule_now(track)  # one look may take two reads
            return None
        track.end_overtime(sent_at)
        look = now + pause if absence.steps else absence.begin_round(now)
        if not track.is_urgent:
            self._watch_list.schedule_look(track, look)
        return None

    def _skip_unusable_lists(self, absence: Absence, now: float) -> None:
        """Pass over the lists that cannot be had."""
        while absence.steps and absence.steps[0][0] == "list":
            family = absence.steps[0][1]
            if self._listings.is_usable((family, False), now):
                return
            if absence.is_guess and family == "sound_effects":
                absence.not_listed(family)  # an account may have no effects at all
            else:
                absence.abandon_round()


def _families(track: Watched) -> Sequence[Family]:
    """Where to look for a track that its ``GET`` does not show."""
    is_known = track.accepted_at is not None or track.latest is not None
    if is_known or any(watcher.latest is not None for watcher in track.watchers):
        return (track.family,)
    return ("generations", "sound_effects")


def _expects_list(track: Watched, family: Family) -> bool:
    return track.absence is not None and track.absence.expects(("list", family))


def _gone(track: Watched, absence: Absence, now: float) -> NotFoundError:
    return NotFoundError(
        f"there is no {track.track_id}: asked for it and the whole list {ROUNDS} times"
        f" in {now - absence.since:.0f} s, the service did not show it",
        status_code=404,
        code="NOT_FOUND",
        generation_id=track.track_id,
    )
