"""The file of a SQLite journal: who may read it, what goes wrong with it, forks."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from finetuning_async.journal._errors import JournalError
from finetuning_async.journal._records import Item
from finetuning_async.journal._sqlite_file import SMALLEST
from finetuning_async.journal._sqlite_journal import SQLiteJournal
from finetuning_async.journal._sqlite_schema import VERSION
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import Entry
from finetuning_async.journal._store import Delete, Insert
from tests.journal._items import inserted, items, new

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from finetuning_async.journal._records import NewItem

NOBODY = 65534
LYRICS = '{"lyrics": "' + "la " * 3000 + '", "tags": "rain"}'


def modes(folder: Path) -> dict[str, int]:
    return {part.name: stat.S_IMODE(part.stat().st_mode) for part in folder.iterdir()}


def test_only_its_owner_can_read_a_journal(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = SQLiteStore(tmp_path / "j.db", "one")
        inserted(store, "1")
    finally:
        os.umask(before)
    assert modes(tmp_path) == {"j.db": 0o600, "j.db-wal": 0o600, "j.db-shm": 0o600}
    store.close()


def test_the_mode_that_a_person_gave_stays(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    SQLiteStore(path).close()
    path.chmod(0o640)
    store = SQLiteStore(path)
    inserted(store, "1")
    assert set(modes(tmp_path).values()) == {0o640}
    store.close()


def test_a_deleted_item_is_in_no_byte_of_the_file(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    (item,) = store.commit([insert("1", '{"tags": "s3cret-words"}')])
    assert isinstance(item, Item)
    store.commit([Delete(item)])
    store.close()  # the last to close it writes the WAL back
    assert b"s3cret-words" not in (tmp_path / "j.db").read_bytes()


def insert(key: str, body: str) -> Insert:
    return Insert(attrs.evolve(new(key), body=body))


# What cannot be used.


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    SQLiteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    for read_only in (False, True):
        with pytest.raises(JournalError, match=r"j\.db .*newer version.* upgrade it"):
            SQLiteStore(path, read_only=read_only)


@pytest.mark.parametrize("content", [b"no database" * 100, b"x", b"\0" * 5000])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"j\.db .*(move it away|another path)"):
        SQLiteStore(path, "one")
    assert path.read_bytes() == content


@pytest.mark.parametrize("version", [0, 1, VERSION])
def test_a_database_of_another_program_is_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "j.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE customer (name TEXT)")
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(JournalError, match="file of another program; give another"):
            SQLiteStore(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["nothing", "no table"])
def test_an_empty_file_becomes_a_journal(tmp_path: Path, content: str) -> None:
    (tmp_path / "j.db").touch()
    if content == "no table":
        with closing(sqlite3.connect(tmp_path / "j.db")) as db:
            db.execute("PRAGMA page_size = 512")
            db.execute("VACUUM")
        assert (tmp_path / "j.db").stat().st_size == SMALLEST
    store = SQLiteStore(tmp_path / "j.db", "one")
    inserted(store, "1")
    store.close()


@pytest.mark.parametrize("place", [".", "missing/j.db", "file/j.db"])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"its folder .*must"):
        SQLiteStore(tmp_path / place, "one")


@contextmanager
def _unprivileged_folder() -> Generator[Path]:
    """A folder, used as a user whom its permissions bind; root is not bound."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield folder
    finally:
        folder.chmod(0o700)
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_read_only_folder_is_refused_when_a_journal_is_to_be_made_there() -> None:
    with _unprivileged_folder() as folder:
        folder.chmod(0o500)
        with pytest.raises(JournalError, match=r"Permission denied; its folder must"):
            SQLiteStore(folder / "j.db", "one")
        assert list(folder.iterdir()) == []


def test_a_journal_in_a_read_only_folder_is_refused() -> None:
    with _unprivileged_folder() as folder:
        store = SQLiteStore(folder / "j.db", "one")
        inserted(store, "1")
        store.close()
        (folder / "j.db").chmod(0o400)
        folder.chmod(0o500)
        with pytest.raises(JournalError, match=r"its folder and the file must be wri"):
            inserted(SQLiteStore(folder / "j.db", "one"), "2")


def test_a_journal_on_a_full_disk_takes_nothing_more_and_loses_nothing(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    first = inserted(store, "0")
    with store._file.connection() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 4}")
    taken = ["0"]

    def fill() -> None:
        while True:
            store.commit([insert(str(len(taken)), LYRICS)])
            taken.append(str(len(taken)))

    with pytest.raises(JournalError, match="full; free some space; nothing was writt"):
        fill()
    assert [item.key for item in store.rows()] == taken
    with store._file.connection() as db:
        db.execute("PRAGMA max_page_count = 100000")  # space was freed
    assert store.record(first, Entry(state="sending")).entry.state == "sending"
    store.close()


def _on_small_disk(folder: str) -> None:
    """Fill a journal, in a process whose files may not get larger than 200 kB."""
    store = SQLiteStore(Path(folder) / "j.db", "one")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    for number in range(100):
        try:
            store.commit([insert(f"{number}", LYRICS)])
        except JournalError as error:
            sys.stdout.write(f"{number} {error}")
            sys.stdout.flush()
            os._exit(0)
    os._exit(1)


def test_what_was_committed_before_the_disk_was_full_can_be_read(
    tmp_path: Path,
) -> None:
    program = (
        "from tests.journal.test_sqlite_files import _on_small_disk as run;"
        f"run({str(tmp_path)!r})"
    )
    ended = subprocess.run(
        [sys.executable, "-uc", program], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    count, _, message = ended.stdout.partition(" ")
    assert "nothing was written" in message
    store = SQLiteStore(tmp_path / "j.db", "one")
    assert [item.key for item in store.rows()] == [str(n) for n in range(int(count))]
    store.close()


def test_a_file_that_was_deleted_or_replaced_takes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    store = SQLiteStore(path, "one")
    inserted(store, "1")
    path.rename(tmp_path / "moved.db")
    with pytest.raises(JournalError, match="deleted, moved or replaced while"):
        inserted(store, "2")
    SQLiteStore(path, "one").close()  # another one is in its place
    with pytest.raises(JournalError, match="deleted, moved or replaced while"):
        inserted(store, "2")
    store.close()


# Many processes, threads and forks.

_BEGIN = """
import sys
from pathlib import Path
from finetuning_async.journal._sqlite_store import SQLiteStore
from tests.journal._items import inserted
store = SQLiteStore(Path(sys.argv[1]), f"account {int(sys.argv[2]) % 2}")
sys.stdin.readline()
for n in range(10):
    inserted(store, f"{sys.argv[2]}-{n}")
    inserted(store, f"shared-{n}")
    store.beat(sys.argv[2], 60.0)
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("opens_at_once", [True, False])
def test_processes_that_begin_at_once_share_one_new_file(
    tmp_path: Path, opens_at_once: bool
) -> None:
    path = tmp_path / "j.db"
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", _BEGIN, str(path), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    if not opens_at_once:
        time.sleep(2.0)  # all have opened it, and write at once
    for process in begun:
        _, errors = process.communicate("\n", timeout=60)
        assert process.returncode == 0, errors
    for account in (0, 1):
        store = SQLiteStore(path, f"account {account}")
        assert store.summary().total == 2 * 10 + 10
        assert all(store.is_alive(str(n)) for n in range(account, 4, 2))
        store.close()


def test_threads_open_one_new_file_at_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def begin(number: int) -> None:
        barrier.wait()
        store = SQLiteStore(tmp_path / "j.db", f"account {number % 2}")
        for n in range(10):
            inserted(store, f"{number}-{n}")
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    store = SQLiteStore(tmp_path / "j.db", "account 0")
    assert store.summary().total == 40
    store.close()


class Interrupted(sqlite3.Connection):
    """A connection beside which another one makes the file between two reads."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        found = super().execute(sql, *values)
        if sql == "PRAGMA user_version" and self.on_version is not None:
            interrupt, self.on_version = self.on_version, None
            interrupt()
        return found

    on_version: Callable[[], object] | None = None


def test_a_file_that_another_program_makes_while_it_is_opened_is_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.db"
    connect = sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, factory=Interrupted, **options)
        monkeypatch.setattr(sqlite3, "connect", connect)
        assert isinstance(db, Interrupted)
        db.on_version = other_opens
        return db

    def other_opens() -> None:
        other.start()
        other.join(0.3)  # unless it has to wait for us

    other = threading.Thread(target=lambda: SQLiteStore(path, "other").close())

    monkeypatch.setattr(sqlite3, "connect", connected)
    store = SQLiteStore(path, "one")
    inserted(store, "1")
    other.join()
    assert store.summary().total == 1
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_child_and_its_parent_go_on_with_one_journal(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    inserted(store, "before")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for n in range(20):
                inserted(store, f"child-{n}")
            status = 0
        finally:
            os._exit(status)  # as a child that is killed: it closes nothing
    for n in range(20):
        inserted(store, f"parent-{n}")
    # The last to close a file deletes its WAL, unless it knows that others use it.
    store.close()
    store = SQLiteStore(tmp_path / "j.db", "one")
    inserted(store, "after")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.summary().total == 1 + 20 + 20 + 1
    store.close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_child_forked_within_a_transaction_has_no_part_in_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    statuses = []

    def seen_by_a_child() -> int:
        child = os.fork()
        if child == 0:
            status = 255
            try:
                status = store.summary().total
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def added() -> Iterator[NewItem]:
        for number in range(600):
            if number == 550:  # the first 500 are in the database
                statuses.append(seen_by_a_child())
            yield new(str(number))

    store.add(added())
    assert statuses == [0]
    assert store.summary().total == 600
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_the_wal_of_a_forked_child_is_not_deleted_by_its_parent(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    inserted(store, "before")
    reading, writing = os.pipe()
    done, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            inserted(store, "child-1")
            os.write(told, b"1")
            os.read(reading, 1)  # until the parent has closed it
            inserted(store, "child-2")
            status = 0
        finally:
            os._exit(status)
    assert os.read(done, 1) == b"1"
    inserted(store, "parent")
    store.close()
    os.write(writing, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store = SQLiteStore(tmp_path / "j.db", "one")
    assert {item.key for item in store.rows()} == {
        "before",
        "child-1",
        "parent",
        "child-2",
    }
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_fork_waits_for_a_commit_of_another_thread(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    is_over = threading.Event()

    def work() -> None:
        n = 0
        while not is_over.is_set():
            inserted(store, f"thread-{n}")
            n += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    inserted(store, f"child-{number}")
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        is_over.set()
        thread.join()
    assert sum(item.key.startswith("child-") for item in store.rows()) == 5
    store.close()


def test_a_closed_store_opens_again_when_it_is_used(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    inserted(store, "1")
    store.close()
    store.close()
    assert store.find_key("1") is not None
    store.close()


def test_the_write_ahead_log_begins_anew_before_it_is_large(tmp_path: Path) -> None:
    store, log = SQLiteStore(tmp_path / "j.db", "one"), tmp_path / "j.db-wal"
    sizes = []
    for group in range(6):
        store.commit([insert(f"{group}-{number}", LYRICS) for number in range(15)])
        sizes.append(log.stat().st_size)
    assert sizes[2:] == [sizes[2]] * 4  # of 165 kB each: there was room in the file
    store.close()


def test_many_rows_are_read_in_bounded_memory(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db")
    store.add(items(10_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.rows()) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    store.close()


def locking(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_fork_waits_for_a_file_that_another_thread_opens(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "j.db")
    with closing(locking(tmp_path / "j.db")) as db:
        db.execute("BEGIN EXCLUSIVE")  # so that it cannot be opened yet
        thread = threading.Thread(target=journal.open, args=("one",))
        thread.start()
        time.sleep(0.1)
        ending = threading.Timer(0.2, lambda: db.execute("COMMIT"))
        ending.start()
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # if it hangs
            try:
                inserted(journal.open("one"), "child")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        thread.join()
        ending.join()
    store = journal.open("one")
    assert store.find_key("child") is not None
    store.close()
