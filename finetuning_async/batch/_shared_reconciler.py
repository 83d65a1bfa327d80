"""Doubts of a journal that many workers share, settled by whoever comes first.

`Reconciler` and `_reconcile` decide, as for a batch with one runner. But here another
worker may send, hear and record at any moment. So the journal is read after the list. A
create whose track stands in the list was recorded as on the wire before it left; so it
is there by now as accepted, in doubt or still on the wire, and nobody else is given its
track.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async.batch._client_access import service_time
from finetuning_async.batch._create_outcome import identity
from finetuning_async.batch._reconcile_loop import earliest
from finetuning_async.batch._reconciler import Reconciler
from finetuning_async.journal import Absent, Found, Held, StaleItemError

if TYPE_CHECKING:
    from finetuning_async._api import Generation
    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._credit_check import Reading
    from finetuning_async.batch._options import Options
    from finetuning_async.batch._reconciler import Look
    from finetuning_async.journal import Event, Item, Journal, Summary

logger = logging.getLogger("finetuning_async")

REBASE: Final = 300.0
"""Seconds between looks at the balance while nothing is in doubt."""

LATEST: Final = 86_400.0
"""Seconds after which a held create is not looked for again; lists grow long."""

LOOKED: Final = "looked"
"""The note that says when somebody last began to look."""

SAMPLE: Final = 100
"""Planned items among which one that may be sent soon is sought."""


class Settling:
    """Settles what is in doubt in a journal.

    Args:
        client: Who lists.
        journal: Shared with other workers.
        options: What was told.
    """

    def __init__(self, client: AsyncClient, journal: Journal, options: Options) -> None:
        self._client = client
        self._journal = journal
        self._options = options
        self._rebased_at: float | None = None
        self._rebasing = anyio.Lock()

    async def now(self) -> float:
        """The service's time in seconds since 1970; else the store's.

        Raises:
            FinetuningError: The service was never heard, and could not be asked.
        """
        if service_time(self._client) is None:
            await self._client.me()
        moment = service_time(self._client)
        if moment is None:
            return await self._journal.call(self._journal.store.now)
        return moment

    async def rebase(self) -> None:
        """Take the balance as a base now and then, if nothing is in doubt.

        Of many who come at once one looks, and the others wait for it: a create on the
        wire would spoil the first look, and with it all proofs of absence.
        """
        async with self._rebasing:
            last, now = self._rebased_at, anyio.current_time()
            if last is None or now - last >= REBASE:
                self._rebased_at = now
                await self._rebase()

    async def _rebase(self) -> None:
        detective = await self._detective()
        states = self._journal.summary.states
        if states["unknown"]:
            return
        reading = await self._reading(detective)
        if reading is None or self._journal.summary.states["unknown"]:
            return
        running = await self._running()
        look = await detective.look(earliest(running)) if running else None
        await detective.begin()
        await self._journal.count()
        if detective.is_current(reading, look, _ids(running)):
            await detective.rebase(reading)

    async def _detective(self) -> Reconciler:
        """One who knows how many creates are on the wire, whoever sent them."""
        await self._journal.count()
        detective = Reconciler(self._client, self._journal, self._options)
        detective.on_wire = self._journal.summary.states["intent"]
        return detective

    async def _reading(self, detective: Reconciler) -> Reading | None:
        """The balance, if no create of any worker came or went meanwhile."""
        before = _moves(self._journal.summary)
        reading = await detective.reading()
        await self._journal.count()
        return reading if _moves(self._journal.summary) == before else None

    async def _running(self) -> list[Item]:
        """Items whose track is not known to have ended."""
        store = self._journal.store
        return await self._journal.call(lambda: list(store.rows("accepted")))

    async def look(self) -> None:
        """Look for all that is in doubt, unless somebody did so just now.

        Raises:
            FinetuningError: The list may not be read, or the journal not be written.
        """
        store, now = self._journal.store, await self.now()
        looked = await self._journal.call(store.read_note, LOOKED)
        if looked is not None and 0 <= now - float(looked) < self._options.look_every:
            return
        await self._journal.call(store.write_note, LOOKED, repr(now))
        await self._look()

    async def _look(self) -> None:
        doubts = await self._doubts()
        if not doubts:
            return
        detective, now = await self._detective(), await self.now()
        detective.time_is_local = service_time(self._client) is None
        is_old = any(self._is_old(item, now) for item in doubts)
        reading = await self._reading(detective) if is_old else None
        words: dict[int, str] = {}
        for whole in (False, True):  # no sentence before all pages were read
            look = await detective.look(earliest(doubts), whole=whole)
            if look is None:
                return
            doubts = await self._adopt(detective, look)
            clear = await self._credits_clear(detective, reading, look)
            more = await self._more_to_come(doubts)
            words = {
                item.seq: detective.judge(
                    item,
                    look,
                    now=now,
                    credits_clear=clear,
                    more_to_come=more,
                    presume_whole=not whole,
                )
                for item in doubts
                if item.entry.state == "unknown"
            }
            if set(words.values()) <= {"wait"}:
                return
        for item in doubts:
            await self._sentence(item, words.get(item.seq, "wait"))

    async def _credits_clear(
        self, detective: Reconciler, reading: Reading | None, look: Look
    ) -> bool | None:
        running = _ids(await self._running())
        await self._journal.count()
        return await detective.credits_clear(reading, look, running)

    async def _doubts(self) -> list[Item]:
        """What is in doubt and may still be found."""
        now, store = await self.now(), self._journal.store
        items = await self._journal.call(lambda: list(store.rows("unknown", "held")))
        return [
            item
            for item in items
            if item.entry.state == "unknown"
            or now - (item.entry.lost_at or 0.0) < LATEST
        ]

    def _is_old(self, item: Item, now: float) -> bool:
        return now - (item.entry.lost_at or 0.0) >= self._options.settle

    async def _adopt(self, detective: Reconciler, look: Look) -> list[Item]:
        """Give tracks to whom they belong; returns who is still in doubt."""
        store = self._journal.store
        doubts = await self._doubts()
        rivals = await self._journal.call(lambda: list(store.rows("intent")))
        await detective.begin()
        ids = detective.match([*doubts, *rivals], look)
        for item in doubts:
            if item.seq in ids and await self._record(item, Found(ids[item.seq])):
                logger.warning(
                    "%s: found %s, whose answer was lost", item.name, ids[item.seq]
                )
        return [item for item in doubts if item.seq not in ids]

    async def _more_to_come(self, doubts: list[Item]) -> bool:
        """Whether further creates will leave, or are under way."""
        states = self._journal.summary.states
        if states["intent"] or states["accepted"]:
            return True
        store = self._journal.store
        planned = await self._journal.call(store.claim, 0, SAMPLE)
        twins = {identity(item) for item in doubts} - {None}
        return any(identity(item) not in twins for item in planned)

    async def _sentence(self, item: Item, word: str) -> None:
        if word == "absent":
            if await self._record(item, Absent()):
                logger.warning("%s was not accepted; it is sent again", item.name)
        elif word != "wait" and await self._record(item, Held(word)):
            logger.warning("%s is held: %s", item.name, word)

    async def _record(self, item: Item, event: Event) -> bool:
        """Commit it, unless somebody else was faster."""
        try:
            await self._journal.record(item, event)
        except StaleItemError:
            return False
        return True

    async def accepted(self, item: Item, track: Generation) -> None:
        """Learn from an accepted create whether seeds are echoed; see `Reconciler`."""
        await Reconciler(self._client, self._journal, self._options).accepted(
            item, track
        )

    async def twin_is_in_doubt(self, item: Item) -> bool:
        """Whether the track of another item, not known yet, would look like its own."""
        mine = identity(item)
        if mine is None:
            return False
        store = self._journal.store
        others = await self._journal.call(lambda: list(store.rows("intent", "unknown")))
        return any(identity(o) == mine and o.seq != item.seq for o in others)


def _ids(items: list[Item]) -> frozenset[str]:
    return frozenset(str(item.entry.track_id) for item in items)


def _moves(summary: Summary) -> tuple[int, ...]:
    """What changes when a create that costs something comes or goes."""
    return summary.accepts, summary.fails, summary.in_doubt, summary.states["intent"]
