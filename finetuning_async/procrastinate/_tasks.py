"""The tasks that procrastinate's workers run; what they do with an item is `Worker`'s.

process_item   takes one item as far as it goes, or asks to be run again later
sweep          brings back the jobs of workers that died, every few seconds
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

AFTER_ERROR: Final = 60.0
"""Seconds before an item is tried again whose job failed: for a wrong key, say."""

SWEEP_FIRST: Final = 100
"""The sweep's priority; thousands of items may wait for a worker."""


class AgainError(Exception):
    """An item wants to be processed again, after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:g} s")
        self.seconds = seconds


class Again(BaseRetryStrategy):
    """Brings back every job that did not end its item."""

    def get_retry_decision(
        self, *, exception: BaseException, job: Job
    ) -> RetryDecision:
        """When it is run again; at once if its worker was told to stop."""
        del job
        pause = AFTER_ERROR if isinstance(exception, Exception) else 0.0
        if isinstance(exception, AgainError):
            pause = exception.seconds
        return RetryDecision(retry_in={"milliseconds": round(1000 * pause)})


class Tasks:
    """The tasks of one journal, added to an app.

    Args:
        app: procrastinate's.
        open_store: Opens the journal.
        client: Makes the client of a worker.
        save: See `Worker`.
        options: See `Worker`.
        queue: procrastinate's queue.
        stalled_after: Seconds without a heartbeat after which a worker counts as dead.
        sweep_every: Seconds between sweeps, 1 to 59.
        name: What the names of the tasks begin with.

    Attributes:
        jobs: Plans jobs.
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
        self._clean = f"{name}.sweep"
        app.task(name=self.jobs.task, queue=queue, retry=Again())(self.process_item)
        sweep = app.task(name=self._clean, queue=queue, priority=SWEEP_FIRST)
        app.periodic(cron=f"* * * * * */{sweep_every}")(sweep(self.sweep))

    async def store(self) -> PostgresStore:
        """The journal, opened once in this process.

        Raises:
            RuntimeError: The event loop is not asyncio's.
            JournalError: The database cannot be used.
        """
        if current_async_library() != "asyncio":
            raise RuntimeError(
                "Batches run on asyncio only, because procrastinate does"
            )
        async with self._opening:
            if self._store is None:
                self._store = await in_thread(self._open_store)
            return self._store

    async def aclose(self) -> None:
        """Close what was opened in this process."""
        store, client = self._store, self._client
        self._store = self._client = self._worker = None
        if client is not None:
            await client.aclose()
        if store is not None:
            await in_thread(store.close)

    async def process_item(self, seq: int) -> None:
        """The task: take an item as far as it goes.

        Raises:
            AgainError: It has not ended.
            FinetuningError: It went wrong; it is tried again.
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
                "item %d is tried again in %.0f s: %s", seq, AFTER_ERROR, error.message
            )
            raise
        if progress.again_in is not None:
            raise AgainError(progress.again_in)

    async def sweep(self, timestamp: int) -> None:
        """The task: bring back jobs of dead workers; give items one that have none."""
        del timestamp
        stalled = await self._app.job_manager.get_stalled_jobs(
            queue=self.jobs.queue, seconds_since_heartbeat=self._stalled_after
        )
        for job in stalled:
            await self._bring_back(job)
        await self.plan_jobless()

    async def _bring_back(self, job: Job) -> None:
        manager = self._app.job_manager
        try:
            if job.task_name == self.jobs.task:
                await manager.retry_job(job)
            elif job.task_name == self._clean:
                await manager.finish_job(job, Status.FAILED, delete_job=True)
        except ConnectorException:
            pass  # another sweep was faster

    async def plan_jobless(self) -> None:
        """Give items a job that want one and have none.

        Such are those that a person plans again, and those whose job was ended by a
        worker that was believed dead.
        """
        store = await self.store()
        await in_thread(store.transact, partial(self.jobs.plan_jobless, store))
