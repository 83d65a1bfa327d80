"""The states of an account in rows of PostgreSQL, each locked by one program at a time.

The database frees the lock when the connection of its owner ends, or when its owner
sleeps with it. The table is not logged: a database that crashes has forgotten it all,
and the programs tell it again what they know. The clock is the database's; where it is
set back, that of a state goes on from where it was.
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
"""Milliseconds to wait for a program that has the lock, which takes a few; and after
which one that sleeps with it loses it."""

CONNECTS_WITHIN: Final = 2
"""Seconds; the least that libpq knows."""

TABLES: Final = 0x6674_7475
"""Of the advisory lock under which the table is made; any number that is ours."""

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
        self._turn = anyio.Lock(fast_acquire=True)  # one transaction at a time
        self._opened: psycopg.Connection | None = None
        self._opened_by = 0
        self._in_use: set[psycopg.Connection] = set()
        self._cutting = Lock()
        self._closer = weakref.finalize(self, _close, None, 0)

    def __repr__(self) -> str:
        return f"<PostgresStore {self._account}>"

    async def update(self, name: str, step: Step[T]) -> T:
        """As `StateStore.update`, in a thread, which ends when this is cancelled.

        Raises:
            psycopg.Error: The database cannot be used, or the row was not free in time.
        """
        async with self._turn:
            if has_virtual_clock():
                await anyio.lowlevel.checkpoint()
                return self._update(name, step)
            try:
                return await anyio.to_thread.run_sync(
                    self._update, name, step, abandon_on_cancel=True
                )
            except anyio.get_cancelled_exc_class():
                self._cut()
                raise

    def _cut(self) -> None:
        """Let a thread that waits for a database that hangs wait no more."""
        with self._cutting:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            if opened not in self._in_use:  # the thread had just ended
                opened.close()
                return
            with contextlib.suppress(OSError, psycopg.Error):
                number = os.dup(opened.fileno())
                with socket.socket(fileno=number) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def _update(self, name: str, step: Step[T]) -> T:
        db = self._connection()
        try:
            with db.transaction():
                return self._replace(db, name, step)
        except psycopg.Error:  # perhaps another database answers, without the table
            db.close()
            raise
        finally:
            with self._cutting:
                self._in_use.discard(db)
                if db is not self._opened:  # it was cut
                    db.close()

    def _replace(self, db: psycopg.Connection, name: str, step: Step[T]) -> T:
        row = (self._account, name)
        found = db.execute(READ, row).fetchone()
        if found is None:  # it is new, or the database crashed and has forgotten it
            db.execute(OPEN, row)
            found = db.execute(READ, row).fetchall()[0]
        before, at, ahead, told = found
        now = told + ahead if self._clock is None else self._clock()
        if now < at:
            ahead, now = ahead + at - now, at
        after, result = step(before, now)
        if after != before:
            db.execute(WRITE, (after, now, ahead, *row))
        return result

    def _connection(self) -> psycopg.Connection:
        """The connection of this process, now in use.

        A forked child has one of its own.
        """
        with self._cutting:
            opened, is_ours = self._opened, self._opened_by == os.getpid()
            if opened is not None and is_ours and not opened.closed:
                self._in_use.add(opened)
                return opened
        return self._keep(self._connected())

    def _connected(self) -> psycopg.Connection:
        opened = psycopg.connect(
            self._conninfo, autocommit=True, connect_timeout=CONNECTS_WITHIN
        )
        try:
            opened.execute(SESSION)
            _make_table(opened)
        except psycopg.Error:
            opened.close()
            raise
        return opened

    def _keep(self, opened: psycopg.Connection) -> psycopg.Connection:
        """Use it from here on; another one is closed, unless its thread will do so.

        There is another where a cancelled update was connecting as the next one began.
        """
        with self._cutting:
            before, was_ours = self._opened, self._opened_by == os.getpid()
            self._opened, self._opened_by = opened, os.getpid()
            self._in_use.add(opened)
            self._closer.detach()
            self._closer = weakref.finalize(self, _close, opened, os.getpid())
            if before is not None and was_ours and before not in self._in_use:
                before.close()
        return opened


def _close(opened: psycopg.Connection | None, process: int) -> None:
    """Close a connection of this process; that of a parent is the parent's."""
    if opened is not None and process == os.getpid():
        opened.close()


def _make_table(db: psycopg.Connection) -> None:
    found = db.execute("SELECT to_regclass('finetuning_states')").fetchone()
    if found == (None,):
        with db.transaction():
            # IF NOT EXISTS alone can fail where two programs begin at once.
            db.execute("SELECT pg_advisory_xact_lock(%s)", (TABLES,))
            db.execute(SCHEMA)
