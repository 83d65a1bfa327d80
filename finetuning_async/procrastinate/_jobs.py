"""Jobs for items, deferred in the transaction that adds the items."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from procrastinate import SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from finetuning_async.journal import JournalError, lookalike_key

if TYPE_CHECKING:
    import psycopg

    from finetuning_async.journal import Item
    from finetuning_async.postgres import PostgresStore

MAX_DEFERRED: Final = 1000
"""Items without a job that get one in one sweep."""

# A job that is to be done, or is being done, will bring its item to an end. One that
# has failed or was deleted will not.
_MISSING: Final = """
SELECT seq FROM finetuning_item AS item
WHERE journal = %s AND state NOT IN ('downloaded', 'failed', 'held') AND NOT EXISTS (
    SELECT FROM procrastinate_jobs AS job
    WHERE task_name = %s AND job.status IN ('todo', 'doing')
    AND (args ->> 'seq')::bigint = item.seq
) ORDER BY seq LIMIT %s
"""


class Jobs:
    """Defers a job for each item.

    Args:
        queue: The procrastinate queue.
        prefix: The beginning of the task's name, and of the locks.

    Attributes:
        queue: As given.
        task: The name of the task that processes an item.
    """

    def __init__(self, *, queue: str, prefix: str) -> None:
        self.queue = queue
        self.task = f"{prefix}.process_item"
        self._prefix = prefix

    def defer_missing(self, store: PostgresStore, db: psycopg.Connection) -> None:
        """Defer a job for items that need one and have none."""
        given = (store.journal, self.task, MAX_DEFERRED)
        found = db.execute(_MISSING, given).fetchall()
        self.defer(db, [store.get(seq) for (seq,) in found])

    def defer(self, db: psycopg.Connection, items: list[Item]) -> None:
        """Defer a job for each item, in the transaction of a connection.

        Items and jobs are committed together: no crash leaves an item without a job,
        or a job without its item.

        Raises:
            JournalError: procrastinate's tables cannot be used.
        """
        jobs = [
            Job(
                queue=self.queue,
                lock=self._lock_of(item),
                queueing_lock=None,
                task_name=self.task,
                task_kwargs={"seq": item.seq},
            )
            for item in items
        ]
        if not jobs:
            return
        try:
            JobManager(SyncPsycopgConnector()).batch_defer_jobs(jobs, connection=db)
        except ConnectorException as error:
            raise JournalError(
                f"no jobs could be deferred: {error.__cause__ or error}. If"
                " procrastinate's tables are missing, create them with `procrastinate"
                " schema --apply`"
            ) from error

    def _lock_of(self, item: Item) -> str | None:
        """A lock shared by items whose tracks look the same in a listing.

        procrastinate runs jobs with the same lock one at a time.
        """
        key = lookalike_key(item)
        if key is None:
            return None
        digest = blake2b(repr(key).encode(), digest_size=16).hexdigest()
        return f"{self._prefix}.{digest}"
