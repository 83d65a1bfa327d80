"""`Reconciler`: finds the tracks of creates in doubt, and proves that one is absent.

One listing serves all of them; then each gets its verdict.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async._errors import FinetuningError
from finetuning_async._submission import (
    ListedRow,
    echoes_seeds,
    listed_row,
    possible_matches,
    read_list,
)
from finetuning_async.journal._credit_check import (
    CreditBaseline,
    CreditReading,
    Observation,
    PossibleCharge,
)
from finetuning_async.journal._errors import JournalError, is_fatal
from finetuning_async.journal._matching import (
    AbsenceEvidence,
    Doubt,
    match,
    verdict,
)
from finetuning_async.journal._records import costs_credits
from finetuning_async.journal._service import read_account, read_page
from finetuning_async.journal._state_machine import IN_DOUBT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from finetuning_async._api import Generation, Page
    from finetuning_async.journal._credit_check import Key
    from finetuning_async.journal._journal import Journal
    from finetuning_async.journal._records import Item
    from finetuning_async.journal._service import EngineOptions, Service
    from finetuning_async.journal._state_machine import State
    from finetuning_async.journal._store import JournalStore

logger = logging.getLogger("finetuning_async")

MAX_PAGES: Final = 300
"""Pages read at most; that is enough for the list of a busy year."""

BASELINE: Final = "balance"
"""The note that holds the credit baseline."""

SEEDS: Final = "seeds"
"""The note that is there once the service has echoed another seed than was sent."""

ACCEPTED: Final[tuple[State, ...]] = ("accepted", "completed", "downloaded", "failed")


@attrs.frozen
class Listing:
    """A listing of the account's tracks.

    Attributes:
        rows: Its rows.
        ended: The tracks that it shows as ended, by id.
        is_complete: Whether it was read to its end without missing a row.
    """

    rows: list[ListedRow]
    ended: dict[str, Any]
    is_complete: bool


class Reconciler:
    """Finds lost tracks, and proves that one is absent.

    Args:
        service: Lists tracks, and reads the credits.
        journal: Keeps the credit baseline.
        options: Options of the engine.

    Attributes:
        tracks: The seed that each item's track should show, by track id.
        sent: When the create of each of them was sent, as far as known, in seconds
            since 1970 by the clock that dates the doubts.
        time_is_local: Whether the service's time is not known, so that creates are
            dated by this machine's wall clock.
    """

    def __init__(
        self, service: Service, journal: Journal, options: EngineOptions
    ) -> None:
        self._service = service
        self._journal = journal
        self._settle = options.settle
        self._needs_credits = options.on_unknown == "hold"
        self._seeds_are_echoed = True
        self._baseline = CreditBaseline()
        self.tracks: dict[str, int | None] = {}
        self.sent: dict[str, float] = {}
        self.time_is_local = False

    async def load(self) -> None:
        """Load the tracks and notes of the journal."""
        store = self._journal.store
        self.tracks = await self._journal.call(store.tracks)
        self.sent = await self._journal.call(self._read_sent)
        await self.load_notes()

    async def load_notes(self) -> None:
        """Load the notes alone, which takes no longer however many tracks there are."""
        store = self._journal.store
        self._baseline = CreditBaseline.from_json(
            await self._journal.call(store.read_note, BASELINE)
        )
        self._seeds_are_echoed = not await self._journal.call(store.read_note, SEEDS)

    def _read_sent(self) -> dict[str, float]:
        rows = self._journal.store.rows(*ACCEPTED)
        return {
            item.entry.track_id: item.entry.sent_at
            for item in rows
            if item.entry.track_id is not None and item.entry.sent_at is not None
        }

    async def on_accepted(self, item: Item, track: object) -> None:
        """Note whether an accepted create echoes its seed.

        If it does not, no seed proves a track, and no doubt is resolved by one.
        """
        echoed = getattr(getattr(track, "parameters", None), "seed", None)
        if echoed not in (None, item.entry.seed) and self._seeds_are_echoed:
            self._seeds_are_echoed = False
            await self._journal.call(
                self._journal.store.write_note, SEEDS, "not echoed"
            )

    async def list_tracks(
        self, since: float, *, complete: bool = False
    ) -> Listing | None:
        """List the account's tracks; `None` if the list could not be read.

        Args:
            since: In seconds since 1970. Pages that are well past it, by their order
                and dates, may be left out.
            complete: Whether to read all pages, and to check that no row is missing.

        Raises:
            AuthenticationError: The list may not be read.
            PermissionDeniedError: Likewise.
        """
        listing = await read_list(
            self._read_page,
            max_pages=MAX_PAGES,
            verify_end=complete,
            since=None if complete else since,
        )
        if listing is None:
            return None
        ended = {track.id: track for track in listing.rows if track.is_final}
        rows = [listed_row(track) for track in listing.rows]
        return Listing(rows, ended, listing.is_whole)

    async def _read_page(self, offset: int) -> Page[Generation] | None:
        try:
            return await read_page(self._service, offset)
        except FinetuningError as error:
            if is_fatal(error):
                raise
            logger.debug(
                "the list could not be read to look for creates in doubt: %s;"
                " retrying later",
                error,
            )
            return None

    def match(self, items: Iterable[Item], listing: Listing) -> dict[int, str]:
        """The ids of tracks that are certain, by the `seq` of their items."""
        if not self._seeds_are_echoed:
            return {}
        return match(map(self._doubt, items), listing.rows, self.tracks)

    def _doubt(self, item: Item) -> Doubt:
        doubt = doubt_of(item)
        # If this machine's clock has dated it, that may be wrong by hours, so `sent_at`
        # excludes no row: a seed that the caller chose may have been used long before.
        return attrs.evolve(doubt, slack=None) if self.time_is_local else doubt

    async def read_credits(
        self, now: Callable[[], Awaitable[float]]
    ) -> Observation | None:
        """Read the credits; `None` if that failed, or a track was accepted meanwhile.

        Such a track may be charged in this reading or not, and counted or not.

        Args:
            now: Returns the service's time.
        """
        await self.load_notes()
        before = await self._journal.refresh_counts()
        try:
            left = (await read_account(self._service)).total_remaining
        except FinetuningError as error:
            if is_fatal(error):
                raise
            logger.debug("the credits could not be read: %s; retrying later", error)
            return None
        read_at = await now()
        # Read after the credits: what is in flight by then was committed before.
        doubts, dropped = await self._journal.call(self._read_doubts)
        after = await self._journal.refresh_counts()
        reading = CreditReading(
            credits=left or 0, accepts=after.accepts, fails=after.fails
        )
        if left is None or (before.accepts, before.fails) != (
            after.accepts,
            after.fails,
        ):
            return None
        return Observation(reading=reading, at=read_at, doubts=doubts, dropped=dropped)

    def _read_doubts(self) -> tuple[tuple[PossibleCharge, ...], frozenset[Key]]:
        """What may be charged now; and what was in doubt, but has made no track."""
        store = self._journal.store
        items = [item for item in store.rows(*IN_DOUBT) if costs_credits(item)]
        doubts = tuple(map(self._possible_charge, items))
        ended = self._baseline.uncleared - {doubt.key for doubt in doubts}
        dropped = frozenset(key for key in ended if _is_dropped(store, key))
        return doubts, dropped

    def _possible_charge(self, item: Item) -> PossibleCharge:
        entry, until = item.entry, inf
        if entry.state != "sending" and entry.lost_at is not None:
            until = entry.lost_at + self._settle
        return PossibleCharge(
            key=(item.seq, entry.accepts), sent_at=entry.sent_at or 0.0, until=until
        )

    async def running(self) -> list[Item]:
        """Items whose track is not known to have ended."""
        rows = self._journal.store.rows
        items = await self._journal.call(lambda: list(rows("accepted")))
        # What costs nothing changes no credits, and stands in no listing.
        return [item for item in items if costs_credits(item)]

    @property
    def is_behind_failures(self) -> bool:
        """Whether tracks have failed since the last reading; refunds hide charges."""
        known = self._baseline.fails
        return known is not None and self._journal.summary.fails > known

    async def _is_current(self, seen: Observation, listing: Listing | None) -> bool:
        """Whether a reading counts every track that had failed before it.

        A track that has failed at the service, while the journal still waits for it,
        may have been refunded already. That refund could hide a charge. So the listing,
        read after the credits, must not show one of these as failed.
        """
        running = {str(item.entry.track_id) for item in await self.running()}
        now = await self._journal.refresh_counts()
        if seen.reading.fails != now.fails:
            return False
        if listing is None:
            return not running
        ended = (listing.ended[track_id] for track_id in running & {*listing.ended})
        return all(track.status != "failed" for track in ended)

    async def observe(self, seen: Observation | None, listing: Listing | None) -> bool:
        """Compare a reading of the credits with earlier ones, if it is current.

        Args:
            seen: The credits.
            listing: Read after them; `None` if no track ran.

        Returns:
            Whether it was.
        """
        if seen is None or not await self._is_current(seen, listing):
            return False
        late = self._journal.summary.accepts - seen.reading.accepts
        before = self._baseline
        self._baseline = before.observe(attrs.evolve(seen, late=late))
        if self._baseline != before:
            await self._journal.call(
                self._journal.store.write_note, BASELINE, self._baseline.to_json()
            )
        return True

    def judge(
        self,
        item: Item,
        listing: Listing,
        *,
        now: float,
        more_to_come: bool,
        presume_complete: bool = False,
    ) -> str:
        """``wait``, ``absent``, or why an item that is not listed must be held.

        Args:
            item: In doubt; `match` has not found it in `listing`.
            listing: The listing.
            now: By the service's clock.
            more_to_come: Whether further creates will be sent, or tracks will end.
            presume_complete: Whether to judge as if the listing were complete, to see
                whether a complete one is worth reading.
        """
        lost_at = item.entry.lost_at or now
        baseline = self._baseline
        return verdict(
            AbsenceEvidence(
                age=now - lost_at,
                settle=self._settle,
                candidates=self._candidates_for(item, listing),
                is_complete=presume_complete
                or (listing.is_complete and self._goes_back(item, listing)),
                later_is_listed=any(
                    self._is_later(row, lost_at) for row in listing.rows
                ),
                seeds_are_echoed=self._seeds_are_echoed
                and echoes_seeds(listing.rows, self.tracks.get),
                no_charge=baseline.rules_out_charge(self._possible_charge(item)),
                is_comparable=baseline.covers(item.entry.sent_at or 0.0),
                unchanged_for=baseline.unchanged_for(lost_at),
                read_ago=baseline.read_ago(now),
                needs_credits=self._needs_credits,
                more_to_come=more_to_come,
            )
        )

    def _is_later(self, row: ListedRow, moment: float) -> bool:
        """Whether a row is a track of ours, with its seed, sent after a moment."""
        seed = self.tracks.get(row.id)
        return row.seed == seed is not None and self.sent.get(row.id, 0.0) > moment

    def _goes_back(self, item: Item, listing: Listing) -> bool:
        """Whether the listing shows one of our tracks that is older than the item.

        Also true if there is none. A listing without one may begin too late, although
        its pages look complete.
        """
        first = item.entry.sent_at or 0.0
        older = {track_id for track_id, sent in self.sent.items() if sent < first}
        return not older or any(row.id in older for row in listing.rows)

    def _candidates_for(self, item: Item, listing: Listing) -> tuple[str, ...]:
        """Listed tracks of no item that may be this item's."""
        unowned = [row for row in listing.rows if row.id not in self.tracks]
        return possible_matches(self._doubt(item).sought, unowned)


def _is_dropped(store: JournalStore, key: Key) -> bool:
    """Whether a create made no track; `False` if its entry is not there any more."""
    seq, accepts = key
    try:
        return store.get(seq).entry.accepts == accepts
    except JournalError:
        return False


def doubt_of(item: Item) -> Doubt:
    """An item in doubt as `match` takes it."""
    entry, request = item.entry, item.request
    return Doubt(
        seq=item.seq,
        kind=item.kind,
        prompt=request.prompt,
        body=item.content,
        seed=entry.seed or 0,
        seed_is_ours=request.seed is None,
        sent_at=entry.sent_at or 0.0,
    )


def earliest(items: Iterable[Item]) -> float:
    """When the first create of some items was sent, in seconds since 1970."""
    return min(item.entry.sent_at or 0.0 for item in items)
