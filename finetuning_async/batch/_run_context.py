"""What the parts of one run share, and how they notice each other's changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from finetuning_async._runtime import in_thread
from finetuning_async._session import session_of
from finetuning_async.batch._reconciler import Reconciler
from finetuning_async.journal import Found

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._folder import Folder
    from finetuning_async.batch._options import Options
    from finetuning_async.batch._outputs import Outputs
    from finetuning_async.journal import Event, Item, Journal


class RunContext:
    """What the parts of one run share.

    Args:
        client: Creates, waits and downloads.
        folder: Where files are saved.
        journal: The items and their progress.
        outputs: ``results.jsonl`` and ``errors.jsonl``.
        options: Options of the batch.
        on_ended: Called with each item that is downloaded, failed or held.

    Attributes:
        reconciler: Knows which track belongs to which item.
        tasks: Runs the parts.
        running: Items whose track is waited for or downloaded, by `seq`.
        doubts: Items whose create is in doubt, by `seq`.
        paused: Why nothing more is created: ``stopped``, ``credits``, ``max_credits``,
            ``disk``; `None` while creating goes on.
        pause_message: The same for people.
    """

    tasks: TaskGroup

    def __init__(
        self,
        client: AsyncClient,
        folder: Folder,
        journal: Journal,
        outputs: Outputs,
        options: Options,
        on_ended: Callable[[Item], None],
    ) -> None:
        self.client = client
        self.folder = folder
        self.journal = journal
        self.outputs = outputs
        self.options = options
        self.on_ended = on_ended
        self.reconciler = Reconciler(client, journal, options)
        self.running: dict[int, Item] = {}
        self.doubts: dict[int, Item] = {}
        self.paused: str | None = None
        self.pause_message: str | None = None
        self._changed = anyio.Event()

    @property
    def now(self) -> float:
        """The service's time in seconds since 1970; this machine's if not known."""
        moment = session_of(self.client).account.service_time()
        # Not the loop's clock: these times are stored, and read by later processes.
        return time.time() if moment is None else moment

    async def record(self, item: Item, event: Event) -> Item:
        """Apply an event to an item, and commit the result."""
        after, _ = await self.journal.record(item, event)
        return after

    async def finish(self, item: Item, event: Event) -> Item:
        """The same for an event that ends an item; its line is written."""
        item = await self.record(item, event)
        try:
            await in_thread(self.outputs.append, item)
        except OSError as error:  # the journal has it, and the next run writes the line
            self.pause("disk", str(error))
        self.on_ended(item)
        return item

    async def record_found(
        self, item: Item, track_id: str, logger: logging.Logger
    ) -> Item:
        """Give an item in doubt the track that was found."""
        self.reconciler.add_track(item, track_id)
        logger.warning(
            "%s: its create was accepted as %s, though the response was lost",
            item.name,
            track_id,
        )
        return await self.record(item, Found(track_id))

    def pause(self, code: str, message: str) -> None:
        """Create nothing more; the first reason is kept."""
        if self.paused is None:
            self.paused, self.pause_message = code, message
            self.notify()

    def notify(self) -> None:
        """Wake all that wait for a change."""
        # An event is set only once: those that wait now hold the old one.
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for_change(self) -> None:
        """Wait until something changes."""
        await self._changed.wait()
