"""What is known of the lists: which can be used, and what their pages show. Pure.

There is the whole list of a family, and that of its completed tracks. The first page of
the latter tells in one read which of many have ended, where the whole list would take
several. It says nothing about failures and other statuses, and that the service filters
is documented by its own program only ("status", section 3.4 of the specification). So
each track is shown in another way too now and then, and what the filtered page shows is
tested all the time: a wrong one rests.

A page that gets no answer says nothing of its list: the network may be down. But if
none of its pages is answered where another read is, it is the list. So after two such
pages the next read is another one, and if that is answered the list rests: for a short
while at first, since the network may just have come back.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from finetuning_async._polling._schedule import SHOWN_EVERY
from finetuning_async._types import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._api import Page
    from finetuning_async._polling._watch_list import AnyTrack, Watched

ListKind: TypeAlias = tuple[Family, bool]
"""A list: whose, and whether only of those completed."""

MAX_FAILURES: Final = 3
"""Pages in a row that could not be used, until the list is given up for a while."""

SUSPECT_AFTER: Final = 2
"""Pages in a row without an answer, until another read is tried."""

FIRST_PAUSE: Final = 15.0
"""Seconds without a list that was outdone once, at 60 reads a minute."""

PAUSE_AFTER_FAILURES: Final = 60.0
PAUSE_AFTER_REFUSAL: Final = 600.0
"""Seconds without a list after failures, and after a 4xx, at 60 reads a minute."""

REACH_SLACK: Final = 5.0
"""Seconds by which a create may have been answered after the date that its row shows:
whole seconds, the clock's error, and a slow answer."""


class ListingHealth:
    """The lists of one account.

    Args:
        scale: Seconds per read of the budget.
    """

    def __init__(self, *, scale: float) -> None:
        self._scale = scale
        self._failures: dict[ListKind, int] = {}
        self._paused_until: dict[ListKind, float] = {}
        self._pending_since: dict[ListKind, float] = {}
        self._suspect_since: dict[ListKind, float] = {}
        self._unanswered: dict[ListKind, int] = {}
        self._bypassed: set[ListKind] = set()
        self._bypassed_until: dict[ListKind, float] = {}
        self._reach: dict[Family, float] = {}
        self._span: dict[Family, tuple[float, float]] = {}
        self._witness: dict[Family, tuple[str, float | None]] = {}

    # Which can be used: not one that was refused, or that fails and fails.

    def is_usable(self, listing: ListKind, now: float) -> bool:
        """Whether a list may be asked."""
        rests = (
            self._paused_until.get(listing, now),
            self._bypassed_until.get(listing, now),
        )
        return max(rests) <= now

    def page_worked(self, listing: ListKind) -> None:
        """A page was read."""
        self._failures.pop(listing, None)
        self._pending_since.pop(listing, None)
        self._unanswered.pop(listing, None)
        self._suspect_since.pop(listing, None)
        self._bypassed_until.pop(listing, None)
        self._bypassed.discard(listing)

    def page_failed(self, listing: ListKind, now: float) -> None:
        """A page came as an error of the service, or could not be read."""
        failures = self._failures.get(listing, 0) + 1
        self._failures[listing] = failures % MAX_FAILURES
        if failures == MAX_FAILURES:
            self._paused_until[listing] = now + PAUSE_AFTER_FAILURES * self._scale

    def page_refused(self, listing: ListKind, now: float) -> None:
        """A page was answered with a 4xx, or with what was not asked for."""
        self._paused_until[listing] = now + PAUSE_AFTER_REFUSAL * self._scale

    # Nor one that gets no answer where others do.

    def page_sent(self, listing: ListKind, sent_at: float) -> None:
        """A page is asked for."""
        self._pending_since[listing] = sent_at

    def page_unanswered(self, listing: ListKind, sent_at: float, now: float) -> None:
        """A page failed or hangs.

        Only the one that was sent last counts, and once; but a list that was outdone is
        not asked while any hangs, which would use up the reads that may be out.
        """
        unanswered = self._unanswered.get(listing, 0)
        if self.forget_page(listing, sent_at):
            unanswered = self._unanswered[listing] = unanswered + 1
        if unanswered >= SUSPECT_AFTER or listing in self._bypassed:
            self._suspect_since.setdefault(listing, now)

    def forget_page(self, listing: ListKind, sent_at: float) -> bool:
        """Nobody waits any more for a page; whether anybody did."""
        is_awaited = self._pending_since.get(listing) == sent_at
        if is_awaited:
            del self._pending_since[listing]
        return is_awaited

    def is_suspect(self, listing: ListKind) -> bool:
        """Whether another read is to be made before the next page."""
        return listing in self._suspect_since

    def other_read_worked(self, sent_at: float, now: float) -> None:
        """A read was answered: it outdoes the pages that had failed by `sent_at`."""
        for listing in self._settle(sent_at):
            again = listing in self._bypassed
            rest = PAUSE_AFTER_FAILURES if again else FIRST_PAUSE
            self._bypassed_until[listing] = now + rest * self._scale
            self._bypassed.add(listing)

    def other_read_failed(self, sent_at: float) -> None:
        """A read of a track failed or hangs as well: so it was not the listings."""
        self._settle(sent_at)

    def _settle(self, sent_at: float) -> list[ListKind]:
        settled = [of for of, since in self._suspect_since.items() if since <= sent_at]
        for listing in settled:
            del self._suspect_since[listing]
            self._unanswered.pop(listing, None)
        return settled

    # The whole list.

    def set_first_page_span(self, family: Family, seconds: float, now: float) -> None:
        """The first page was read.

        Args:
            family: Whose.
            seconds: The age of its oldest row; `inf` if there is no other page.
            now: On the loop's clock.
        """
        self._span[family] = now, seconds

    def on_first_page(self, tracks: Sequence[Watched], now: float) -> bool:
        """Whether a family's tracks stand on its first page, as far as known of late.

        None was looked for on another one, and none is older than that page.
        """
        read_at, span = self._span.get(tracks[0].family, (-inf, inf))
        if now > read_at + SHOWN_EVERY * self._scale:
            span = inf
        ages = [now - t.accepted_at for t in tracks if t.accepted_at is not None]
        return max(ages, default=0.0) <= span and all(t.offset == 0 for t in tracks)

    def note_completed(self, track: Watched) -> None:
        """The whole list shows a track as completed: so must the list of those."""
        self._witness[track.family] = track.track_id, track.accepted_at

    # The list of completed tracks.

    def can_use_completed_list(self, track: Watched, now: float) -> bool:
        """Whether the list of completed tracks is to be asked for one."""
        listing = track.family, True
        usable = self.is_usable(listing, now) and not self.is_suspect(listing)
        within = self._is_within(track.family, track.accepted_at)
        return usable and within and now < track.status_due_by

    def _is_within(self, family: Family, accepted_at: float | None) -> bool:
        """Whether the first page goes back to before a track, as far as is known."""
        reach = self._reach.get(family, -inf) + REACH_SLACK
        return accepted_at is not None and accepted_at > reach

    def not_completed(
        self, tracks: Sequence[Watched], page: Page[AnyTrack], reach: float, now: float
    ) -> list[Watched]:
        """Those of a family's tracks that are not among the completed ones.

        Args:
            tracks: At least one.
            page: The first of completed tracks.
            reach: When its oldest row was created, on the loop's clock; ``-inf`` if
                there is no other page, `inf` if nobody knows.
            now: On the loop's clock.
        """
        family = tracks[0].family
        self._reach[family] = reach
        shown = {row.id for row in page.items}
        witness, accepted_at = self._witness.pop(family, ("", None))
        hides = witness not in shown and self._is_within(family, accepted_at)
        if hides or any(row.status != "completed" for row in page.items):
            self.page_refused((family, True), now)
            return []
        absent = [track for track in tracks if track.track_id not in shown]
        return [t for t in absent if self._is_within(family, t.accepted_at)]
