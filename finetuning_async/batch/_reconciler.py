"""Looking for creates in doubt: one listing for all, then a verdict for each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._errors import FinetuningError
from finetuning_async._submission import (
    PAGE_SIZE,
    ListedRow,
    echoes_seeds,
    listed_row,
    possible_matches,
    read_list,
)
from finetuning_async.batch._credit_check import Balance, Reading
from finetuning_async.batch._matching import (
    AbsenceEvidence,
    Doubt,
    match,
    near,
    verdict,
)
from finetuning_async.journal import is_fatal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._api import Generation, Page
    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._options import Options
    from finetuning_async.journal import Item, Journal, State

logger = logging.getLogger("finetuning_async")

PAGES: Final = 300
"""Pages read at most; the list of a busy year fits in."""

BALANCE: Final = "balance"
SEEDS: Final = "seeds"
ACCEPTED: Final[tuple[State, ...]] = ("accepted", "completed", "downloaded", "failed")


@attrs.frozen
class Look:
    """A look at the list.

    Attributes:
        seen: Its rows.
        failed: The ids that it shows as failed.
        is_whole: Whether the list was read to its end, and no row passed over.
    """

    seen: list[ListedRow]
    failed: frozenset[str]
    is_whole: bool


class Reconciler:
    """Finds lost tracks, and says when one is absent.

    Args:
        client: Who lists.
        journal: Keeps what was learned of the balance.
        options: What was told.

    Attributes:
        tracks: The tracks that belong to items, and the seeds that they should show.
        sent: When the create of each of them left, as far as known, in seconds since
            1970 by the clock that dates the doubts.
        on_wire: Creates that may be accepted at this moment.
        moves: How often a create left or came back.
        time_is_local: Whether the service tells no time, so that creates are dated by
            this machine's wall clock.
    """

    def __init__(self, client: AsyncClient, journal: Journal, options: Options) -> None:
        self._client = client
        self._journal = journal
        self._settle = options.settle
        self._needs_credits = options.on_unknown == "hold"
        self._seeds_are_echoed = True
        self._balance = Balance()
        self._near: dict[int, tuple[str, ...]] = {}
        self.tracks: dict[str, int | None] = {}
        self.sent: dict[str, float] = {}
        self.on_wire = 0
        self.moves = 0
        self.time_is_local = False

    async def begin(self) -> None:
        """Read what earlier runs have left."""
        store = self._journal.store
        self.tracks = await self._journal.call(store.tracks)
        self.sent = await self._journal.call(self._read_sent)
        self._balance = Balance.from_json(
            await self._journal.call(store.read_note, BALANCE)
        )
        self._seeds_are_echoed = not await self._journal.call(store.read_note, SEEDS)

    def _read_sent(self) -> dict[str, float]:
        rows = self._journal.store.rows(*ACCEPTED)
        return {
            item.entry.track_id: item.entry.sent_at
            for item in rows
            if item.entry.track_id is not None and item.entry.sent_at is not None
        }

    def owns(self, item: Item, track_id: str) -> None:
        """Note that a track belongs to an item, and how its create left."""
        self.tracks[track_id] = item.entry.seed
        if item.entry.sent_at is not None:
            self.sent[track_id] = item.entry.sent_at

    async def accepted(self, item: Item, track: Generation) -> None:
        """Learn from an accepted create whether seeds are echoed."""
        self.owns(item, track.id)
        seed = item.entry.seed
        if track.parameters.seed not in (None, seed) and self._seeds_are_echoed:
            self._seeds_are_echoed = False
            await self._journal.call(
                self._journal.store.write_note, SEEDS, "not echoed"
            )

    async def look(self, since: float, *, whole: bool = False) -> Look | None:
        """Look at the list; `None` if it could not be read.

        Args:
            since: In seconds since 1970. Pages that are well past it, by their order
                and dates, may be left out.
            whole: Whether to read all, and to see to it that nothing is passed over.

        Raises:
            AuthenticationError: The list may not be read.
            PermissionDeniedError: Likewise.
        """
        listing = await read_list(
            self._page,
            max_pages=PAGES,
            verify_end=whole,
            since=None if whole else since,
        )
        if listing is None:
            return None
        failed = frozenset(r.id for r in listing.rows if r.status == "failed")
        return Look([listed_row(row) for row in listing.rows], failed, listing.is_whole)

    async def _page(self, offset: int) -> Page[Generation] | None:
        try:
            return await self._client.generations.list(limit=PAGE_SIZE, offset=offset)
        except FinetuningError as error:
            if is_fatal(error):
                raise
            logger.debug("creates in doubt are looked up later: %s", error)
            return None

    def match(self, items: Iterable[Item], look: Look) -> dict[int, str]:
        """The ids of tracks that are certain, by the `seq` of their items."""
        if not self._seeds_are_echoed:
            return {}
        doubts = [doubt_of(item) for item in items]
        if self.time_is_local:
            # A seed that the caller chose may have been used before, who knows when.
            doubts = [attrs.evolve(doubt, slack=None) for doubt in doubts]
        found = match(doubts, look.seen, self.tracks)
        taken = {*self.tracks, *found.values()}
        self._near = {
            doubt.seq: near(doubt, look.seen, taken)
            for doubt in doubts
            if doubt.seq not in found
        }
        return found

    async def reading(self) -> Reading | None:
        """The balance, if no create came or went meanwhile."""
        moves = self.moves
        if self.on_wire:
            return None
        try:
            account = await self._client.me()
        except FinetuningError as error:
            if is_fatal(error):
                raise
            logger.debug("the balance is read later: %s", error)
            return None
        if self.on_wire or moves != self.moves or account.total_remaining is None:
            return None
        summary = self._journal.summary
        return Reading(
            credits=account.total_remaining,
            accepts=summary.accepts,
            fails=summary.fails,
        )

    async def rebase(self, reading: Reading) -> None:
        """Take a reading at which nothing in doubt was charged."""
        self._balance = self._balance.read(reading)
        await self._journal.call(
            self._journal.store.write_note, BALANCE, self._balance.to_json()
        )

    async def credits_clear(
        self, reading: Reading | None, look: Look, running: frozenset[str]
    ) -> bool | None:
        """Whether the balance shows no charge for anything in doubt.

        If so, it is the base of what comes: none of the doubts was charged before it.

        Args:
            reading: The balance.
            look: Made after it.
            running: Ids of ours that are not known to have ended.

        Returns:
            `None` if that cannot be said now.
        """
        if reading is None or not self.is_current(reading, look, running):
            return None
        is_clear = self._balance.is_clear(reading, self._journal.summary.in_doubt)
        if is_clear:
            await self.rebase(reading)
        return is_clear

    def is_current(
        self, reading: Reading, look: Look | None, running: frozenset[str]
    ) -> bool:
        """Whether a reading counts every track that was accepted or failed before it.

        A refund for a failure that is not counted could hide a charge.
        """
        summary = self._journal.summary
        if (reading.accepts, reading.fails) != (summary.accepts, summary.fails):
            return False
        return not running if look is None else not running & look.failed

    def judge(
        self,
        item: Item,
        look: Look,
        *,
        now: float,
        credits_clear: bool | None,
        more_to_come: bool,
        presume_whole: bool = False,
    ) -> str:
        """``wait``, ``absent``, or why an item that is not listed must be held.

        Args:
            item: In doubt; not found in `look`, nor in another since `match`.
            look: The list.
            now: By the service's clock.
            credits_clear: As the method of this name says.
            more_to_come: Whether further creates will leave, or tracks will end.
            presume_whole: Whether to say what the word would be if the list was read as
                a whole.
        """
        lost_at = item.entry.lost_at or now
        return verdict(
            AbsenceEvidence(
                age=now - lost_at,
                settle=self._settle,
                candidates=self._candidates(item, look),
                is_whole=presume_whole
                or (look.is_whole and self._goes_back(item, look)),
                later_is_listed=any(self._is_later(row, lost_at) for row in look.seen),
                seeds_are_echoed=self._seeds_are_echoed
                and echoes_seeds(look.seen, self.tracks.get),
                credits_clear=credits_clear,
                needs_credits=self._needs_credits,
                more_to_come=more_to_come,
            )
        )

    def _is_later(self, row: ListedRow, moment: float) -> bool:
        """Whether a row is a track of ours, with its seed, sent after a moment."""
        seed = self.tracks.get(row.id)
        return row.seed == seed is not None and self.sent.get(row.id, 0.0) > moment

    def _goes_back(self, item: Item, look: Look) -> bool:
        """Whether the list shows a track of ours that is older, if there is one."""
        first = item.entry.sent_at or 0.0
        older = {track_id for track_id, sent in self.sent.items() if sent < first}
        return not older or any(row.id in older for row in look.seen)

    def _candidates(self, item: Item, look: Look) -> tuple[str, ...]:
        """Tracks of nobody's in a list beside which an item is not absent."""
        strange = [row for row in look.seen if row.id not in self.tracks]
        return self._near.get(item.seq, ()) or possible_matches(
            doubt_of(item).sought, strange
        )


def doubt_of(item: Item) -> Doubt:
    """An item as what to look for."""
    entry, request = item.entry, item.request
    return Doubt(
        seq=item.seq,
        kind=item.kind,
        prompt=request.prompt,
        body=item.body,
        seed=entry.seed or 0,
        is_ours=request.seed is None,
        sent_at=entry.sent_at or 0.0,
        lost_at=entry.lost_at or 0.0,
    )
