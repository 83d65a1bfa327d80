"""`Worker`: processes one item as far as possible; any job queue can call it.

    worker = Worker(client, journal, save=into("album"))
    progress = await worker.process_item(number)
    # If progress.again_in is not None: call it again after that many seconds, anywhere.

A job queue gives an item to one worker at a time, and to another when the first has
died: that is the item's lease. A lease can be wrong, since a worker that is suspended
or cut off looks dead. So the journal does not rely on it: a worker whose item was taken
over meanwhile gets a `StaleItemError` at its next commit (fencing), so it cannot commit
an intent to create the track once more. An item that comes back in the middle of its
create is looked up, never sent again.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from finetuning_async._runtime import in_thread
from finetuning_async.batch._audio_files import fetch, free_name
from finetuning_async.batch._batch_journal import open_store
from finetuning_async.batch._binding import bind_account
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._item_processor import ItemProcessor, WorkerContext
from finetuning_async.batch._options import Options
from finetuning_async.batch._shared_reconciler import SharedReconciler
from finetuning_async.journal import NEXT, Action, Journal, StaleItemError

if TYPE_CHECKING:
    import os

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._batch_journal import BatchJournal
    from finetuning_async.batch._item_processor import Save
    from finetuning_async.journal import JournalStore

logger = logging.getLogger("finetuning_async")

DEFAULTS: Final = Options()


@attrs.frozen(kw_only=True)
class Progress:
    """What `Worker.process_item` has achieved.

    Attributes:
        item: As callers see it; its `path` is not known here.
        again_in: Seconds after which to process it again; `None` once it has ended as
            ``downloaded``, ``failed`` or ``held``.

    Example:
        from finetuning_async.batch import BatchJournal, Worker

        journal = BatchJournal("tracks.db")
        (number,) = await journal.add("album", [GenerationRequest("rain")])
        progress = await Worker(client, journal).process_item(number)
        print(progress.item.state, progress.again_in)
        await journal.aclose()
    """

    item: BatchItem
    again_in: float | None


def into(folder: str | os.PathLike[str]) -> Save:
    """Save MP3s into a folder, under each item's `file`; created if needed.

    A file appears complete or not at all. If another file has its name, which no batch
    has written, it gets another name. Workers on several machines need a folder that
    they share.

    Args:
        folder: Holds a folder for each batch, of the batch's name.

    Example:
        import procrastinate
        from finetuning_async.procrastinate import Batches, into

        app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        Batches(app, client=AsyncClient, save=into("/mnt/music"))
    """
    path = Path(folder)

    async def save(client: AsyncClient, item: BatchItem) -> None:
        url = item.result.get("audio_url")
        target = path / item.file
        part = target.with_name(f".{target.name}.part")
        await fetch(client, item.generation_id or "", url, part)
        await in_thread(_move_into_place, part, target, item.key)

    return save


def _move_into_place(part: Path, target: Path, key: str) -> None:
    name = free_name(part, target.parent, target.name, key)
    if name != target.name:
        logger.warning(
            "%s exists and does not belong to this batch; the track is saved as %s",
            target,
            name,
        )
    part.replace(target.with_name(name))


class Worker:
    """Processes items of a journal, beside other workers on other machines.

    It is for any job queue that runs a job again when its worker has died; what that
    looks like with SAQ and with Celery is in ``guides/job-queues.md``. For
    procrastinate there is `finetuning_async.procrastinate.Batches`.

        from finetuning_async.batch import BatchJournal, Worker, into

        journal = BatchJournal("tracks.db")
        worker = Worker(client, journal, save=into("music"))

        async def job(number: int) -> None:
            progress = await worker.process_item(number)
            if progress.again_in is not None:
                print("to be run again in", progress.again_in, "s, on any machine")

        for number in await journal.add("album", [GenerationRequest("rain")]):
            await job(number)
        await journal.aclose()

    Args:
        client: Creates and waits; not closed here. All workers together keep to the
            account's limits if their clients share a `rate_limiter`.
        journal: Holds the items; not closed here.
        save: Awaited with each completed item before it counts as ``downloaded``; may
            be called again for an item whose worker died. By default nothing is saved.
        options: Further options. `max_credits` is for all workers and all batches of
            the journal. `tags`, `downloads` and `free_bytes` have no effect here.
    """

    def __init__(
        self,
        client: AsyncClient,
        journal: BatchJournal | JournalStore,
        *,
        save: Save | None = None,
        options: Options = DEFAULTS,
    ) -> None:
        self._client, self._journal = client, journal
        self._save, self._options = save, options
        self._opening = anyio.Lock()
        self._context: WorkerContext | None = None

    async def process_item(self, seq: int) -> Progress:
        """Take an item as far as possible: create, wait, save.

        Each step is committed before the next, so this can be cancelled, or its
        process killed, at any moment. An item in doubt is looked for once and given
        back, so that it holds up no other.

        Items that share kind, prompt and a seed of the caller's own must not be
        processed at the same time: their tracks look the same in a listing.

        Args:
            seq: The item's number in the journal.

        Raises:
            AuthenticationError: The API key is not valid.
            PermissionDeniedError: The plan does not allow it.
            JournalError: The journal cannot be used.
            BatchError: It belongs to another account.
            Exception: What `save` raised, if it is not one of our errors.
        """
        context = await self._opened()
        try:
            processor = ItemProcessor(context, await context.get(seq))
            item, pause = await processor.run()
        except StaleItemError:
            # Another worker has the item: the job came twice, or this worker was taken
            # for dead. Leave the item to the other one, and look at it later.
            item, pause = await context.get(seq), context.options.look_every
        has_ended = NEXT[item.entry.state] is Action.REPORT
        again_in = None if has_ended else pause or 0.0
        return Progress(item=BatchItem.of(item), again_in=again_in)

    async def _opened(self) -> WorkerContext:
        """What all items share, once the journal is seen to be the account's."""
        async with self._opening:
            if self._context is None:
                client, options = self._client, self._options
                journal = Journal(await open_store(self._journal))
                await bind_account(client, journal, "the journal")
                self._context = WorkerContext(
                    client=client,
                    journal=journal,
                    save=self._save,
                    options=options,
                    reconciler=SharedReconciler(client, journal, options),
                )
            return self._context
