"""Jobs for items, in the transaction that takes the items in."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from procrastinate import SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from finetuning_async.batch import JournalError, identity

if TYPE_CHECKING:
    import psycopg

    from finetuning_async.journal import Item
    from finetuning_async.postgres import PostgresStore

PLANNED_AT_ONCE: Final = 1000
"""Items without a job that are given one at a time."""

_JOBLESS: Final = """
SELECT seq FROM finetuning_item AS item
WHERE journal = %s AND state NOT IN ('downloaded', 'failed', 'held') AND NOT EXISTS (
    SELECT FROM procrastinate_jobs AS job
    WHERE task_name = %s AND job.status IN ('todo', 'doing')
    AND (args ->> 'seq')::bigint = item.seq
) ORDER BY seq LIMIT %s
"""


class Jobs:
    """Plans a job for each item.

    Args:
        queue: procrastinate's queue.
        prefix: What the task's name and the locks begin with.

    Attributes:
        queue: As given.
        task: The name of the task that processes an item.
    """

    def __init__(self, *, queue: str, prefix: str) -> None:
        self.queue = queue
        self.task = f"{prefix}.process_item"
        self._prefix = prefix

    def plan_jobless(self, store: PostgresStore, db: psycopg.Connection) -> None:
        """Give items a job that want one and have none."""
        given = (store.journal, self.task, PLANNED_AT_ONCE)
        found = db.execute(_JOBLESS, given).fetchall()
        self.plan(db, [store.get(seq) for (seq,) in found])

    def plan(self, db: psycopg.Connection, items: list[Item]) -> None:
        """Add a job for each item, in the transaction of a connection.

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
                f"no jobs could be planned ({error.__cause__ or error}); are"
                " procrastinate's tables there? (procrastinate schema --apply)"
            ) from error

    def _lock_of(self, item: Item) -> str | None:
        """What keeps jobs apart whose tracks would look alike in a list."""
        twins = identity(item)
        if twins is None:
            return None
        digest = blake2b(repr(twins).encode(), digest_size=16).hexdigest()
        return f"{self._prefix}.{digest}"
