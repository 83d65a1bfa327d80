"""A lock that one process holds in a database, until it ends or its connection does."""

from __future__ import annotations

import psycopg

from finetuning_async.journal import JournalError
from finetuning_async.postgres._journal_connection import PATIENCE

_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"


class RunnerLock:
    """Lets one runner at a time work on a batch, on whichever machine.

    A runner whose connection is lost goes on without it. Another one may start then:
    what the first had sent is in doubt to it, and is looked up before it is sent again.

    Args:
        conninfo: How to connect, as for `PostgresStore`.
        name: Of the batch.
    """

    def __init__(self, conninfo: str, name: str) -> None:
        self._conninfo = conninfo
        self._name = name
        self._db: psycopg.Connection | None = None

    def acquire(self) -> bool:
        """Take the lock; `False` if another process has it.

        Raises:
            JournalError: The database cannot be used.
        """
        try:
            self._db = psycopg.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=PATIENCE["connect_timeout"],
            )
            row = self._db.execute(_TAKE, (self._name,)).fetchone()
        except psycopg.Error as error:
            self.close()
            text = f"the database of the journal cannot be used: {error}"
            raise JournalError(text) from None
        if row is None or not row[0]:
            self.close()
        return self._db is not None

    def close(self) -> None:
        """Release it."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
