"""What the parts of one run share: tools, journal, and word that something changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from finetuning_async._runtime import in_thread
from finetuning_async.batch._client_access import service_time
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
        client: Who creates.
        folder: Where files go.
        journal: What is done and what is not.
        outputs: Where ends are written.
        options: What was told.
        ended: Called with each item that is downloaded, failed or held.

    Attributes:
        detective: Knows what belongs to whom.
        tasks: Where the parts run.
        running: Items that are waited for or downloaded, by `seq`.
        doubts: Items whose create is in doubt, by `seq`.
        paused: Why no more is created: ``stopped``, ``credits``, ``max_credits``,
            ``disk``; `None` while it goes on.
        why: The same for people.
    """

    tasks: TaskGroup

    def __init__(
        self,
        client: AsyncClient,
        folder: Folder,
        journal: Journal,
        outputs: Outputs,
        options: Options,
        ended: Callable[[Item], None],
    ) -> None:
        self.client = client
        self.folder = folder
        self.journal = journal
        self.outputs = outputs
        self.options = options
        self.ended = ended
        self.detective = Reconciler(client, journal, options)
        self.running: dict[int, Item] = {}
        self.doubts: dict[int, Item] = {}
        self.paused: str | None = None
        self.why: str | None = None
        self._news = anyio.Event()

    @property
    def now(self) -> float:
        """The service's time in seconds since 1970; else this machine's."""
        moment = service_time(self.client)
        # It is kept across processes, which share no other clock.
        return time.time() if moment is None else moment

    async def record(self, item: Item, event: Event) -> Item:
        """Commit what an event makes of an item."""
        after, _ = await self.journal.record(item, event)
        return after

    async def end(self, item: Item, event: Event) -> Item:
        """The same for an event that ends it; its line is written."""
        item = await self.record(item, event)
        try:
            await in_thread(self.outputs.append, item)
        except OSError as error:  # the journal knows it, and the next run writes it
            self.pause("disk", str(error))
        self.ended(item)
        return item

    async def adopt(self, item: Item, track_id: str, logger: logging.Logger) -> Item:
        """Give an item in doubt the track that was found."""
        self.detective.owns(item, track_id)
        logger.warning("%s: found %s, whose answer was lost", item.name, track_id)
        return await self.record(item, Found(track_id))

    def pause(self, word: str, why: str) -> None:
        """Let no more be created; the first reason stays."""
        if self.paused is None:
            self.paused, self.why = word, why
            self.tell()

    def tell(self) -> None:
        """Say that something changed."""
        self._news.set()
        self._news = anyio.Event()

    async def wait_for_change(self) -> None:
        """Wait until something changes."""
        await self._news.wait()
