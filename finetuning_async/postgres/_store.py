"""The states of an account in rows of PostgreSQL, each locked by one process at a time.

The database releases the lock when the connection of its owner ends, or when its owner
sleeps while it holds it. The table is unlogged: a database that crashes loses its
content, and the processes report what they know again. The clock is the database's; if
that is set back, the clock of a state goes on from where it was.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import psycopg

from finetuning_async._runtime import has_virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._coordination import Step

T = TypeVar("T")

SESSION: Final = """
SET lock_timeout = 500;
SET idle_in_transaction_session_timeout = 1000;
SET synchronous_commit = off;
"""
"""Milliseconds: how long to wait for a process that holds the lock (an update takes a
few), and after how long a process that sleeps while it holds it loses it."""

CONNECT_TIMEOUT: Final = 2
"""Seconds; the shortest that libpq accepts."""

SCHEMA_LOCK: Final = 0x6674_7475
"""The advisory lock under which the table is made; any number that is ours."""

SCHEMA: Final = """
CREATE UNLOGGED TABLE IF NOT EXISTS finetuning_states (
    account text,
    name text,
    state text,
    at double precision NOT NULL DEFAULT 0,
    ahead double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (account, name)
) WITH (fillfactor = 50)
"""
OPEN: Final = """
INSERT INTO finetuning_states (account, name) VALUES (%s, %s) ON CONFLICT DO NOTHING
"""
# The subquery comes first, so that the clock is read once the row is locked. The time
# before the wait for the lock could be older than what was written meanwhile.
READ: Final = """
WITH found AS MATERIALIZED (
    SELECT * FROM finetuning_states WHERE account = %s AND name = %s FOR UPDATE
)
SELECT state, at, ahead, extract(epoch FROM clock_timestamp())::float8 FROM found
"""
WRITE: Final = """
UPDATE finetuning_states SET state = %s, at = %s, ahead = %s
WHERE account = %s AND name = %s
"""


@attrs.define(eq=False)
class _Use:
    """What the thread of an update does with the connection.

    Attributes:
        connection: The one that it uses now.
        is_left: The update was cancelled: it may begin nothing more.
    """

    connection: psycopg.Connection | None = None
    is_left: bool = False

    def begin(self, connection: psycopg.Connection) -> psycopg.Connection:
        """Use a connection from here on.

        Raises:
            psycopg.OperationalError: The update was cancelled; nobody waits for this.
        """
        if self.is_left:
            raise psycopg.OperationalError("the update was cancelled")
        self.connection = connection
        return connection


class PostgresStore:
    """A `StateStore` in a database.

    Args:
        conninfo: As libpq takes it.
        account: The name of its rows.
        clock: Instead of the database's, for tests.
    """

    def __init__(
        self,
        conninfo: str,
        account: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._account = account
        self._clock = clock
        # One update at a time uses the connection. The thread of a cancelled one may go
        # on beside the next, but never on the same connection: see `_Use`.
        self._update_lock = anyio.Lock(fast_acquire=True)
        self._opened: psycopg.Connection | None = None
        self._opened_by = 0  # the id of the process
        # Guards what a thread and a cancelled update look at: `_opened` and `_Use`.
        self._lock = Lock()
        self._closer = weakref.finalize(self, _close, None, 0)

    def __repr__(self) -> str:
        return f"<PostgresStore {self._account}>"

    async def update(self, name: str, step: Step[T]) -> T:
        """As `StateStore.update`, in a thread, which ends when this is cancelled.

        Raises:
            psycopg.Error: The database cannot be used, or the row was not released in
                time.
        """
        async with self._update_lock:
            use = _Use()
            if has_virtual_clock():
                await anyio.lowlevel.checkpoint()
                return self._update(use, name, step)
            try:
                return await anyio.to_thread.run_sync(
                    self._update, use, name, step, abandon_on_cancel=True
                )
            except anyio.get_cancelled_exc_class():
                self._leave(use)
                raise

    def _leave(self, use: _Use) -> None:
        """Leave a thread, and end its wait for a database that does not respond.

        A blocking read in a thread cannot be cancelled, and `close` from another thread
        would not wake it. Shutting the socket down does: the read then fails.
        """
        with self._lock:
            use.is_left = True
            if use.connection is None:  # the thread connects, or has ended
                return
            self._opened = None
            with contextlib.suppress(OSError, psycopg.Error):
                number = os.dup(use.connection.fileno())  # the original is libpq's
                with socket.socket(fileno=number) as connection:
                    connection.shutdown(socket.SHUT_RDWR)

    def _update(self, use: _Use, name: str, step: Step[T]) -> T:
        db = self._connection(use)
        try:
            with db.transaction():
                return self._replace(db, name, step)
        except psycopg.Error:
            # Connect again next time: a failover may have led to a database without
            # the table, which is made on connecting.
            db.close()
            raise
        finally:
            with self._lock:
                use.connection = None
                if use.is_left:
                    db.close()

    def _replace(self, db: psycopg.Connection, name: str, step: Step[T]) -> T:
        row = (self._account, name)
        found = db.execute(READ, row).fetchone()
        if found is None:  # it is new, or the database crashed and lost it
            db.execute(OPEN, row)
            found = db.execute(READ, row).fetchall()[0]
        before, at, ahead, database_time = found
        now = database_time + ahead if self._clock is None else self._clock()
        if now < at:  # the database's clock was set back
            ahead, now = ahead + at - now, at
        after, result = step(before, now)
        if after != before:
            db.execute(WRITE, (after, now, ahead, *row))
        return result

    def _connection(self, use: _Use) -> psycopg.Connection:
        """Return the connection of this process, in use.

        A forked child opens its own: two processes on one connection would mix their
        messages.
        """
        with self._lock:
            opened = self._opened if self._opened_by == os.getpid() else None
            if opened is not None and not opened.closed:
                return use.begin(opened)
        opened = self._connect()
        with self._lock:
            try:
                use.begin(opened)
            except psycopg.Error:
                opened.close()
                raise
            self._opened, self._opened_by = opened, os.getpid()
            self._closer.detach()
            self._closer = weakref.finalize(self, _close, opened, os.getpid())
        return opened

    def _connect(self) -> psycopg.Connection:
        opened = psycopg.connect(
            self._conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT
        )
        try:
            opened.execute(SESSION)
            _make_table(opened)
        except psycopg.Error:
            opened.close()
            raise
        return opened


def _close(opened: psycopg.Connection | None, process: int) -> None:
    """Close a connection if this process opened it; else it is the parent's."""
    if opened is not None and process == os.getpid():
        opened.close()


def _make_table(db: psycopg.Connection) -> None:
    found = db.execute("SELECT to_regclass('finetuning_states')").fetchone()
    if found == (None,):
        with db.transaction():
            # IF NOT EXISTS alone can fail if two processes start at once.
            db.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
            db.execute(SCHEMA)
