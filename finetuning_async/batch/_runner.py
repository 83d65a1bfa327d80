"""`Runner`: one run of a batch: creates, completions and reconciling side by side.

An item in doubt holds up no other. When nothing more may be spent, the tracks in
progress are still completed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._runtime import in_thread
from finetuning_async._session import session_of
from finetuning_async.batch._binding import bind_account
from finetuning_async.batch._completion import Completer
from finetuning_async.batch._creator import Creator
from finetuning_async.batch._existing import Existing, check_tracks, existing_error
from finetuning_async.batch._reconcile_loop import ReconcileLoop
from finetuning_async.batch._reconciler import earliest
from finetuning_async.journal import NEXT, Action, BatchError, Missing, Restarted

if TYPE_CHECKING:
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Adopted, Item

logger = logging.getLogger("finetuning_async")

MAX_HELD_AGE: Final = 86_400.0
"""Seconds after which a held create is no longer looked for; lists grow long."""


class Runner:
    """One run.

    Args:
        context: What its parts share.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self._completer = Completer(context)
        self._creator = Creator(context, self._completer)
        self._reconcile_loop = ReconcileLoop(context, self._creator, self._completer)

    async def run(self) -> None:
        """Run until nothing is left that this run can do.

        Raises:
            AuthenticationError: The API key is not valid.
            PermissionDeniedError: The plan does not allow it.
            JournalError: The journal cannot be written.
            FinetuningError: The service could not be reached at the start.
        """
        pending = await self._prepare()
        async with anyio.create_task_group() as self.context.tasks:
            for item in pending:
                self._start(item)
            self.context.tasks.start_soon(self._reconcile_loop.run)
            self.context.tasks.start_soon(self._creator.run)
        await self._reconcile_loop.advance_baseline()
        try:
            await self._write_outputs()
        except OSError as error:  # the journal has it all, and the next run writes it
            self.context.pause("disk", str(error))

    def stop(self) -> None:
        """Create nothing more; what is in progress is completed."""
        self.context.pause("stopped", "stopped on request")
        self._creator.stop()

    async def _prepare(self) -> list[Item]:
        """Bring journal and folder up to date; returns the items in progress.

        Nothing is created before all of this is done: a run that sends first and looks
        later may pay for a track that is there already.
        """
        context = self.context
        # First of all: it shows that the key is valid and of the right account, and
        # brings a response that shows the service's time.
        await bind_account(context.client, context.journal, str(context.folder.path))
        moment = session_of(context.client).account.service_time()
        context.reconciler.time_is_local = moment is None
        await context.journal.refresh_counts()
        await self._check_results()
        await context.reconciler.load()
        await self._check_files()
        await self._write_outputs()
        pending = await context.journal.call(context.journal.store.pending)
        # The folder's lock is ours, so the process that wrote an intent has ended, and
        # its create is in doubt now.
        items = [await context.record(item, Restarted(context.now)) for item in pending]
        items = await self._look_for_doubts(items)
        await self._reconcile_loop.advance_baseline()
        return items

    async def _check_results(self) -> None:
        """Check whether the outputs know more than the journal: then it is outdated.

        Outputs that are not of this journal are kept under another name.

        Raises:
            BatchError: They do, and the options do not say what to do.
        """
        context, rows = self.context, self.context.journal.store.rows
        existing = await in_thread(Existing.read, context.folder)

        def find_outcomes() -> list[tuple[Item, Adopted]]:
            unmade = (item for item in rows("planned") if not item.entry.accepts)
            found = ((item, existing.track_outcome_of(item)) for item in unmade)
            return [(item, outcome) for item, outcome in found if outcome is not None]

        outcomes = await context.journal.call(find_outcomes) if existing.lines else []
        mode = context.options.existing
        if outcomes and mode == "refuse":
            raise existing_error(context.folder.path, outcomes)
        if outcomes and mode == "adopt":
            await check_tracks(
                context.client, context.folder.path, [one for _, one in outcomes]
            )
            for item, outcome in outcomes:
                await context.record(item, outcome)
        rest = await context.journal.call(lambda: existing.without(rows()))
        if rest.lines or rest.foreign or (outcomes and mode == "anew"):
            await in_thread(context.outputs.set_aside)

    async def _check_files(self) -> None:
        """Record files that were deleted or truncated; they are downloaded again.

        A file that has grown is left alone: another program may have tagged it.
        """
        context = self.context
        sizes = await in_thread(context.folder.sizes)

        def find_missing() -> list[Item]:
            rows = context.journal.store.rows("downloaded")
            return [
                item
                for item in rows
                if sizes.get(item.saved_as, 0) < item.result.get("size", 1)
                and not context.folder.is_stream(item.saved_as)
            ]

        for item in await context.journal.call(find_missing):
            after = await context.record(item, Missing())
            if NEXT[after.entry.state] is Action.REPORT:
                context.on_ended(after)

    async def _write_outputs(self) -> None:
        """Rewrite results and errors from the journal."""
        rows = self.context.journal.store.rows
        await self.context.journal.call(
            lambda: self.context.outputs.rewrite(rows("downloaded", "failed", "held"))
        )

    async def _look_for_doubts(self, items: list[Item]) -> list[Item]:
        """Look for all that is in doubt, before anything new is sent.

        Raises:
            BatchError: The list could not be read.
        """
        context = self.context
        doubts = [item for item in items if self._may_be_found(item)]
        if not doubts:
            return items
        listing = await context.reconciler.list_tracks(earliest(doubts))
        if listing is None:
            raise BatchError(
                f"{len(doubts)} creates are in doubt, and the list of tracks could not"
                " be read to look for them; nothing was sent. Run the batch again",
                safe_to_retry=True,
            )
        ids = context.reconciler.match(doubts, listing)
        return [
            await context.record_found(item, ids[item.seq], logger)
            if item.seq in ids
            else item
            for item in items
        ]

    def _may_be_found(self, item: Item) -> bool:
        if item.entry.state == "held":
            return self.context.now - (item.entry.lost_at or 0.0) < MAX_HELD_AGE
        return item.entry.state == "unknown"

    def _start(self, item: Item) -> None:
        """Start what the state of an item asks for."""
        action = NEXT[item.entry.state]
        if action in (Action.WAIT, Action.DOWNLOAD):
            self._completer.start(item)
        elif action is Action.LOOK_UP:
            self.context.doubts[item.seq] = item
        elif action is Action.REPORT:
            self.context.on_ended(item)
