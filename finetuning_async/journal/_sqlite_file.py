"""A SQLite file that holds journals: opened, shared with other processes, forked.

WAL, and every commit on disk before it returns: with ``synchronous=NORMAL`` a power cut
may undo the last commits, and with them a `sending` whose create was paid. Deleted
content is overwritten, since lyrics and prompts are the caller's.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from threading import Lock, RLock
from typing import TYPE_CHECKING, Final

from finetuning_async.journal import _sqlite_schema as schema
from finetuning_async.journal._errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

logger = logging.getLogger("finetuning_async")

BUSY: Final = 30.0
"""Seconds to wait for a lock that another process holds: an `add` of many thousand rows
holds it for seconds."""

RETRY_EVERY: Final = 0.01
"""Seconds between attempts to switch a new file to WAL while others do the same."""

CHECKPOINT_AT: Final = 100
"""Pages of the write-ahead log at which it is copied into the database, and begun anew.
A commit that lengthens a file waits for the disk a second time, for the file's new
size: 0.3 ms more on an SSD. SQLite's own 1000 pages are the first 110 creates."""

SMALLEST: Final = 512
"""Bytes of the smallest database."""

MODE: Final = 0o600
PARTS: Final = ("", "-wal", "-shm")

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "free some space; nothing was written",
    sqlite3.SQLITE_IOERR: "check the disk; nothing was written",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {BUSY:.0f} s",
    sqlite3.SQLITE_READONLY: "its folder and the file must be writable",
    sqlite3.SQLITE_CANTOPEN: "its folder and the file must be writable",
    sqlite3.SQLITE_PERM: "its folder and the file must be writable",
}
_DAMAGED: Final = "the file is damaged. Restore a copy if there is one, or move it away"

_creating = Lock()
_registering = Lock()
_open_files: weakref.WeakSet[SQLiteFile] = weakref.WeakSet()
_left_to_parents: list[sqlite3.Connection] = []
"""Connections that a fork has copied; to close or use them here would damage files."""


class SQLiteFile:
    """A file with journals, and this process's connection to it.

    Only one thread uses it at a time.

    Args:
        path: The file; created if needed, readable by its owner only.
        read_only: Whether only to read, beside a process that writes.
        clock: The time in seconds since 1970.
        advice: What to do with a damaged file.

    Attributes:
        is_outdated: Whether an earlier version wrote it; only where it is read only.

    Raises:
        JournalError: It cannot be opened, or a newer version wrote it.
    """

    def __init__(
        self, path: Path, *, read_only: bool, clock: Callable[[], float], advice: str
    ) -> None:
        self._path = path.absolute()
        self._read_only = read_only
        self._clock = clock
        self._advice = advice
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._opened_by = 0
        self._identity = (0, 0)
        self.is_outdated = False
        with _registering:  # before it is opened: a fork waits until that is done
            _open_files.add(self)
        with self.connection():
            pass

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection]:
        """The connection, for this thread alone while the block runs.

        Raises:
            JournalError: For any error of SQLite.
        """
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                raise JournalError(
                    f"the journal {self._path} could not be read or written: {error}"
                    f"{self._advice_for(error)}"
                ) from error

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """The same in a transaction, which an error undoes."""
        with self.connection() as db:
            self._check_place()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back after some errors, such as a full disk.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def unsynced_transaction(self) -> Generator[sqlite3.Connection]:
        """The same, on disk only with the next commit: a power cut may undo it."""
        with self.connection() as db:
            db.execute("PRAGMA synchronous = NORMAL")
            try:
                with self.transaction():
                    yield db
            finally:
                db.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None and self._opened_by == os.getpid():
                db.close()

    def _check_place(self) -> None:
        # What is committed to a file that was deleted is lost when it is closed.
        if _identity(self._path) != self._identity:
            raise JournalError(
                f"the journal {self._path} was deleted, moved or replaced while it was"
                " open; put it back, and start the program again"
            )

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._opened_by != os.getpid():
            # Forked within a transaction, so that it could not be closed before.
            _left_to_parents.append(self._db)
            self._db = None
        if self._db is None:
            self._db = self._open()
            self._opened_by = os.getpid()
        return self._db

    def _open(self) -> sqlite3.Connection:
        if not self._read_only:
            self._create()
        mode = "ro" if self._read_only else "rw"
        db = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY,
            isolation_level=None,  # each statement commits, outside `transaction`
            check_same_thread=False,  # `_lock` lets one thread use it at a time
        )
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._identity = _identity(self._path)
        return db

    def _create(self) -> None:
        """Create the file, because SQLite would make it readable for other users.

        SQLite gives ``-wal`` and ``-shm`` the mode of the file.
        """
        try:
            # One thread at a time, since closing a file releases all locks that this
            # process has on it, even those of other connections.
            with _creating, suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE))
        except OSError as error:
            raise JournalError(
                f"the journal {self._path} could not be created:"
                f" {error.strerror or error}; its folder must exist and be writable"
            ) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        # In one transaction, so that what is read is not half of what another process
        # has just created.
        db.execute("BEGIN")
        try:
            version = self._version(db)
        finally:
            db.execute("ROLLBACK")
        if self._read_only:
            self.is_outdated = version < schema.VERSION
            if self.is_outdated:
                schema.show_as_current(db)
            return
        _use_wal(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_AT}")
        db.execute("PRAGMA secure_delete = ON")
        if version == schema.VERSION:
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            version = self._version(db)  # another process may have been faster
            if version == 0:
                schema.create(db)
            elif version < schema.VERSION:
                schema.migrate(db, version, self._clock())
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if 0 < version < schema.VERSION:
            self._clean_up(db)

    def _version(self, db: sqlite3.Connection) -> int:
        """The version that wrote the file; 0 for a new one.

        Raises:
            JournalError: It is newer than this, or the file is no journal.
        """
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        tables = {name for (name,) in db.execute("SELECT name FROM main.sqlite_master")}
        is_journal = version >= schema.OLDEST_VERSION and {"item", "note"} <= tables
        is_new = version == 0 and not tables and not self._is_text()
        if not is_journal and (self._read_only or not is_new):
            raise JournalError(
                f"{self._path} is not a journal, but a file of another program; give"
                " another path"
            )
        if version > schema.VERSION:
            raise JournalError(
                f"{self._path} was written by a newer version of finetuning-async"
                f" (journal format {version}, this one reads up to {schema.VERSION});"
                " upgrade it"
            )
        return version

    def _is_text(self) -> bool:
        """Whether the file is so short that SQLite would take it for an empty one."""
        return 0 < self._path.stat().st_size < SMALLEST

    def _clean_up(self, db: sqlite3.Connection) -> None:
        """Let nothing that a migration removed stay on the disk, nor be readable."""
        try:
            db.execute("VACUUM")  # pages that were free before may hold copies
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            for part in PARTS:
                with suppress(FileNotFoundError):
                    os.chmod(f"{self._path}{part}", MODE)  # noqa: PTH101 - not one path
        except (sqlite3.Error, OSError) as error:
            logger.warning(
                "%s was migrated, but copies of what was removed may be left in it: %s",
                self._path,
                error,
            )

    def _advice_for(self, error: sqlite3.Error) -> str:
        """What to do about an error."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _ADVICE:
            return f"; {_ADVICE[code & 0xFF]}"
        # Only SQLite's "malformed" and "not a database" arrive as the plain
        # DatabaseError. Its subclasses speak of a lock or a broken rule.
        if type(error) is sqlite3.DatabaseError:
            return f"; {_DAMAGED}{self._advice}"
        return ""

    def before_fork(self) -> None:
        """Close the connection, since SQLite's locks do not survive a fork.

        The child would believe to hold locks that only its parent has.
        """
        self._lock.acquire()
        if self._db is not None and not self._db.in_transaction:
            self.close()

    def after_fork(self) -> None:
        """Parent and child open a connection of their own when they need one."""
        self._lock.release()


def _use_wal(db: sqlite3.Connection) -> None:
    # SQLite does not wait for others here, as it does everywhere else. This runs in a
    # worker thread, where no event loop has a clock.
    until = time.monotonic() + BUSY
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > until:
                raise
            time.sleep(RETRY_EVERY)
        else:
            return


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


class _Closed(threading.local):
    """What the running thread has closed for its fork; others may fork meanwhile."""

    def __init__(self) -> None:
        self.files: list[SQLiteFile] = []


_closed_for_fork = _Closed()


def _before_fork() -> None:
    """Close all files, and let no thread open another before the fork is made."""
    held = _closed_for_fork.files
    while True:
        with _registering:
            files = sorted(_open_files, key=id)  # in one order for all threads
        for file in files:
            file.before_fork()
            held.append(file)
        _registering.acquire()
        if all(file in held for file in _open_files):
            return
        _after_fork()  # one was opened while this waited for another


def _after_fork() -> None:
    _registering.release()
    while _closed_for_fork.files:
        _closed_for_fork.files.pop().after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork,
    )
