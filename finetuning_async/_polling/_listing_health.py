"""Which lists can be used, and what their pages prove. Pure.

Each family has two lists: the whole list and the completed list, which is the same one
filtered by ``status``. The first page of the completed list shows in one read which of
many tracks have completed, where the whole list would take several. But it shows no
failure and no other status, and the filter is documented by the service's own program
only ("status", section 3.4 of the specification). So every now and then each track gets
another kind of read, and each page is checked against what is known: a completed list
that is wrong is paused.

A page that gets no response does not prove its list unusable: the network may be down.
But if pages of it get none where another read gets one, it is the list. So after two
such pages the list is *suspect* and the next read is another one. If that gets a
response, the list is *bypassed*: for a short while at first, since the network may just
have recovered.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from finetuning_async._polling._schedule import SHOWN_EVERY
from finetuning_async._types import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._api import Page
    from finetuning_async._polling._waiters import AnyTrack
    from finetuning_async._polling._watch_list import Watched

ListKind: TypeAlias = tuple[Family, bool]
"""A list: of which family, and whether it is the completed list."""

MAX_FAILURES: Final = 3
"""Pages in a row that failed, after which the list is paused."""

SUSPECT_AFTER: Final = 2
"""Pages in a row without a response, after which a list is suspect."""

FIRST_PAUSE: Final = 15.0
"""Seconds for which a list is bypassed the first time, at 60 reads a minute."""

PAUSE_AFTER_FAILURES: Final = 60.0
PAUSE_AFTER_REFUSAL: Final = 600.0
"""Seconds for which a list is paused after failures, and after a 4xx, at 60 reads a
minute."""

REACH_SLACK: Final = 5.0
"""Seconds by which a create may have been accepted after the date that its row shows:
whole seconds, the error of the clock, and a slow response."""


class ListingHealth:
    """The lists of one account.

    Args:
        scale: Seconds per allowed read.
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

    # Which can be used: not a list that was refused, or that failed several times.

    def is_usable(self, listing: ListKind, now: float) -> bool:
        """Whether a list may be read."""
        ends = (
            self._paused_until.get(listing, now),
            self._bypassed_until.get(listing, now),
        )
        return max(ends) <= now

    def page_worked(self, listing: ListKind) -> None:
        """Note that a page was read."""
        self._failures.pop(listing, None)
        self._pending_since.pop(listing, None)
        self._unanswered.pop(listing, None)
        self._suspect_since.pop(listing, None)
        self._bypassed_until.pop(listing, None)
        self._bypassed.discard(listing)

    def page_failed(self, listing: ListKind, now: float) -> None:
        """Note that a page was an error of the service, or could not be parsed."""
        failures = self._failures.get(listing, 0) + 1
        self._failures[listing] = failures % MAX_FAILURES
        if failures == MAX_FAILURES:
            self._paused_until[listing] = now + PAUSE_AFTER_FAILURES * self._scale

    def page_refused(self, listing: ListKind, now: float) -> None:
        """Note that a page was a 4xx, or did not show what it was filtered for."""
        self._paused_until[listing] = now + PAUSE_AFTER_REFUSAL * self._scale

    # Nor a list whose pages get no response while other reads do.

    def page_sent(self, listing: ListKind, sent_at: float) -> None:
        """Note that a page is requested."""
        self._pending_since[listing] = sent_at

    def page_unanswered(self, listing: ListKind, sent_at: float, now: float) -> None:
        """Note that a page failed or hangs.

        Only the page that was sent last counts, and only once. But a list that was
        bypassed before is suspect at once: else its hanging pages would use up the
        reads that may be in flight.
        """
        unanswered = self._unanswered.get(listing, 0)
        if self._pending_since.get(listing) == sent_at:
            del self._pending_since[listing]
            unanswered = self._unanswered[listing] = unanswered + 1
        if unanswered >= SUSPECT_AFTER or listing in self._bypassed:
            self._suspect_since.setdefault(listing, now)

    def is_suspect(self, listing: ListKind) -> bool:
        """Whether another read must be sent before the next page of a list."""
        return listing in self._suspect_since

    def other_read_worked(self, sent_at: float, now: float) -> None:
        """Note a response to another read: bypass the lists suspect by `sent_at`.

        A read that was sent before the list became suspect proves nothing: the network
        may have failed in between.
        """
        for listing in self._settle(sent_at):
            again = listing in self._bypassed
            pause = PAUSE_AFTER_FAILURES if again else FIRST_PAUSE
            self._bypassed_until[listing] = now + pause * self._scale
            self._bypassed.add(listing)

    def other_read_failed(self, sent_at: float) -> None:
        """Note that another read failed or hangs as well: so it was not the list."""
        self._settle(sent_at)

    def _settle(self, sent_at: float) -> list[ListKind]:
        settled = [of for of, since in self._suspect_since.items() if since <= sent_at]
        for listing in settled:
            del self._suspect_since[listing]
            self._unanswered.pop(listing, None)
        return settled

    # The whole list.

    def set_first_page_span(self, family: Family, seconds: float, now: float) -> None:
        """Note how far the first page of a whole list goes back.

        Args:
            family: Whose list it is.
            seconds: The age of its oldest row; `inf` if there is no other page.
            now: On the loop's clock.
        """
        self._span[family] = now, seconds

    def on_first_page(self, tracks: Sequence[Watched], now: float) -> bool:
        """Whether a family's tracks are all on its first page, as far as is known.

        None was looked for on another one, and none is older than that page.
        """
        read_at, span = self._span.get(tracks[0].family, (-inf, inf))
        if now > read_at + SHOWN_EVERY * self._scale:
            span = inf
        ages = [now - t.accepted_at for t in tracks if t.accepted_at is not None]
        return max(ages, default=0.0) <= span and all(t.offset == 0 for t in tracks)

    def note_completed(self, track: Watched) -> None:
        """Note that the whole list shows a track as completed: a witness.

        If the first page of the completed list goes back far enough and does not show
        it, that list is wrong.
        """
        self._witness[track.family] = track.track_id, track.accepted_at

    # The completed list.

    def can_use_completed_list(self, track: Watched, now: float) -> bool:
        """Whether the completed list may be read for a track."""
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
        """The tracks of a family that have not completed, by the completed list.

        Args:
            tracks: At least one.
            page: The first page of the completed list.
            reach: When its oldest row was created, on the loop's clock; ``-inf`` if
                there is no other page, `inf` if that is unknown.
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
