"""The tasks that procrastinate's workers run. `Worker` does the work on an item.

process_item   takes one item as far as possible, or asks to be run again later
sweep          queues the jobs of dead workers again, every few seconds
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from sniffio import current_async_library

from finetuning_async._errors import FinetuningError
from finetuning_async._runtime import in_thread
from finetuning_async.batch import Worker
from finetuning_async.procrastinate._jobs import Jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate import App

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch import Options, Save
    from finetuning_async.postgres import PostgresStore

logger = logging.getLogger("finetuning_async")

ERROR_DELAY: Final = 60.0
"""Seconds before an item is tried again whose job failed, as with a wrong key."""

SWEEP_PRIORITY: Final = 100
"""Before thousands of items that may be waiting for a worker."""


class NotFinishedError(Exception):
    """The item has not ended; its job is to be run again after some seconds.

    An exception is how a procrastinate task asks for that.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the item has not ended; it is processed again in {seconds:.1f} s"
        )
        self.seconds = seconds


class RetryUntilEnded(BaseRetryStrategy):
    """Runs every job again that did not end its item."""

    def get_retry_decision(
        self, *, exception: BaseException, job: Job
    ) -> RetryDecision:
        """When to run it again: at once if its worker was stopped."""
        del job
        # Only a cancellation is no `Exception`: the worker was asked to stop.
        pause = ERROR_DELAY if isinstance(exception, Exception) else 0.0
        if isinstance(exception, NotFinishedError):
            pause = exception.seconds
        return RetryDecision(retry_in={"milliseconds": round(1000 * pause)})


class Tasks:
    """The tasks of one journal, added to an app.

    Args:
        app: The procrastinate app.
        open_store: Opens the journal.
        client: Creates the client of a worker.
        save: See `Worker`.
        options: See `Worker`.
        queue: The procrastinate queue.
        stalled_after: Seconds without a heartbeat after which a worker counts as dead.
        sweep_every: Seconds between sweeps, 1 to 59.
        name: The beginning of the tasks' names.

    Attributes:
        jobs: Defers jobs.
    """

    def __init__(
        self,
        app: App,
        *,
        open_store: Callable[[], PostgresStore],
        client: Callable[[], AsyncClient],
        save: Save | None,
        options: Options,
        queue: str,
        stalled_after: float,
        sweep_every: int,
        name: str,
    ) -> None:
        self._app = app
        self._open_store, self._make_client = open_store, client
        self._save, self._options = save, options
        self.jobs = Jobs(queue=queue, prefix=name)
        self._stalled_after = stalled_after
        self._opening = anyio.Lock()
        self._store: PostgresStore | None = None
        self._client: AsyncClient | None = None
        self._worker: Worker | None = None
        self._sweep_task = f"{name}.sweep"
        app.task(name=self.jobs.task, queue=queue, retry=RetryUntilEnded())(
            self.process_item
        )
        sweep = app.task(name=self._sweep_task, queue=queue, priority=SWEEP_PRIORITY)
        app.periodic(cron=f"* * * * * */{sweep_every}")(sweep(self.sweep))

    async def store(self) -> PostgresStore:
        """The journal, opened once in this process.

        Raises:
            RuntimeError: The event loop is not asyncio's.
            JournalError: The database cannot be used.
        """
        if current_async_library() != "asyncio":
            raise RuntimeError(
                "Batches runs on asyncio only, because procrastinate does; this event"
                f" loop is {current_async_library()}"
            )
        async with self._opening:
            if self._store is None:
                self._store = await in_thread(self._open_store)
            return self._store

    async def aclose(self) -> None:
        """Close the client and the connection of this process."""
        store, client = self._store, self._client
        self._store = self._client = self._worker = None
        if client is not None:
            await client.aclose()
        if store is not None:
            await in_thread(store.close)

    async def process_item(self, seq: int) -> None:
        """The task: take an item as far as possible.

        Raises:
            NotFinishedError: It has not ended.
            FinetuningError: It failed; it is tried again.
        """
        store = await self.store()
        if self._worker is None:
            self._client = self._make_client()
            self._worker = Worker(
                self._client, store, save=self._save, options=self._options
            )
        try:
            progress = await self._worker.process_item(seq)
        except FinetuningError as error:
            logger.warning(
                "item %d failed: %s; retrying in %.0f s",
                seq,
                error.message,
                ERROR_DELAY,
            )
            raise
        if progress.again_in is not None:
            raise NotFinishedError(progress.again_in)

    async def sweep(self, timestamp: int) -> None:
        """The task: queue jobs of dead workers again, and defer jobs that are missing.

        A worker counts as dead when its heartbeat stopped. It may only be suspended;
        the journal then refuses what it records later.
        """
        del timestamp
        stalled = await self._app.job_manager.get_stalled_jobs(
            queue=self.jobs.queue, seconds_since_heartbeat=self._stalled_after
        )
        for job in stalled:
            await self._requeue(job)
        await self.defer_missing()

    async def _requeue(self, job: Job) -> None:
        manager = self._app.job_manager
        try:
            if job.task_name == self.jobs.task:
                await manager.retry_job(job)
            elif job.task_name == self._sweep_task:
                await manager.finish_job(job, Status.FAILED, delete_job=True)
        except ConnectorException:
            pass  # the sweep of another worker was faster

    async def defer_missing(self) -> None:
        """Defer a job for items that need one and have none.

        Those are items that a person has planned again, and items whose job was ended
        by a worker that was taken for dead.
        """
        store = await self.store()
        await in_thread(store.transact, partial(self.jobs.defer_missing, store))
