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
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from finetuning_async._errors import (
    BudgetExceededError,
    FinetuningError,
    InsufficientCreditsError,
)
from finetuning_async._session import session_of
from finetuning_async.batch._batch_journal import open_store
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._options import Options, limits_of
from finetuning_async.batch._outputs import result_json
from finetuning_async.journal import (
    NEXT,
    Action,
    BatchError,
    Door,
    Engine,
    Journal,
    Pause,
    Saved,
    StaleItemError,
    bind_account,
    is_fatal,
    retry_delay,
    usual_reply,
)

if TYPE_CHECKING:
    from finetuning_async._client import AsyncClient
    from finetuning_async._pacing import CreditLimit
    from finetuning_async._session import Session
    from finetuning_async._submission import Submission
    from finetuning_async.batch._audio_files import Save
    from finetuning_async.batch._batch_journal import BatchJournal
    from finetuning_async.journal import Item, JournalStore, Rejected, Retry

logger = logging.getLogger("finetuning_async")

NO_CREDITS_DELAY: Final = 600.0
"""Seconds before an item is tried again for which there was no credit."""

SAVE_DELAY: Final = 20.0
"""Seconds before an item is tried again that could not be saved."""

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


class Worker:
    """Processes items of a journal, beside other workers on other machines.

    It is for any job queue that runs a job again when its worker has died. What that
    looks like with SAQ and with Celery is in ``guides/job-queues.md`` of this package;
    for procrastinate there is `finetuning_async.procrastinate.Batches`.

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
        self._client = client
        self._journal = journal
        self._save = save
        self._options = options
        self._session: Session | None = None
        self._binding = anyio.Lock()
        self._door: WorkerDoor | None = None

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
        door = await self._bound_door()
        engine = door.engine
        try:
            item, pause = await engine.process_item(await engine.get(seq), door)
        except StaleItemError:
            # Another worker has the item: the job came twice, or this worker was taken
            # for dead. Leave the item to the other one, and look at it later.
            item, pause = await engine.get(seq), engine.options.look_every
        has_ended = NEXT[item.entry.state] is Action.REPORT
        again_in = None if has_ended else pause or 0.0
        return Progress(item=BatchItem.of(item), again_in=again_in)

    async def _bound_door(self) -> WorkerDoor:
        """The door to the engine, once it is known whose journal it is."""
        session = session_of(self._client)
        # A job queue may run each job in an event loop of its own, where the client has
        # another session.
        if self._session is not session:
            self._session, self._door, self._binding = session, None, anyio.Lock()
        async with self._binding:
            if self._door is None:
                journal = Journal(await open_store(self._journal))
                engine = Engine(session, journal, self._options)
                await bind_account(session, journal, "the journal")
                self._door = WorkerDoor(engine, self._client, self._options, self._save)
            return self._door


class WorkerDoor(Door):
    """What a worker decides about its items.

    Attributes:
        engine: Processes them.
    """

    def __init__(
        self, engine: Engine, client: AsyncClient, options: Options, save: Save | None
    ) -> None:
        self.engine = engine
        self._client = client
        self._options = options
        self._save = save

    @property
    def limits(self) -> tuple[CreditLimit, ...]:
        """What all workers together may spend."""
        return limits_of(self._options)

    async def before_create(self, item: Item) -> Item | float:
        """Look at lookalikes and the credits that may be spent."""
        if await self.engine.reconciliation.lookalike_is_in_doubt(item):
            return self._options.look_every
        journal = self.engine.journal
        for limit in self.limits:
            usage = await journal.call(journal.store.usage, limit)
            if not limit.allows(usage.spent):
                return NO_CREDITS_DELAY
        await self.engine.reconciliation.advance_baseline()
        return item

    def new_submission(self, item: Item, **callbacks: Any) -> Submission:
        """As it is."""
        return self.engine.new_submission(item, **callbacks)

    async def on_refused(
        self, item: Item, error: FinetuningError, refusals: int
    ) -> Retry | Pause | Rejected:
        """Give it back, unless it concerns this item only."""
        reply = usual_reply(error, refusals)
        if reply is not None:
            return reply
        no_credits = isinstance(error, InsufficientCreditsError | BudgetExceededError)
        if is_fatal(error) and not no_credits:
            raise error
        delay = max(NO_CREDITS_DELAY if no_credits else 0.0, retry_delay(error, 1))
        logger.warning(
            "%s was not sent: %s; retrying in %.0f s", item.name, error.message, delay
        )
        return Pause(delay)

    def facts(self, track: Any) -> str | None:
        """Of an ended track."""
        return result_json(track) if track.is_final else None

    async def save(self, item: Item) -> Saved | float:
        """Save it with the function that the worker was given."""
        if self._save is None:
            return Saved()
        try:
            await self._save(self._client, BatchItem.of(item))
        except (FinetuningError, OSError) as error:
            if isinstance(error, BatchError):
                raise
            logger.warning(
                "%s was not saved: %s; retrying in %.0f s",
                item.name,
                error,
                SAVE_DELAY,
            )
            return SAVE_DELAY
        return Saved()
