"""`SharedReconciler`: resolves the doubts of a journal that many workers share.

`Reconciler`, `_matching` and `_credit_check` decide, as for a batch with one runner.
But here another worker may send, receive and record at any moment. So the journal is
read after the listing: a create whose track is listed was recorded as an intent before
it left. By then it is in the journal as accepted, in doubt or still an intent, and its
track is given to no other item.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._session import session_of
from finetuning_async.batch._create import lookalike_key
from finetuning_async.batch._reconciler import Reconciler, earliest
from finetuning_async.journal import Absent, Found, Held, StaleItemError

if TYPE_CHECKING:
    from finetuning_async._api import Generation
    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._credit_check import CreditReading
    from finetuning_async.batch._options import Options
    from finetuning_async.batch._reconciler import Listing
    from finetuning_async.journal import Event, Item, Journal, Summary

logger = logging.getLogger("finetuning_async")

BASELINE_EVERY: Final = 300.0
"""Seconds between readings of the credits while nothing is in doubt."""

MAX_HELD_AGE: Final = 86_400.0
"""Seconds after which a held create is no longer looked for; lists grow long."""

LAST_RUN: Final = "looked"
"""The note that says when a worker last began to reconcile."""

SAMPLE: Final = 100
"""Planned items that are searched for one that may be sent now."""


class SharedReconciler:
    """Resolves the doubts of a shared journal.

    Args:
        client: Lists tracks, and reads the credits.
        journal: Shared with other workers.
        options: Options of the batch.
    """

    def __init__(self, client: AsyncClient, journal: Journal, options: Options) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        self._baseline_at: float | None = None
        self._advancing = anyio.Lock()

    async def now(self) -> float:
        """The service's time in seconds since 1970; the store's if not known.

        Raises:
            FinetuningError: There was no response yet, and none could be had.
        """
        account = session_of(self._client).account
        if account.service_time() is None:
            await self._client.me()
        moment = account.service_time()
        if moment is None:
            return await self._journal.call(self._journal.store.now)
        return moment

    async def advance_baseline(self) -> None:
        """Read the credits as a new baseline now and then, if nothing is in doubt.

        Of many items that start at once, one does it and the others wait: a create in
        flight would spoil the first reading, and with it all proofs of absence.
        """
        async with self._advancing:
            last, now = self._baseline_at, anyio.current_time()
            if last is None or now - last >= BASELINE_EVERY:
                self._baseline_at = now
                await self._advance_baseline()

    async def _advance_baseline(self) -> None:
        reconciler = await self._reconciler()
        states = self._journal.summary.states
        if states["unknown"]:
            return
        reading = await self._read_credits(reconciler)
        if reading is None or self._journal.summary.states["unknown"]:
            return
        running = await self._running()
        listing = await reconciler.list_tracks(earliest(running)) if running else None
        await reconciler.load()
        await self._journal.refresh_counts()
        if reconciler.is_current(reading, listing, _ids(running)):
            await reconciler.advance_baseline(reading, await self.now())

    async def _reconciler(self) -> Reconciler:
        """A reconciler that counts the creates in flight of all workers."""
        await self._journal.refresh_counts()
        reconciler = Reconciler(self._client, self._journal, self._options)
        reconciler.in_flight = self._journal.summary.states["sending"]
        return reconciler

    async def _read_credits(self, reconciler: Reconciler) -> CreditReading | None:
        """Read the credits, if no worker's create began or ended meanwhile."""
        before = _version(self._journal.summary)
        reading = await reconciler.read_credits()
        await self._journal.refresh_counts()
        return reading if _version(self._journal.summary) == before else None

    async def _running(self) -> list[Item]:
        """Items whose track is not known to have ended."""
        store = self._journal.store
        return await self._journal.call(lambda: list(store.rows("accepted")))

    async def reconcile(self) -> None:
        """Look for all that is in doubt, unless a worker has done so just now.

        Raises:
            FinetuningError: The list may not be read, or the journal not be written.
        """
        store, now = self._journal.store, await self.now()
        # A note and no lock: two workers that come at once both look, which costs a
        # read and does no harm. A lock would stay behind with a worker that died.
        last = await self._journal.call(store.read_note, LAST_RUN)
        if last is not None and 0 <= now - float(last) < self._options.look_every:
            return
        await self._journal.call(store.write_note, LAST_RUN, repr(now))
        await self._reconcile()

    async def _reconcile(self) -> None:
        doubts = await self._doubts()
        if not doubts:
            return
        reconciler, now = await self._reconciler(), await self.now()
        moment = session_of(self._client).account.service_time()
        reconciler.time_is_local = moment is None
        reading = await self._read_credits(reconciler)
        verdicts: dict[int, str] = {}
        # As in `ReconcileLoop`: a short listing first, and nothing is decided before
        # all pages were read.
        for complete in (False, True):
            listing = await reconciler.list_tracks(earliest(doubts), complete=complete)
            if listing is None:
                return
            doubts = await self._record_found(reconciler, listing)
            no_charge = await self._rules_out_charge(reconciler, reading, listing)
            more_to_come = await self._more_to_come(doubts)
            verdicts = {
                item.seq: reconciler.judge(
                    item,
                    listing,
                    now=now,
                    no_charge=no_charge,
                    more_to_come=more_to_come,
                    presume_complete=not complete,
                )
                for item in doubts
                if item.entry.state == "unknown"
            }
            if set(verdicts.values()) <= {"wait"}:
                return
        for item in doubts:
            await self._apply(verdicts.get(item.seq, "wait"), item)

    async def _rules_out_charge(
        self, reconciler: Reconciler, reading: CreditReading | None, listing: Listing
    ) -> bool | None:
        running = _ids(await self._running())
        await self._journal.refresh_counts()
        return await reconciler.rules_out_charge(
            reading, listing, running, await self.now()
        )

    async def _doubts(self) -> list[Item]:
        """Items in doubt whose track may still be found."""
        now, store = await self.now(), self._journal.store
        items = await self._journal.call(lambda: list(store.rows("unknown", "held")))
        return [
            item
            for item in items
            if item.entry.state == "unknown"
            or now - (item.entry.lost_at or 0.0) < MAX_HELD_AGE
        ]

    async def _record_found(
        self, reconciler: Reconciler, listing: Listing
    ) -> list[Item]:
        """Give listed tracks to their items; returns the items still in doubt."""
        store = self._journal.store
        # Read after the listing, all three: see the top of this file.
        doubts = await self._doubts()
        rivals = await self._journal.call(lambda: list(store.rows("sending")))
        await reconciler.load()
        ids = reconciler.match([*doubts, *rivals], listing)
        for item in doubts:
            if item.seq in ids and await self._record(item, Found(ids[item.seq])):
                logger.warning(
                    "%s: its create was accepted as %s, though the response was lost",
                    item.name,
                    ids[item.seq],
                )
        return [item for item in doubts if item.seq not in ids]

    async def _more_to_come(self, doubts: list[Item]) -> bool:
        """Whether further creates are in flight or will be sent, or tracks will end."""
        states = self._journal.summary.states
        if states["sending"] or states["accepted"]:
            return True
        store = self._journal.store
        planned = await self._journal.call(store.claim, 0, SAMPLE)
        blocked = {lookalike_key(item) for item in doubts} - {None}
        return any(lookalike_key(item) not in blocked for item in planned)

    async def _apply(self, verdict: str, item: Item) -> None:
        if verdict == "absent":
            if await self._record(item, Absent()):
                logger.warning("%s was not accepted; it is sent again", item.name)
        elif verdict != "wait" and await self._record(item, Held(verdict)):
            logger.warning("%s is held: %s", item.name, verdict)

    async def _record(self, item: Item, event: Event) -> bool:
        """Commit an event; `False` if another worker was faster."""
        try:
            await self._journal.record(item, event)
        except StaleItemError:
            return False
        return True

    async def on_accepted(self, item: Item, track: Generation) -> None:
        """Note whether an accepted create echoes its seed; see `Reconciler`."""
        reconciler = Reconciler(self._client, self._journal, self._options)
        await reconciler.on_accepted(item, track)

    async def lookalike_is_in_doubt(self, item: Item) -> bool:
        """Whether a lookalike of an item is in flight or in doubt."""
        mine = lookalike_key(item)
        if mine is None:
            return False
        store = self._journal.store
        others = await self._journal.call(
            lambda: list(store.rows("sending", "unknown"))
        )
        return any(lookalike_key(o) == mine and o.seq != item.seq for o in others)


def _ids(items: list[Item]) -> frozenset[str]:
    return frozenset(str(item.entry.track_id) for item in items)


def _version(summary: Summary) -> tuple[int, ...]:
    """Numbers that change whenever a create begins or ends that may cost a credit."""
    return summary.accepts, summary.fails, summary.in_doubt, summary.states["sending"]
