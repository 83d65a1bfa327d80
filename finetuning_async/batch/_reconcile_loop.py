"""`ReconcileLoop`: lists tracks while a create of the run is in doubt, and decides."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async.batch._reconciler import earliest
from finetuning_async.journal import Held

if TYPE_CHECKING:
    from finetuning_async.batch._completion import Completer
    from finetuning_async.batch._creator import Creator
    from finetuning_async.batch._credit_check import CreditReading
    from finetuning_async.batch._reconciler import Listing
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

BASELINE_EVERY: Final = 300.0
"""Seconds between readings of the credits while nothing is in doubt."""


class ReconcileLoop:
    """Resolves the doubts of one run.

    Args:
        context: What the parts of the run share.
        creator: Sends again what is proved absent.
        completer: Takes over what was found.
    """

    def __init__(
        self, context: RunContext, creator: Creator, completer: Completer
    ) -> None:
        self._context = context
        self._creator = creator
        self._completer = completer

    async def run(self) -> None:
        """Resolve doubts until there is none, and none can arise any more."""
        context = self._context
        while not self._is_over():
            if context.doubts:
                await self._reconcile()
            every = context.options.look_every if context.doubts else BASELINE_EVERY
            with anyio.move_on_after(every) as scope:
                await self._wait_for_doubt()
            if scope.cancelled_caught and not context.doubts:
                await self.advance_baseline()

    def _is_over(self) -> bool:
        context, creator = self._context, self._creator
        # A run that creates nothing more cannot bring the later create that a proof of
        # absence needs. Its doubts are left to the next run.
        if context.doubts:
            return context.paused is not None and not (
                creator.pending or context.running
            )
        return creator.is_over and not creator.pending

    async def _wait_for_doubt(self) -> None:
        """Wait until there is a new doubt, or nothing more to do."""
        known = set(self._context.doubts)
        while set(self._context.doubts) <= known and not self._is_over():
            await self._context.wait_for_change()

    async def advance_baseline(self) -> None:
        """Read the credits as a new baseline, if nothing is in doubt.

        Later readings are compared with it. The closer it is to a doubt, the less can
        have happened in between that makes the comparison ambiguous.
        """
        context = self._context
        states = context.journal.summary.states
        if states["sending"] or states["unknown"]:
            return
        if states["accepted"] and not context.running:
            return  # the run has not begun to wait for them yet
        reading = await context.reconciler.read_credits()
        listing = await self._list_tracks() if context.running else None
        if reading is not None and context.reconciler.is_current(
            reading, listing, self._running_ids()
        ):
            await context.reconciler.advance_baseline(reading, context.now)

    async def _list_tracks(self, *, complete: bool = False) -> Listing | None:
        context = self._context
        items = [*context.doubts.values(), *context.running.values()]
        return await context.reconciler.list_tracks(earliest(items), complete=complete)

    def _running_ids(self) -> frozenset[str]:
        """Ids of tracks that are not known to have ended."""
        items = self._context.running.values()
        return frozenset(
            str(item.entry.track_id) for item in items if item.entry.state == "accepted"
        )

    async def _reconcile(self) -> None:
        """List tracks once for all that is in doubt, and decide on each."""
        context = self._context
        # The credits are read before the listing, so that a track which had failed by
        # then shows as failed in it: `is_current` needs that.
        reading = await context.reconciler.read_credits()
        verdicts: dict[int, str] = {}
        # A short listing finds most lost tracks. All pages are read only if one of the
        # doubts would be decided by that, and nothing is decided before.
        for complete in (False, True):
            listing = await self._list_tracks(complete=complete)
            if listing is None:
                return
            await self._record_found(listing)
            verdicts = await self._judge(
                listing, reading, presume_complete=not complete
            )
            if set(verdicts.values()) <= {"wait"}:
                break
        for item in list(context.doubts.values()):
            await self._apply(verdicts.get(item.seq, "wait"), item)
        context.notify()

    async def _judge(
        self, listing: Listing, reading: CreditReading | None, *, presume_complete: bool
    ) -> dict[int, str]:
        context = self._context
        no_charge = await context.reconciler.rules_out_charge(
            reading, listing, self._running_ids(), context.now
        )
        return {
            item.seq: context.reconciler.judge(
                item,
                listing,
                now=context.now,
                no_charge=no_charge,
                presume_complete=presume_complete,
                more_to_come=self._more_to_come(),
            )
            for item in context.doubts.values()
        }

    async def _record_found(self, listing: Listing) -> None:
        context = self._context
        # Creates in flight take part, though their own response will come: a track that
        # is theirs must not be given to a doubt of equal content.
        items = [pending.item for pending in self._creator.pending]
        rivals = [item for item in items if item.entry.state == "sending"]
        ids = context.reconciler.match([*context.doubts.values(), *rivals], listing)
        for seq, track_id in ids.items():
            item = context.doubts.pop(seq, None)
            if item is not None:
                found = await context.record_found(item, track_id, logger)
                self._completer.start(found)

    async def _apply(self, verdict: str, item: Item) -> None:
        context = self._context
        if verdict == "absent":
            await self._send_again(item)
        elif verdict != "wait" and context.paused is None:
            del context.doubts[item.seq]
            logger.warning("%s is held: %s", item.name, verdict)
            await context.finish(item, Held(verdict))

    def _more_to_come(self) -> bool:
        creator = self._creator
        return bool(creator.pending or self._context.running or not creator.is_idle)

    async def _send_again(self, item: Item) -> None:
        logger.warning("%s was not accepted; it is sent again", item.name)
        del self._context.doubts[item.seq]
        await self._creator.plan_again(item)
