"""The book of an account in a row of PostgreSQL, locked by one program at a time.

The database frees the lock when the connection of its owner ends, or when its owner
sleeps with it. The table is not logged: a database that crashes has forgotten the book,
and the programs tell it again what they know. The clock is the database's; where it is
set back, the book's goes on from where it was.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import psycopg

from finetuning_async._store_book import turn_page
from finetuning_async._threads import clock_jumps

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from finetuning_async._store_words import Reply, Request

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
CREATE UNLOGGED TABLE IF NOT EXISTS finetuning_turns (
    account text PRIMARY KEY,
    text text,
    at double precision NOT NULL DEFAULT 0,
    ahead double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50)
"""
OPEN: Final = (
    "INSERT INTO finetuning_turns (account) VALUES (%s) ON CONFLICT DO NOTHING"
)
READ: Final = """
WITH page AS MATERIALIZED (
    SELECT * FROM finetuning_turns WHERE account = %s FOR UPDATE
)
SELECT text, at, ahead, extract(epoch FROM clock_timestamp())::float8 FROM page
"""
WRITE: Final = (
    "UPDATE finetuning_turns SET text = %s, at = %s, ahead = %s WHERE account = %s"
)


class TurnsTable:
    """A store in a database; see `Store`.

    Args:
        conninfo: As libpq takes it.
        account: The name of its row.
        rng: Where jitter and names come from.
        clock: Instead of the database's, for tests.
    """

    def __init__(
        self,
        conninfo: str,
        account: str,
        rng: random.Random,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._account = account
        self._rng = rng
        self._clock = clock
        self._opened: psycopg.Connection | None = None
        self._opened_by = 0
        self._closer = weakref.finalize(self, _close, None, 0)

    def __repr__(self) -> str:
        return f"<TurnsTable {self._account}>"

    async def exchange(self, request: Request) -> Reply:
        """As `Store.exchange`, in a thread, which ends when this is cancelled.

        Raises:
            psycopg.Error: The database cannot be used, or the row was not free in time.
        """
        if clock_jumps():
            await anyio.lowlevel.checkpoint()
            return self._exchange(request)
        try:
            return await anyio.to_thread.run_sync(
                self._exchange, request, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            self._cut()
            raise

    def _cut(self) -> None:
        """Let a thread that waits for a database that hangs wait no more."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with contextlib.suppress(OSError, psycopg.Error):
                number = os.dup(opened.fileno())
                with socket.socket(fileno=number) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def _exchange(self, request: Request) -> Reply:
        book = self._book()
        try:
            with book.transaction():
                return self._turn_page(book, request)
        except psycopg.Error:  # perhaps another database answers, without the table
            book.close()
            raise

    def _turn_page(self, book: psycopg.Connection, request: Request) -> Reply:
        row = book.execute(READ, (self._account,)).fetchone()
        if row is None:  # it is new, or the database crashed and has forgotten it
            book.execute(OPEN, (self._account,))
            row = book.execute(READ, (self._account,)).fetchall()[0]
        text, at, ahead, told = row
        now = told + ahead if self._clock is None else self._clock()
        if now < at:
            ahead, now = ahead + at - now, at
        text, reply = turn_page(text, request, now=now, rng=self._rng)
        book.execute(WRITE, (text, now, ahead, self._account))
        return reply

    def _book(self) -> psycopg.Connection:
        """The connection of this process; a forked child has one of its own."""
        opened = self._opened
        if opened is None or opened.closed or self._opened_by != os.getpid():
            opened = psycopg.connect(
                self._conninfo, autocommit=True, connect_timeout=CONNECTS_WITHIN
            )
            self._closer.detach()
            self._closer = weakref.finalize(self, _close, opened, os.getpid())
            opened.execute(SESSION)
            _make_table(opened)
            self._opened, self._opened_by = opened, os.getpid()
        return opened


def _close(opened: psycopg.Connection | None, process: int) -> None:
    """Close a connection of this process; that of a parent is the parent's."""
    if opened is not None and process == os.getpid():
        opened.close()


def _make_table(book: psycopg.Connection) -> None:
    found = book.execute("SELECT to_regclass('finetuning_turns')").fetchone()
    if found == (None,):
        with book.transaction():
            # IF NOT EXISTS alone can fail where two programs begin at once.
            book.execute("SELECT pg_advisory_xact_lock(%s)", (TABLES,))
            book.execute(SCHEMA)
