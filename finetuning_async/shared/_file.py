"""The book of an account in a SQLite file, opened by one process at a time.

The lock of the file is the kernel's, which frees it when its owner dies. WAL keeps the
book whole if it dies while writing. Nothing is forced to the disk: after a power cut
another boot begins, and another book.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from typing import TYPE_CHECKING, Final

from finetuning_async._store_book import turn_page
from finetuning_async._threads import in_thread

try:
    from filelock import FileLock
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.shared needs {_missing.name}:"
        " pip install 'finetuning-async[shared]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from finetuning_async._store_words import Reply, Request
    from finetuning_async.shared._clock import Clock

LONGEST_LOCK: Final = 0.5
"""Seconds to wait for a process that holds the lock; an exchange takes milliseconds."""

POLL: Final = 0.001
"""Seconds between two looks at the lock."""

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS book (
        name TEXT PRIMARY KEY, text TEXT NOT NULL
    ) STRICT
"""
PUT: Final = """
    INSERT INTO book VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET text = excluded.text
"""


class FileStore:
    """A store in a file of this machine.

    Args:
        path: The file; its folder is made if need be.
        clock: Of the machine.
        rng: Where jitter and names come from.
    """

    def __init__(self, path: Path, clock: Clock, rng: random.Random) -> None:
        self._path = path
        self._clock = clock
        self._rng = rng
        self._name = clock.name
        self._opened: sqlite3.Connection | None = None
        self._opened_by = 0
        self._lock = FileLock(path.with_suffix(".lock"), mode=0o600, thread_local=False)

    def __repr__(self) -> str:
        return f"<FileStore {self._path.name}>"

    async def exchange(self, request: Request) -> Reply:
        """As `Store.exchange`, in a thread.

        Raises:
            OSError: The file cannot be used, or its lock was not free in time.
            sqlite3.Error: Likewise.
        """
        return await in_thread(self._exchange, request)

    def _exchange(self, request: Request) -> Reply:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.acquire(timeout=LONGEST_LOCK, poll_interval=POLL):
            book = self._book()
            found = book.execute(
                "SELECT text FROM book WHERE name = ?", (self._name,)
            ).fetchone()
            text, reply = turn_page(
                None if found is None else found[0],
                request,
                now=self._clock.now(),
                rng=self._rng,
            )
            book.execute(PUT, (self._name, text))
        return reply

    def _book(self) -> sqlite3.Connection:
        """The connection of this process; a forked child has one of its own."""
        if self._opened is None or self._opened_by != os.getpid():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._opened = opened = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._opened_by = os.getpid()
            weakref.finalize(self, opened.close)
            opened.execute("PRAGMA journal_mode = WAL")
            opened.execute("PRAGMA synchronous = OFF")
            opened.execute(SCHEMA)
            opened.execute("DELETE FROM book WHERE name != ?", (self._name,))
        return self._opened
