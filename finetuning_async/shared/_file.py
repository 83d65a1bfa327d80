"""The book of an account in a SQLite file, opened by one process at a time.

The lock of the file is the kernel's, which frees it when its owner dies. WAL keeps the
book whole if it dies while writing. Nothing is forced to the disk: after a power cut
another boot begins, and another book.

The file is a cache. One that is damaged is deleted and made anew, by whoever finds it
so while holding the lock; the others see at their next turn that another file stands
in its place, as they do when somebody has deleted it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

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

logger = logging.getLogger("finetuning_async")

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


NO_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_AUTH,
    }
)
"""What SQLite says of the machine and of others; all else says something of the file,
for what it is asked to do never changes."""


class _Opened(NamedTuple):
    """A connection, and to which file, in which process."""

    book: sqlite3.Connection
    file: tuple[int, int]
    process: int


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
        self._opened: _Opened | None = None
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
            try:
                return self._turn(request)
            except (sqlite3.DatabaseError, IsADirectoryError) as error:
                if not _is_damage(error):
                    raise
                self._delete(error)
            return self._turn(request)

    def _turn(self, request: Request) -> Reply:
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
        """The connection of this process to the file that stands there now.

        A forked child has one of its own.
        """
        opened = self._opened
        if opened is not None and opened.process == os.getpid():
            if opened.file == _file_at(self._path):
                return opened.book
            opened.book.close()
        self._opened = None
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        book = sqlite3.connect(
            self._path,
            isolation_level=None,
            check_same_thread=False,
            timeout=LONGEST_LOCK,
        )
        try:
            self._set_up(book)
        except BaseException:
            book.close()
            raise
        self._opened = _Opened(book, _file_at(self._path), os.getpid())
        weakref.finalize(self, book.close)
        return book

    def _set_up(self, book: sqlite3.Connection) -> None:
        book.execute("PRAGMA journal_mode = WAL")
        book.execute("PRAGMA synchronous = OFF")
        book.execute(SCHEMA)
        book.execute("DELETE FROM book WHERE name != ?", (self._name,))

    def _delete(self, error: Exception) -> None:
        """Make place for a new file.

        Raises:
            OSError: A folder stands there, with something in it.
        """
        if self._opened is not None:
            self._opened.book.close()
            self._opened = None
        if self._path.is_dir():
            self._path.rmdir()
        for part in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + part).unlink(missing_ok=True)
        logger.warning(
            "the file of the shared rate limits was damaged (%s: %s) and is made anew:"
            " %s",
            type(error).__name__,
            error,
            self._path,
        )


def _is_damage(error: Exception) -> bool:
    """Whether an error is the file's own, and not of the machine, or of others."""
    if isinstance(error, sqlite3.ProgrammingError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in NO_DAMAGE


def _file_at(path: Path) -> tuple[int, int]:
    """What tells a file from another that takes its place; it has to be there.

    The number of a file that was deleted may be given to the next, but not while it is
    open here.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_dev, found.st_ino
