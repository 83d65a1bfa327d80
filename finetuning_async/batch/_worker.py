"""One item, as far as it goes now: what any job queue can call. It knows none.

    worker = Worker(client, store, save=into("album"))
    progress = await worker.process_item(seq)
    # If progress.again_in is not None: again, after so many seconds, anywhere.

A queue brings an item back after a crash; that it is paid once is up to the journal. An
item that comes back in the middle of its create is looked up, never sent again. Two
workers on one item do no harm: whoever is second to record a step stops there.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from finetuning_async._runtime import in_thread
from finetuning_async.batch._audio_files import fetch, place_for
from finetuning_async.batch._binding import bind
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._item_processor import ItemProcessor, WorkerContext
from finetuning_async.batch._options import Options
from finetuning_async.batch._shared_reconciler import Settling
from finetuning_async.journal import NEXT, Action, Journal, StaleItemError

if TYPE_CHECKING:
    import os

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._item_processor import Save
    from finetuning_async.journal import JournalStore

logger = logging.getLogger("finetuning_async")

DEFAULTS: Final = Options()


@attrs.frozen(kw_only=True)
class Progress:
    """Where an item stands.

    Attributes:
        item: As callers see it; its `path` is not known here.
        again_in: Seconds after which it wants to be processed again; `None` once it has
            ended as ``downloaded``, ``failed`` or ``held``.
    """

    item: BatchItem
    again_in: float | None


def into(folder: str | os.PathLike[str]) -> Save:
    """Saves MP3s into a folder, under each item's `file`; made if need be.

    A file appears whole or not at all, and replaces none of somebody else's: it gets
    another name then. Workers on many machines want a folder that they share.

    Args:
        folder: Where; the files of a batch go into a folder of its name there.

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
        await in_thread(_keep, part, target, item.key)

    return save


def _keep(part: Path, target: Path, key: str) -> None:
    name = place_for(part, target.parent, target.name, key)
    if name != target.name:
        logger.warning("%s is somebody else's; the track is in %s", target, name)
    part.replace(target.with_name(name))


class Worker:
    """Processes items of a journal, beside other workers on other machines.

    Args:
        client: Creates and waits; not closed here. All workers together keep the
            account's limits if their clients share a `rate_limiter`.
        store: The journal.
        save: Awaited with each completed item before it counts as ``downloaded``; may
            be called again for one whose worker died. By default nothing is saved.
        options: What else there is to tell. `max_credits` is for all workers and all
            batches of the journal. Of no use here: `tags`, `downloads`, `free_bytes`.
    """

    def __init__(
        self,
        client: AsyncClient,
        store: JournalStore,
        *,
        save: Save | None = None,
        options: Options = DEFAULTS,
    ) -> None:
        journal = Journal(store)
        self._tools = WorkerContext(
            client=client,
            journal=journal,
            save=save,
            options=options,
            settling=Settling(client, journal, options),
        )
        self._binding = anyio.Lock()
        self._is_bound = False

    async def process_item(self, seq: int) -> Progress:
        """Take an item as far as it goes: create, wait, save.

        Each step is committed before the next, so that it can be cancelled, or killed,
        anywhere. An item in doubt is looked for once and given back, so that it holds
        up no other.

        Items that share kind, prompt and a seed of the caller's own must not be
        processed at the same time: a list could not tell their tracks apart.

        Args:
            seq: Its place in the journal.

        Raises:
            AuthenticationError: The key does not hold.
            PermissionDeniedError: The plan does not allow it.
            JournalError: The journal cannot be used.
            BatchError: It is another account's.
            Exception: What `save` raised, if it is no error of ours.
        """
        tools = self._tools
        await self._bind()
        try:
            item, pause = await ItemProcessor(tools, await tools.get(seq)).run()
        except StaleItemError:  # somebody else works on it, or we are believed dead
            item, pause = await tools.get(seq), tools.options.look_every
        has_ended = NEXT[item.entry.state] is Action.REPORT
        again_in = None if has_ended else pause or 0.0
        return Progress(item=BatchItem.of(item), again_in=again_in)

    async def _bind(self) -> None:
        """Check once that the journal is of the client's account."""
        async with self._binding:
            if not self._is_bound:
                await bind(self._tools.client, self._tools.journal, "the journal")
                self._is_bound = True
