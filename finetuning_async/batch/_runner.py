"""One run of a batch: creates, waits, downloads, and doubts beside them.

An item in doubt holds nobody up. When nothing more may be spent, what runs is finished.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._runtime import in_thread
from finetuning_async.batch._binding import bind
from finetuning_async.batch._client_access import service_time
from finetuning_async.batch._completion import Follower
from finetuning_async.batch._creator import Creator
from finetuning_async.batch._existing import Existing, check_tracks, refusal
from finetuning_async.batch._reconcile_loop import Doubting, earliest
from finetuning_async.journal import NEXT, Action, BatchError, Missing, Restarted

if TYPE_CHECKING:
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Adopted, Item

logger = logging.getLogger("finetuning_async")

LATEST: Final = 86_400.0
"""Seconds after which a held create is not looked for again; lists grow long."""


class Runner:
    """One run.

    Args:
        desk: What its parts share.
    """

    def __init__(self, desk: RunContext) -> None:
        self.desk = desk
        self._follower = Follower(desk)
        self._creator = Creator(desk, self._follower)
        self._doubting = Doubting(desk, self._creator, self._follower)

    async def run(self) -> None:
        """Run until nothing is left that this run can do.

        Raises:
            AuthenticationError: The key does not hold.
            PermissionDeniedError: The plan does not allow it.
            JournalError: The journal cannot be written.
            FinetuningError: The service could not be asked at the start.
        """
        pending = await self._begin()
        async with anyio.create_task_group() as self.desk.tasks:
            for item in pending:
                self._start(item)
            self.desk.tasks.start_soon(self._doubting.run)
            self.desk.tasks.start_soon(self._creator.run)
        await self._doubting.rebase()
        try:
            await self._project()
        except OSError as error:  # the journal has it all, and the next run writes it
            self.desk.pause("disk", str(error))

    def stop(self) -> None:
        """Create nothing more; what is on the wire or under way is finished."""
        self.desk.pause("stopped", "stopped on request")
        self._creator.stop()

    async def _begin(self) -> list[Item]:
        """Learn where all stands; returns what is neither planned nor done."""
        desk = self.desk
        # The key holds, it is of the right account, and the service's time is known.
        await bind(desk.client, desk.journal, str(desk.folder.path))
        desk.detective.time_is_local = service_time(desk.client) is None
        await desk.journal.count()
        await self._check_results()
        await desk.detective.begin()
        await self._check_files()
        await self._project()
        pending = await desk.journal.call(desk.journal.store.pending)
        items = [await desk.record(item, Restarted(desk.now)) for item in pending]
        items = await self._first_look(items)
        await self._doubting.rebase()
        return items

    async def _check_results(self) -> None:
        """See whether the results know more than the journal: it is out of date then.

        What stands in the outputs and is not of this journal is kept aside.

        Raises:
            BatchError: They do, and nobody has said what to do.
        """
        desk, rows = self.desk, self.desk.journal.store.rows
        existing = await in_thread(Existing.read, desk.folder)

        def told_of_unmade() -> list[tuple[Item, Adopted]]:
            unmade = (item for item in rows("planned") if not item.entry.accepts)
            found = ((item, existing.result_of(item)) for item in unmade)
            return [(item, one) for item, one in found if one is not None]

        told = await desk.journal.call(told_of_unmade) if existing.lines else []
        mode = desk.options.existing
        if told and mode == "refuse":
            raise refusal(desk.folder.path, told)
        if told and mode == "adopt":
            await check_tracks(desk.client, desk.folder.path, [one for _, one in told])
            for item, one in told:
                await desk.record(item, one)
        rest = await desk.journal.call(lambda: existing.beyond(rows()))
        if rest.lines or rest.strange or (told and mode == "anew"):
            await in_thread(desk.outputs.set_aside)

    async def _check_files(self) -> None:
        """Note files that are gone or cut short; one that grew was given tags, say."""
        desk = self.desk
        sizes = await in_thread(desk.folder.sizes)

        def gone() -> list[Item]:
            rows = desk.journal.store.rows("downloaded")
            return [
                item
                for item in rows
                if sizes.get(item.saved_as, 0) < item.facts.get("size", 1)
                and not desk.folder.keeps_nothing(item.saved_as)
            ]

        for item in await desk.journal.call(gone):
            after = await desk.record(item, Missing())
            if NEXT[after.entry.state] is Action.REPORT:
                desk.ended(after)

    async def _project(self) -> None:
        """Write results and errors anew."""
        rows = self.desk.journal.store.rows
        await self.desk.journal.call(
            lambda: self.desk.outputs.rewrite(rows("downloaded", "failed", "held"))
        )

    async def _first_look(self, items: list[Item]) -> list[Item]:
        """Look for all that is in doubt, before anything new is sent.

        Raises:
            BatchError: The list could not be read.
        """
        desk = self.desk
        doubts = [item for item in items if self._may_be_found(item)]
        if not doubts:
            return items
        look = await desk.detective.look(earliest(doubts))
        if look is None:
            raise BatchError(
                f"{len(doubts)} creates are in doubt and the list could not be read to"
                " look for them; nothing was sent",
                safe_to_retry=True,
            )
        ids = desk.detective.match(doubts, look)
        return [
            await desk.adopt(item, ids[item.seq], logger) if item.seq in ids else item
            for item in items
        ]

    def _may_be_found(self, item: Item) -> bool:
        if item.entry.state == "held":
            return self.desk.now - (item.entry.lost_at or 0.0) < LATEST
        return item.entry.state == "unknown"

    def _start(self, item: Item) -> None:
        """Do what the state of an item asks for."""
        action = NEXT[item.entry.state]
        if action in (Action.WAIT, Action.DOWNLOAD):
            self._follower.start(item)
        elif action is Action.LOOK_UP:
            self.desk.doubts[item.seq] = item
        elif action is Action.REPORT:
            self.desk.ended(item)
