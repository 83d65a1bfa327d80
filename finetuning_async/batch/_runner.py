"""`Runner`: one run of a batch: brings journal and folder up to date, then runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async._runtime import in_thread
from finetuning_async.batch._existing import Existing, check_tracks, existing_error
from finetuning_async.journal import (
    NEXT,
    Action,
    BatchError,
    Missing,
    Restarted,
    bind_account,
)

if TYPE_CHECKING:
    from finetuning_async.batch._run import Run
    from finetuning_async.journal import Adopted, Event, Item


class Runner:
    """One run.

    Args:
        run: Its items.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._engine = run.engine
        self._journal = run.engine.journal

    async def run(self) -> None:
        """Run until nothing is left that this run can do.

        Raises:
            AuthenticationError: The API key is not valid.
            PermissionDeniedError: The plan does not allow it.
            JournalError: The journal cannot be written.
            FinetuningError: The service could not be reached at the start.
        """
        await self._run.process(await self._prepare())
        await self._engine.reconciliation.advance_baseline(at_once=True)
        try:
            await self._write_outputs()
        except OSError as error:  # the journal has it all, and the next run writes it
            self._run.pause("disk", str(error))

    async def _record(self, item: Item, event: Event) -> Item:
        after, _ = await self._journal.record(item, event)
        return after

    async def _prepare(self) -> list[Item]:
        """Bring journal and folder up to date; returns the items in progress.

        Nothing is created before all of this is done: a run that sends first and looks
        later may pay for a track that is there already.
        """
        # First of all: it shows that the key is valid and of the right account, and
        # brings a response that shows the service's time.
        name = self._run.folder.location
        await bind_account(self._engine.service, self._journal, name)
        await self._journal.refresh_counts()
        await self._check_results()
        await self._check_files()
        await self._write_outputs()
        await self._look_for_doubts()
        items = await self._pending()
        for item in items:
            if NEXT[item.entry.state] is Action.REPORT:
                self._run.on_ended(item)
        return [item for item in items if NEXT[item.entry.state] is not Action.REPORT]

    async def _pending(self) -> list[Item]:
        return await self._journal.call(self._journal.store.pending)

    async def _look_for_doubts(self) -> None:
        """Look for all that is in doubt, before anything new is sent.

        Raises:
            BatchError: The list could not be read.
        """
        # The folder's lock is ours, so the process that sent these creates has ended,
        # and they are in doubt now.
        now = await self._engine.reconciliation.now()
        items = [await self._record(i, Restarted(now)) for i in await self._pending()]
        doubts = [item for item in items if item.entry.state in ("unknown", "held")]
        reconcile = self._engine.reconciliation.reconcile
        if not await reconcile(*doubts, at_once=True):
            raise BatchError(
                f"{len(doubts)} creates are in doubt, and the list of tracks could not"
                " be read to look for them; nothing was sent. Run the batch again",
                safe_to_retry=True,
            )

    async def _check_results(self) -> None:
        """Check whether the outputs know more than the journal: then it is outdated.

        Outputs that are not of this journal are kept under another name.

        Raises:
            BatchError: They do, and the options do not say what to do.
        """
        run, rows = self._run, self._journal.store.rows
        existing = await in_thread(Existing.read, run.folder)

        def find_outcomes() -> list[tuple[Item, Adopted]]:
            unmade = (item for item in rows("planned") if not item.entry.accepts)
            found = ((item, existing.track_outcome_of(item)) for item in unmade)
            return [(item, outcome) for item, outcome in found if outcome is not None]

        outcomes = await self._journal.call(find_outcomes) if existing.lines else []
        mode = run.options.existing
        if outcomes and mode == "refuse":
            raise existing_error(run.folder.location, outcomes)
        if outcomes and mode == "adopt":
            await check_tracks(
                run.client, run.folder.location, [one for _, one in outcomes]
            )
            for item, outcome in outcomes:
                await self._record(item, outcome)
        rest = await self._journal.call(lambda: existing.without(rows()))
        if rest.lines or rest.foreign or (outcomes and mode == "anew"):
            await in_thread(run.outputs.set_aside)

    async def _check_files(self) -> None:
        """Record files that were deleted or truncated; they are downloaded again.

        A file that has grown is left alone: another program may have tagged it.
        """
        run = self._run
        sizes = await in_thread(run.folder.sizes)

        def find_missing() -> list[Item]:
            rows = self._journal.store.rows("downloaded")
            return [
                item
                for item in rows
                if sizes.get(item.saved_as, 0) < item.result.get("size", 1)
                and not run.folder.is_stream(item.saved_as)
            ]

        for item in await self._journal.call(find_missing):
            after = await self._record(item, Missing())
            if NEXT[after.entry.state] is Action.REPORT:
                run.on_ended(after)

    async def _write_outputs(self) -> None:
        """Rewrite results and errors from the journal."""
        rows = self._journal.store.rows
        await self._journal.call(
            lambda: self._run.outputs.rewrite(rows("downloaded", "failed", "held"))
        )
