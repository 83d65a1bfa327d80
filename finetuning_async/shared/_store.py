"""The states of an account in a SQLite file, used by one process at a time.

The lock of the file is the kernel's, which releases it when its owner dies. WAL keeps
the states intact if a process dies while writing. Nothing is forced to the disk: after
a power cut another boot begins, and the states of earlier boots are discarded anyway.

The file is a cache. A process that finds it damaged while it holds the lock deletes and
replaces it. The others notice at their next update that another file is in its place,
as they do when a user has deleted it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import anyio

from finetuning_async._runtime import in_thread

try:
    from filelock import FileLock
except ImportError as _missing:
    _HINT = (
        f"finetuning_async.shared needs {_missing.name}:"
        " pip install 'finetuning-async[shared]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async._coordination import Step
    from finetuning_async.shared._clock import Clock

logger = logging.getLogger("finetuning_async")

T = TypeVar("T")

LONGEST_LOCK: Final = 0.5
"""Seconds to wait for a process that holds the lock; an update takes milliseconds."""

LOCK_POLL_INTERVAL: Final = 0.001
"""Seconds between two attempts to take the lock."""

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS states (
        boot TEXT, name TEXT, state TEXT NOT NULL, PRIMARY KEY (boot, name)
    ) STRICT
"""
READ: Final = "SELECT state FROM states WHERE boot = ? AND name = ?"
WRITE: Final = """
    INSERT INTO states VALUES (?, ?, ?)
    ON CONFLICT (boot, name) DO UPDATE SET state = excluded.state
"""

NOT_DAMAGE: Final = frozenset(
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
"""Error codes about the machine or other processes. All others mean a damaged file,
because the statements never change."""


class _Opened(NamedTuple):
    """A connection, with the file and the process that it belongs to."""

    db: sqlite3.Connection
    file: tuple[int, int]
    process: int


class FileStore:
    """A `StateStore` in a file of this machine.

    Args:
        path: The file; its folder is created if necessary.
        clock: The clock of the machine.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._boot = clock.name
        self._opened: _Opened | None = None
        self._lock = FileLock(path.with_suffix(".lock"), mode=0o600, thread_local=False)
        # The file lock is the process's: it does not exclude threads of this process.
        self._thread_lock = anyio.Lock(fast_acquire=True)

    def __repr__(self) -> str:
        return f"<FileStore {self._path.name}>"

    async def update(self, name: str, step: Step[T]) -> T:
        """As `StateStore.update`, in a thread.

        Raises:
            OSError: The file cannot be used, or its lock was not released in time.
            sqlite3.Error: Likewise.
        """
        async with self._thread_lock:
            return await in_thread(self._update, name, step)

    def _update(self, name: str, step: Step[T]) -> T:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.acquire(timeout=LONGEST_LOCK, poll_interval=LOCK_POLL_INTERVAL):
            try:
                return self._replace(name, step)
            except (sqlite3.DatabaseError, IsADirectoryError) as error:
                if not _is_damage(error):
                    raise
                # Deleted while the lock is held, so that the others, which wait for
                # it, find the new file and delete nothing.
                self._delete(error)
            return self._replace(name, step)

    def _replace(self, name: str, step: Step[T]) -> T:
        db = self._connection()
        row = db.execute(READ, (self._boot, name)).fetchone()
        before = None if row is None else row[0]
        after, result = step(before, self._clock.now())
        if after != before:
            db.execute(WRITE, (self._boot, name, after))
        return result

    def _connection(self) -> sqlite3.Connection:
        """Return this process's connection to the file that is there now.

        A forked child opens its own: SQLite's locks do not survive a fork, and the
        connection is the parent's to close.
        """
        opened = self._opened
        if opened is not None and opened.process == os.getpid():
            if opened.file == _file_at(self._path):
                return opened.db
            opened.db.close()
        self._opened = None
        # Created here, because SQLite would make it readable for other users.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(
            self._path,
            isolation_level=None,
            check_same_thread=False,
            timeout=LONGEST_LOCK,
        )
        try:
            self._set_up(db)
        except BaseException:
            db.close()
            raise
        self._opened = _Opened(db, _file_at(self._path), os.getpid())
        weakref.finalize(self, db.close)
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(SCHEMA)
        db.execute("DELETE FROM states WHERE boot != ?", (self._boot,))

    def _delete(self, error: Exception) -> None:
        """Delete a damaged file, so that a new one can be made.

        Raises:
            OSError: A folder is in its place, and it is not empty.
        """
        if self._opened is not None:
            self._opened.db.close()
            self._opened = None
        if self._path.is_dir():
            self._path.rmdir()
        for part in ("", "-wal", "-shm", "-journal"):
            self._path.with_name(self._path.name + part).unlink(missing_ok=True)
        logger.warning(
            "the file of the shared rate limits was damaged (%s: %s); it was deleted"
            " and is being replaced: %s",
            type(error).__name__,
            error,
            self._path,
        )


def _is_damage(error: Exception) -> bool:
    """Whether an error means that the file itself is damaged."""
    if isinstance(error, sqlite3.ProgrammingError):  # a mistake of this module
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in NOT_DAMAGE


def _file_at(path: Path) -> tuple[int, int]:
    """Return the identity of a file, to notice another one in its place.

    The inode number of a deleted file may be used again, but not while the file is open
    here.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_dev, status.st_ino
