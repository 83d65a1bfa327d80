"""The connections of a SQLite journal: how many there are, forks, locks."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from finetuning_async.journal import _sqlite_file
from finetuning_async.journal._sqlite_file import SQLiteFile, _use_wal
from finetuning_async.journal._sqlite_journal import SQLiteJournal
from finetuning_async.journal._sqlite_store import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_of_two_threads_that_open_a_journal_one_leaves_no_connection(
    tmp_path: Path,
) -> None:
    journal, made = SQLiteJournal(tmp_path / "j.db"), list[SQLiteStore]()
    first = SQLiteStore(tmp_path / "j.db", "one")

    class Meanwhile(dict[str, Any]):
        def setdefault(self, key: str, value: Any = None) -> Any:
            made.append(value)
            return super().setdefault(key, first)

    journal._stores = Meanwhile()
    assert journal.open("one") is first
    assert first._file._db is not None
    assert made[0]._file._db is None
    first.close()


def test_before_a_fork_a_connection_is_closed_unless_it_writes(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    for is_open in (True, False):
        assert (store._file._db is not None) is is_open
        store._file.before_fork()
        assert store._file._db is None
        store._file.after_fork()
    with store._file.transaction() as db:
        store._file.before_fork()
        assert store._file._db is db
        store._file.after_fork()
    store.close()


class ForkingThread(threading.Thread):
    """Does what a fork does to files, and holds them until it may end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.has_them, self.may_end = threading.Event(), threading.Event()

    def run(self) -> None:
        _sqlite_file._before_fork()
        self.has_them.set()
        self.may_end.wait(5)
        _sqlite_file._after_fork()


def test_two_threads_that_fork_at_once_have_a_file_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    monkeypatch.setattr(_sqlite_file, "_open_files", weakref.WeakSet([store._file]))
    other = ForkingThread()
    _sqlite_file._before_fork()
    other.start()
    after_fork = SQLiteFile.after_fork

    def after_fork_and_the_other(file: SQLiteFile) -> None:
        after_fork(file)
        assert other.has_them.wait(5)

    monkeypatch.setattr(SQLiteFile, "after_fork", after_fork_and_the_other)
    _sqlite_file._after_fork()  # it lets go of its own file, not of the other's
    other.may_end.set()
    other.join(5)
    assert not other.is_alive()
    assert store.summary().total == 0
    store.close()


def test_a_file_that_is_opened_while_a_fork_waits_for_another_is_closed_for_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_file, "_open_files", weakref.WeakSet())
    first = SQLiteStore(tmp_path / "first.db", "one")
    forking = ForkingThread()
    with first._file.transaction():
        forking.start()
        time.sleep(0.05)  # it waits now
        second = SQLiteStore(tmp_path / "second.db", "one")
    assert forking.has_them.wait(5)
    assert not second._file._lock.acquire(blocking=False)
    forking.may_end.set()
    forking.join(5)
    for store in (first, second):
        assert store.summary().total == 0
        store.close()


@pytest.mark.parametrize(
    ("code", "attempts"), [(sqlite3.SQLITE_BUSY, 3), (sqlite3.SQLITE_FULL, 1)]
)
def test_only_a_file_that_another_uses_is_waited_for_when_it_is_set_up(
    code: int, attempts: int
) -> None:
    class Refusing(sqlite3.Connection):
        calls = 0

        def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
            self.calls += 1
            if self.calls < 3:
                error = sqlite3.OperationalError("no")
                error.sqlite_errorcode = code | 1 << 8  # an extended code
                raise error
            return super().execute(sql, parameters)

    with closing(sqlite3.connect(":memory:", factory=Refusing)) as db:
        with suppress(sqlite3.OperationalError):
            _use_wal(db)
        assert db.calls == attempts
