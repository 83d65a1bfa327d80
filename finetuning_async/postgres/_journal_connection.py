"""A journal's connection to PostgreSQL: opened anew when lost, or after a fork."""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from finetuning_async.journal import JournalError
from finetuning_async.postgres import _journal_schema as schema

try:
    import psycopg as psycopg  # the store has it from here, with this hint
    from psycopg.conninfo import conninfo_to_dict
except ImportError as _missing:
    _HINT = (
        f"a journal in PostgreSQL needs {_missing.name or 'psycopg[binary]'}:"
        " pip install 'finetuning-async[procrastinate]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import LiteralString

T = TypeVar("T")

PATIENCE: Final = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
"""Seconds to connect, and milliseconds until data that is not acknowledged ends a
connection: without them a call may take as long as a host that vanished."""


class JournalConnection:
    """What a store's methods use; one at a time.

    Args:
        conninfo: How to connect, in libpq's form.
        journal: The journal's name.
    """

    def __init__(self, conninfo: str, journal: str) -> None:
        self._conninfo = conninfo
        self._journal = journal
        self._db: psycopg.Connection | None = None
        self._opened_by = 0
        self._closer = weakref.finalize(self, _close, None, 0)
        self._lock = RLock()

    def _connection(self) -> psycopg.Connection:
        """The connection of this process; a forked child opens its own."""
        if self._db is None or self._db.closed or self._opened_by != os.getpid():
            self._db = db = psycopg.connect(
                self._conninfo, autocommit=True, **self._patience()
            )
            self._opened_by = os.getpid()
            self._closer.detach()
            self._closer = weakref.finalize(self, _close, db, self._opened_by)
            # An intent that a crash of the database can undo would not be an intent.
            # Stricter settings, as for replicas, are kept.
            db.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        return self._db

    def _patience(self) -> dict[str, Any]:
        """Bounds on waiting for a host that is gone, unless `conninfo` sets them."""
        given = conninfo_to_dict(self._conninfo)
        return {name: value for name, value in PATIENCE.items() if name not in given}

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn psycopg's errors into ours; hold the connection's lock meanwhile.

        There is one connection for all threads, so a record made in one thread would
        otherwise join the transaction of another.
        """
        try:
            with self._lock:
                yield
        except psycopg.Error as error:
            raise JournalError(
                f"the journal could not be read or written: {error}",
                safe_to_retry=True,
            ) from error

    def transact(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Run a function with the connection, in one transaction.

        Raises:
            JournalError: The database refused.
        """
        with self._errors(), self._connection().transaction():
            return work(self._connection())

    def _rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query whose first parameter is the journal's name."""
        with self._errors():
            found = self._connection().execute(query, (self._journal, *values))
            return found.fetchall()

    def _lock_journal(self) -> None:
        """Let nobody else add items in this transaction: they get the next numbers."""
        # NO KEY: else others could not say that they live until it ends.
        self._rows("SELECT FROM finetuning_journal WHERE name = %s FOR NO KEY UPDATE")

    def now(self) -> float:
        """As `JournalStore.now`; the database's clock."""
        with self._errors():
            found = self._connection().execute(f"SELECT {schema.NOW}")
            return float(found.fetchall()[0][0])

    @contextmanager
    def _unsynced(self) -> Generator[None]:
        """A transaction that returns before it is on the disk."""
        with self._connection().transaction():
            self._connection().execute("SET LOCAL synchronous_commit = off")
            yield

    def close(self) -> None:
        """As `JournalStore.close`."""
        self._closer()


def _close(db: psycopg.Connection | None, process: int) -> None:
    """Close a connection that this process opened, not one of its parent."""
    if db is not None and process == os.getpid():
        db.close()
