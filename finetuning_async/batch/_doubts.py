"""Looking for creates in doubt: one listing for all, then a verdict for each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._errors import (
    AuthenticationError,
    FinetuningError,
    PermissionDeniedError,
)
from finetuning_async.batch._balance import Balance, Reading
from finetuning_async.batch._reconcile import (
    LOCAL_SLACK,
    Doubt,
    Evidence,
    Seen,
    match,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._client import AsyncClient
    from finetuning_async._models import Generation, Page
    from finetuning_async.batch._ledger import Journal
    from finetuning_async.batch._records import Item

logger = logging.getLogger("finetuning_async")

WELL_BEFORE: Final = 60.0
"""Seconds by which a page must go back behind the oldest doubt to be the last read."""

PAGE_SIZE: Final = 99
BALANCE: Final = "balance"
SEEDS: Final = "seeds"


@attrs.frozen
class Look:
    """A complete listing, newest first.

    Attributes:
        seen: Its rows.
        failed: The ids that it shows as failed.
    """

    seen: list[Seen]
    failed: frozenset[str]


class Detective:
    """Finds lost tracks, and says when one is absent.

    Args:
        client: Who lists.
        journal: Keeps what was learned of the balance.
        settle: See `Options`.

    Attributes:
        tracks: The tracks that belong to items, and the seeds that they should show.
        on_wire: Creates that may be accepted at this moment.
        moves: How often a create left or came back.
        time_is_local: Whether the service tells no time, so that creates are dated by
            this machine's wall clock.
    """

    def __init__(self, client: AsyncClient, journal: Journal, settle: float) -> None:
        self._client = client
        self._journal = journal
        self._settle = settle
        self._seeds_are_echoed = True
        self._balance = Balance()
        self.tracks: dict[str, int | None] = {}
        self.on_wire = 0
        self.moves = 0
        self.time_is_local = False

    async def begin(self) -> None:
        """Read what earlier runs have left."""
        store = self._journal.store
        self.tracks = await self._journal.call(store.tracks)
        self._balance = Balance.from_json(
            await self._journal.call(store.read_note, BALANCE)
        )
        self._seeds_are_echoed = not await self._journal.call(store.read_note, SEEDS)

    async def accepted(self, item: Item, track: Generation) -> None:
        """Learn from an accepted create whether seeds are echoed."""
        seed = self.tracks[track.id] = item.entry.seed
        if track.parameters.seed not in (None, seed) and self._seeds_are_echoed:
            self._seeds_are_echoed = False
            await self._journal.call(
                self._journal.store.write_note, SEEDS, "not echoed"
            )

    async def look(self, since: float) -> Look | None:
        """List everything created since a moment; `None` if that did not succeed.

        Raises:
            AuthenticationError: The list may not be read.
            PermissionDeniedError: Likewise.
        """
        rows: dict[str, Generation] = {}
        try:
            page: Page[Generation] | None = await self._client.generations.list(
                limit=PAGE_SIZE
            )
            while page is not None:
                rows |= {row.id: row for row in page.items}
                page = None if _is_past(page, since) else await page.next_page()
        except (AuthenticationError, PermissionDeniedError):
            raise
        except FinetuningError as error:
            logger.debug("creates in doubt are looked up later: %s", error)
            return None
        failed = (row.id for row in rows.values() if row.status == "failed")
        return Look([_seen(row) for row in rows.values()], frozenset(failed))

    def match(self, items: Iterable[Item], look: Look) -> dict[int, str]:
        """The ids of tracks that are certain, by the `seq` of their items."""
        if not self._seeds_are_echoed:
            return {}
        doubts = [doubt_of(item) for item in items]
        if self.time_is_local:
            # A seed that the caller chose may have been used before, who knows when.
            doubts = [
                attrs.evolve(doubt, slack=LOCAL_SLACK)
                for doubt in doubts
                if doubt.is_ours
            ]
        return match(doubts, look.seen, self.tracks)

    async def reading(self) -> Reading | None:
        """The balance, if no create came or went meanwhile."""
        moves = self.moves
        if self.on_wire:
            return None
        try:
            account = await self._client.me()
        except (AuthenticationError, PermissionDeniedError):
            raise
        except FinetuningError as error:
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
    ) -> str:
        """``wait``, ``absent``, or why an item that is not listed must be held.

        Args:
            item: In doubt; not found in `look`.
            look: The list.
            now: By the service's clock.
            credits_clear: As the method of this name says.
            more_to_come: Whether further creates will leave, or tracks will end.
        """
        lost_at = item.entry.lost_at or now
        return verdict(
            Evidence(
                age=now - lost_at,
                settle=self._settle,
                later_is_listed=any(self._is_later(row, lost_at) for row in look.seen),
                seeds_are_echoed=self._seeds_are_echoed
                and self._list_shows_seeds(look),
                credits_clear=credits_clear,
                more_to_come=more_to_come,
            )
        )

    def _is_later(self, row: Seen, moment: float) -> bool:
        return (
            row.id in self.tracks
            and row.created_at is not None
            and row.created_at > moment
        )

    def _list_shows_seeds(self, look: Look) -> bool:
        expected = ((row.seed, self.tracks.get(row.id)) for row in look.seen)
        return all(sent is None or seed == sent for seed, sent in expected)


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


def _is_past(page: Page[Generation], since: float) -> bool:
    """Whether a page goes back well before a moment; later ones are older still."""
    dates = [row.created_at.timestamp() for row in page.items if row.created_at]
    return bool(dates) and min(dates) < since - WELL_BEFORE


def _seen(row: Generation) -> Seen:
    created = row.created_at
    return Seen(
        id=row.id,
        kind=row.kind,
        prompt=row.prompt,
        seed=row.parameters.seed,
        created_at=None if created is None else created.timestamp(),
    )
