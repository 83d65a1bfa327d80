"""One connection to a database for all threads of a process.

A commit is on the database's disk before it returns, even where its default for
``synchronous_commit`` is ``off``.

Needs psycopg: ``pip install 'finetuning-async[procrastinate]'``.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from finetuning_async.journal import JournalError

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
except ImportError as _missing:
    _HINT = (
        f"a journal in PostgreSQL needs {_missing.name or 'psycopg[binary]'}:"
        " pip install 'finetuning-async[procrastinate]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import LiteralString

PATIENCE: Final = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
"""Seconds to connect, and milliseconds until data that is not acknowledged ends a
connection: without them a call may take as long as a host that vanished."""

_connections: weakref.WeakSet[PostgresConnection] = weakref.WeakSet()


class PostgresConnection:
    """A connection that is made at its first use, and again after it was lost.

    Args:
        conninfo: How to connect, in libpq's form: a URL or ``host=...``; empty for the
            environment's ``PGHOST`` and so on.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._db: psycopg.Connection | None = None
        self._opened_by = 0
        self._closer = weakref.finalize(self, _close, None, 0)
        self._lock = RLock()
        _connections.add(self)

    @contextmanager
    def use(self) -> Generator[psycopg.Connection]:
        """The connection, for this thread alone while the block runs.

        There is one for all threads, so a record made in one thread would otherwise
        join the transaction of another.

        Raises:
            JournalError: For any error of psycopg.
        """
        try:
            with self._lock, _closing_if_cut_off(self.opened()) as db:
                yield db
        except psycopg.Error as error:
            raise JournalError(
                f"the journal could not be read or written: {error}",
                safe_to_retry=True,
            ) from error

    @contextmanager
    def transaction(self) -> Generator[psycopg.Connection]:
        """The same in a transaction, which an error undoes."""
        with self.use() as db, db.transaction(), _closing_if_cut_off(db):
            yield db

    @contextmanager
    def unsynced_transaction(self) -> Generator[psycopg.Connection]:
        """The same, which returns before it is on the disk."""
        with self.transaction() as db:
            db.execute("SET LOCAL synchronous_commit = off")
            yield db

    def close(self) -> None:
        """Close it; the next use opens a new one."""
        self._closer()

    def opened(self) -> psycopg.Connection:
        """The connection of this process, whose errors stay psycopg's; within `use`.

        A forked child opens its own.
        """
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

    def after_fork(self) -> None:
        """In a child: no thread of its own holds the lock that it has copied."""
        self._lock = RLock()


class JournalPart:
    """A part of a store: queries of one journal in a database.

    Args:
        connection: The store's.
        journal: The journal's name.
    """

    def __init__(self, connection: PostgresConnection, journal: str) -> None:
        self._connection = connection
        self._journal = journal

    def _rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query whose first parameter is the journal's name."""
        with self._connection.use() as db:
            return db.execute(query, (self._journal, *values)).fetchall()


@contextmanager
def _closing_if_cut_off(db: psycopg.Connection) -> Generator[psycopg.Connection]:
    """Close a connection whose query was cut off, so that the next use opens another.

    The handler of a signal may raise in the middle of a query: `SystemExit` for a
    SIGTERM, or a test's timeout. psycopg sees to Ctrl-C alone. After others the query
    still runs: a rollback, and all that follows, would fail with "another command is
    already in progress". The server rolls back for a client that is gone.
    """
    try:
        yield db
    except BaseException:
        if db.info.transaction_status is TransactionStatus.ACTIVE:
            db.close()
        raise


def _close(db: psycopg.Connection | None, process: int) -> None:
    """Close a connection that this process opened, not one of its parent."""
    if db is not None and process == os.getpid():
        db.close()


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        connection.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
