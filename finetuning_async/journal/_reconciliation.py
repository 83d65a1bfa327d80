"""`Reconciliation`: resolves the creates of a journal that are in doubt.

`Reconciler`, `_matching` and `_credit_check` decide. Other workers may send, receive
and record at any moment, so the journal is read after the listing: a create whose track
is listed was committed as `sending` before it left. By then it is in the journal as
accepted, in doubt or still `sending`, and its track is given to no other item.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import anyio

from finetuning_async.journal._create import end_of, lookalike_key
from finetuning_async.journal._errors import StaleItemError
from finetuning_async.journal._reconciler import Reconciler, earliest
from finetuning_async.journal._service import read_account
from finetuning_async.journal._state_machine import (
    Absent,
    Found,
    Held,
    Restarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finetuning_async.journal._credit_check import Observation
    from finetuning_async.journal._journal import Journal
    from finetuning_async.journal._reconciler import Listing
    from finetuning_async.journal._records import Item
    from finetuning_async.journal._service import EngineOptions, Service
    from finetuning_async.journal._state_machine import Event

logger = logging.getLogger("finetuning_async")

BASELINE_EVERY: Final = 1.0
"""Times `settle` between readings of the credits while nothing is in doubt: 300 s, or
less with an emulator whose time runs faster."""

FAILURE_AFTER: Final = 1 / 15
"""The same once a track has failed since the last one: 20 s."""

MAX_HELD_AGE: Final = 86_400.0
"""Seconds after which a held create is no longer looked for; lists grow long."""

LAST_LOOK: Final = "looked"
"""The note that says when a worker last began to look."""

STUCK_AFTER: Final = 6.0
"""Times `settle` after which an accepted track that has not ended counts as stuck, so
that nothing waits for it: half an hour, where a track takes 20 to 120 s."""

SAMPLE: Final = 100
"""Planned items that are searched for one that may be sent now."""


class Reconciliation:
    """Resolves the doubts of a journal, which other processes may share.

    Args:
        service: Lists tracks, and reads the credits.
        journal: The items.
        options: Options of the engine.
        facts_of: Makes the facts that a client's journal keeps of a track. There the
            end of one that a listing shows may be recorded, and only a lease says that
            an entry is tended; `None` where each item has a program that tends it.

    Attributes:
        on_found: Called with each item whose track a look has found.
    """

    def __init__(
        self,
        service: Service,
        journal: Journal,
        options: EngineOptions,
        facts_of: Callable[[Any], str] | None = None,
    ) -> None:
        self._service = service
        self._journal = journal
        self._options = options
        self._facts_of = facts_of
        self._reconciler = Reconciler(service, journal, options)
        self.on_found: Callable[[Item], None] = lambda _: None
        self._baseline_at: float | None = None
        self._has_asked = False
        self._advancing = anyio.Lock()
        # One look at a time: what has just been looked for need not be at once again.
        self._looking = anyio.Lock()

    async def now(self) -> float:
        """The service's time in seconds since 1970; the store's if not known.

        Raises:
            FinetuningError: There was no response yet, and none could be had.
        """
        moment = self._service.account.service_time()
        if moment is not None:
            return moment
        if not self._has_asked:
            self._has_asked = True  # a gateway may remove the dates of all responses
            await read_account(self._service)
        return await self.known_now()

    async def known_now(self) -> float:
        """The same without a request."""
        moment = self._service.account.service_time()
        if moment is None:
            return await self._journal.call(self._journal.store.now)
        return moment

    async def advance_baseline(self, *, at_once: bool = False) -> None:
        """Read the credits as a new baseline now and then, if nothing is in doubt.

        Later readings are compared with it. The closer it is to a doubt, the less can
        have happened in between that makes the comparison ambiguous.

        Of many items that start at once, one does it and the others wait: a create in
        flight would spoil the first reading, and with it all proofs of absence.
        """
        async with self._advancing:
            last, now = self._baseline_at, anyio.current_time()
            if at_once or last is None or self.is_baseline_due(now - last):
                self._baseline_at = now
                await self._advance_baseline()

    def is_baseline_due(self, age: float) -> bool:
        """Whether to read the credits again, so many seconds after they were read.

        Soon after a track has failed: what a failure costs shows while nothing is in
        doubt, and later a refund could hide a charge.
        """
        is_behind = self._reconciler.is_behind_failures
        share = FAILURE_AFTER if is_behind else BASELINE_EVERY
        return age >= share * self._options.settle

    async def _advance_baseline(self) -> None:
        reconciler = self._reconciler
        for _ in range(2):  # a reading is outdated by the ends that its listing shows
            if (await self._journal.refresh_counts()).states["unknown"]:
                return
            seen = await reconciler.read_credits(self.now)
            if seen is None or self._journal.summary.states["unknown"]:
                return
            listing = await self._list_running()
            await reconciler.load_notes()
            if await reconciler.observe(seen, listing):
                return

    async def _list_running(self) -> Listing | None:
        """A listing that goes back to what is not known to have ended, if that is."""
        running = await self._reconciler.running()
        if not running:
            return None
        listing = await self._reconciler.list_tracks(earliest(running))
        if listing is not None:
            await self._record_ended(listing)
        return listing

    async def reconcile(self, *items: Item, at_once: bool = False) -> bool:
        """Look for all that is in doubt, unless that was done since an item was lost.

        Args:
            items: Those to look for; held ones are looked for far back only if they are
                among them.
            at_once: Whether to look even if another call has just done so.

        Returns:
            Whether the list could be read, if it was needed.

        Raises:
            FinetuningError: The list may not be read, or the journal not be written.
        """
        store = self._journal.store
        async with self._looking:
            now = await self.now()
            # A note and no lock: two workers that come at once both look, which costs a
            # read and does no harm. A lock would stay behind with a worker that died.
            last = await self._journal.call(store.read_note, LAST_LOOK)
            if not at_once and last is not None:
                lost = max((i.entry.lost_at or 0.0 for i in items), default=0.0)
                age = now - float(last)
                # The service's time jumps by up to a second: so a little less.
                if float(last) > lost and 0 <= age < 0.9 * self._options.look_every:
                    return True
            await self._journal.call(store.write_note, LAST_LOOK, repr(now))
            return await self._look(items, now)

    async def _look(self, items: Iterable[Item], now: float) -> bool:
        await self._restart_abandoned(now)
        doubts = await self._doubts(now)
        sought = {i.seq: i for i in doubts if i.entry.state == "unknown"}
        sought |= {item.seq: item for item in items}
        if not doubts or not sought:
            return True
        reconciler = self._reconciler
        reconciler.time_is_local = self._service.account.service_time() is None
        # The credits are read before the listing, so that a track which had failed by
        # then shows as failed in it: `is_current` needs that.
        seen = await reconciler.read_credits(self.now)
        verdicts: dict[int, str] = {}
        # A short listing finds most lost tracks. All pages are read only if one of the
        # doubts would be decided by that, and nothing is decided before.
        for complete in (False, True):
            since = earliest(sought.values())
            listing = await reconciler.list_tracks(since, complete=complete)
            if listing is None:
                return False
            doubts = await self._record_found(listing, now)
            await self._record_ended(listing)
            judged = [item for item in doubts if item.seq in sought]
            verdicts = await self._judge(
                judged,
                listing,
                seen,
                now=now,
                presume_complete=not complete,
            )
            if set(verdicts.values()) <= {"wait"}:
                return True
        for item in doubts:
            await self._apply(verdicts.get(item.seq, "wait"), item)
        return True

    async def _judge(
        self,
        doubts: list[Item],
        listing: Listing,
        seen: Observation | None,
        *,
        now: float,
        presume_complete: bool,
    ) -> dict[int, str]:
        await self._reconciler.observe(seen, listing)
        more_to_come = await self._more_to_come(doubts)
        verdicts = {
            item.seq: self._reconciler.judge(
                item,
                listing,
                now=now,
                more_to_come=more_to_come,
                presume_complete=presume_complete,
            )
            for item in doubts
        }
        # A held one stays held, unless the proof that was missing is there now.
        held = [item.seq for item in doubts if item.entry.state == "held"]
        unproved = [seq for seq in held if verdicts[seq] != "absent"]
        return verdicts | dict.fromkeys(unproved, "wait")

    async def _doubts(self, now: float) -> list[Item]:
        """Items in doubt whose track may still be found; effects have no seed."""
        store = self._journal.store
        items = await self._journal.call(lambda: list(store.rows("unknown", "held")))
        return [
            item
            for item in items
            if item.entry.seed is not None
            and (
                item.entry.state == "unknown"
                or now - (item.entry.lost_at or 0.0) < MAX_HELD_AGE
            )
        ]

    async def _record_found(self, listing: Listing, now: float) -> list[Item]:
        """Give listed tracks to their items; returns the items still in doubt."""
        store = self._journal.store
        # Read after the listing, all three: see the top of this file. Creates in flight
        # take part, though their own response will come: a track that is theirs must
        # not be given to a doubt of equal content.
        doubts = await self._doubts(now)
        sending = await self._journal.call(lambda: list(store.rows("sending")))
        rivals = [item for item in sending if item.entry.seed is not None]
        await self._reconciler.load()
        ids = self._reconciler.match([*doubts, *rivals], listing)
        for item in doubts:
            track_id = ids.get(item.seq)
            found = track_id and await self._record(item, Found(track_id))
            if found:
                logger.warning(
                    "%s: its create was accepted as %s, though the response was lost",
                    item.name,
                    track_id,
                )
                self.on_found(found)
        return [item for item in doubts if item.seq not in ids]

    async def _restart_abandoned(self, now: float) -> None:
        """Take for lost what a process was sending that has died.

        Perhaps no one asks for that entry again. While it counted as in flight, no
        reading of the credits would prove anything for the others.
        """
        store = self._journal.store
        for item in await self._journal.call(lambda: list(store.rows("sending"))):
            if item.entry.holder is not None and not await self._is_tended(item):
                await self._record(item, Restarted(now))

    async def _is_tended(self, item: Item) -> bool:
        """Whether a process will send an item, as far as the journal knows."""
        holder = item.entry.holder
        if holder is None:
            # In a client's journal a call has to ask for it; elsewhere a lock or a job
            # queue sees to it.
            return self._facts_of is None
        return await self._journal.call(self._journal.store.is_alive, holder)

    async def _record_ended(self, listing: Listing) -> None:
        """Record the ends that a listing shows, if no program need wait for them.

        A caller that only creates leaves its tracks accepted. One that has failed would
        stand in the way of every comparison of the credits.
        """
        facts_of = self._facts_of
        if facts_of is None:
            return
        for item in await self._reconciler.running():
            track = listing.ended.get(str(item.entry.track_id))
            if track is not None:
                await self._record(item, end_of(track, facts_of(track)))

    async def _more_to_come(self, doubts: list[Item]) -> bool:
        """Whether further creates are in flight or will be sent, or tracks will end."""
        states = (await self._journal.refresh_counts()).states
        if states["sending"] or await self._is_any_running():
            return True
        store = self._journal.store
        planned = await self._journal.call(store.claim, 0, SAMPLE)
        blocked = {lookalike_key(item) for item in doubts} - {None}
        free = [item for item in planned if lookalike_key(item) not in blocked]
        for item in free:
            if await self._is_tended(item):
                return True
        return False

    async def _is_any_running(self) -> bool:
        """Whether an accepted track will still end; a deleted one never does."""
        since = await self.now() - STUCK_AFTER * self._options.settle
        running = await self._reconciler.running()
        return any((item.entry.sent_at or 0.0) > since for item in running)

    async def _apply(self, verdict: str, item: Item) -> None:
        if verdict == "absent":
            if await self._record(item, Absent()):
                logger.warning("%s was not accepted; it is sent again", item.name)
        elif verdict != "wait" and await self._record(item, Held(verdict)):
            logger.warning("%s is held: %s", item.name, verdict)

    async def _record(self, item: Item, event: Event) -> Item | None:
        """Commit an event; `None` if another worker was faster."""
        try:
            return (await self._journal.record(item, event))[0]
        except StaleItemError:
            return None

    async def on_accepted(self, item: Item, track: object) -> None:
        """Note whether an accepted create echoes its seed; see `Reconciler`."""
        await self._reconciler.on_accepted(item, track)

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
