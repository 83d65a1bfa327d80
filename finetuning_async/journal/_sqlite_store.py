"""The journal in one SQLite file: WAL, and every commit on disk before it returns.

``synchronous=FULL``: with ``NORMAL`` a power cut may undo the last commits, and with
them an intent whose create was paid. The schema's version is SQLite's ``user_version``.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async.journal._errors import JournalError
from finetuning_async.journal._file_names import UsedNames
from finetuning_async.journal._records import SHORT_LENGTH, Item, NewItem, Summary
from finetuning_async.journal._sql_columns import (
    ALL_COLUMNS,
    ENTRY_COLUMNS,
    NEW_COLUMNS,
    REVIVE_404,
    entry_values,
    item_of,
    new_values,
    summary_of,
    tracks_of,
)
from finetuning_async.journal._state_machine import STATES, Entry, State
from finetuning_async.journal._store import (
    NOT_PENDING,
    Added,
    check_same_content,
    not_found_error,
    stale_error,
    with_free_name,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from pathlib import Path

VERSION: Final = 2

OLDEST_VERSION: Final = 1
"""The oldest version that can still be read."""

SCHEMA: Final = """
CREATE TABLE item (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    custom_id TEXT,
    line INTEGER,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    file TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned',
    seed INTEGER,
    sent_at REAL,
    lost_at REAL,
    track_id TEXT,
    former TEXT NOT NULL DEFAULT '[]',
    accepts INTEGER NOT NULL DEFAULT 0,
    fails INTEGER NOT NULL DEFAULT 0,
    holder TEXT,
    fence INTEGER NOT NULL DEFAULT 0,
    code TEXT,
    error TEXT,
    result TEXT
);
CREATE INDEX item_state ON item (state);
CREATE UNIQUE INDEX item_track ON item (track_id) WHERE track_id IS NOT NULL;
CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

MIGRATION: Final = f"UPDATE item SET {REVIVE_404}"  # noqa: S608 - names of ours
"""From version 1, which counted a track as failed after a single 404."""

_BUSY: Final = 5.0
"""Seconds to wait for a lock that another connection holds."""

_INSERT: Final = (
    f"INSERT INTO item ({', '.join(NEW_COLUMNS)})"  # noqa: S608 - names of ours
    f" VALUES ({', '.join('?' * len(NEW_COLUMNS))})"
    " ON CONFLICT (key) DO NOTHING"
)
# Fencing: a worker that was suspended since it read the item updates no row.
_UPDATE: Final = (
    f"UPDATE item SET {', '.join(f'{name} = ?' for name in ENTRY_COLUMNS)}"  # noqa: S608 - names of ours
    " WHERE seq = ? AND state = ? AND lost_at IS ? AND accepts = ? AND fence = ?"
)
_SET_NEW: Final = (
    f"UPDATE item SET {', '.join(f'{name} = ?' for name in ENTRY_COLUMNS)} "  # noqa: S608 - names of ours
    " WHERE key = ? AND state = 'planned'"
)
_SELECT: Final = f"SELECT {', '.join(ALL_COLUMNS)} FROM item"  # noqa: S608 - names of ours
_CHUNK: Final = 500


class SQLiteStore:
    """A journal in a file.

    Args:
        path: The file; created if needed.
        read_only: Whether only to read, beside a runner that writes.

    Raises:
        JournalError: It cannot be opened, or a newer version wrote it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        mode = "ro" if read_only else "rwc"
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY,
                isolation_level=None,  # each statement commits, outside `_transaction`
                check_same_thread=False,  # one call at a time, from any worker thread
            )
            try:
                self._prepare(path, read_only=read_only)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise JournalError(f"{path}: {error}{_advice(error)}") from error

    def _prepare(self, path: Path, *, read_only: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise JournalError(
                f"{path} was written by a newer version of finetuning-async (journal"
                f" format {version}, this one reads up to {VERSION}); upgrade it"
            )
        if read_only:
            if version < OLDEST_VERSION:
                raise JournalError(
                    f"{path} is not the journal of a batch; use another folder"
                )
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if version < VERSION:
            script = SCHEMA if version < OLDEST_VERSION else MIGRATION
            with self._transaction():
                for statement in script.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite itself has rolled back after some errors, such as a full disk.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal could not be read or written: {error}{_advice(error)}"
            ) from error

    def add(
        self, items: Iterable[NewItem], entries: Mapping[str, Entry] | None = None
    ) -> Added:
        """As `JournalStore.add`.

        Args:
            items: What to add.
            entries: Entries of new items by their key, for those that are not planned.
        """
        given = 0
        stream = iter(items)
        with self._errors(), self._transaction():
            names = self._db.execute("SELECT file FROM item")
            used = UsedNames(name for (name,) in names)
            before = self._db.total_changes
            while chunk := list(islice(stream, _CHUNK)):
                given += len(chunk)
                self._insert([with_free_name(item, used) for item in chunk])
            new = self._db.total_changes - before
            for key, entry in (entries or {}).items():
                self._db.execute(_SET_NEW, (*entry_values(entry), key))
        return Added(new, given - new)

    def _insert(self, chunk: list[NewItem]) -> None:
        # Known keys are not inserted. Only then is it worth comparing contents.
        before = self._db.total_changes
        self._db.executemany(_INSERT, map(new_values, chunk))
        if self._db.total_changes - before < len(chunk):
            self._check_known(chunk)

    def _check_known(self, chunk: list[NewItem]) -> None:
        marks = ", ".join("?" * len(chunk))
        known = self._items(f"WHERE key IN ({marks})", *(item.key for item in chunk))
        by_key = {item.key: item for item in known}
        for item in chunk:
            check_same_content(by_key[item.key], item)

    def claim(self, after: int, limit: int) -> list[Item]:
        """As `JournalStore.claim`."""
        where = "WHERE state = 'planned' AND seq > ? ORDER BY seq LIMIT ?"
        return self._items(where, after, limit)

    def get(self, seq: int) -> Item:
        """As `JournalStore.get`."""
        found = self._items("WHERE seq = ?", seq)
        if not found:
            raise not_found_error(seq)
        return found[0]

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        old = item.entry
        known = (item.seq, old.state, old.lost_at, old.accepts, old.fence)
        with self._errors():
            done = self._db.execute(_UPDATE, (*entry_values(entry), *known))
        if not done.rowcount:
            raise stale_error(item)
        return attrs.evolve(item, entry=entry)

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        states = [state for state in STATES if state not in NOT_PENDING]
        marks = ", ".join("?" * len(states))
        return self._items(f"WHERE state IN ({marks}) ORDER BY seq", *states)

    def rows(self, *states: State) -> Iterator[Item]:
        """As `JournalStore.rows`; reads chunks, so other calls may come between."""
        wanted = states or STATES
        marks = ", ".join("?" * len(wanted))
        where = f"WHERE seq > ? AND state IN ({marks}) ORDER BY seq LIMIT {_CHUNK}"
        # No cursor stays open between chunks, so an iteration that takes long, or is
        # given up, holds no read lock that would keep the WAL from being checkpointed.
        after = 0
        while chunk := self._items(where, after, *wanted):
            yield from chunk
            after = chunk[-1].seq

    def find(self, name: str) -> Item | None:
        """As `JournalStore.find`."""
        found = self._items(
            "WHERE custom_id = ? OR key = ? OR track_id = ?"
            f" OR (custom_id IS NULL AND substr(key, 1, {SHORT_LENGTH}) = ?) LIMIT 1",
            *(name,) * 4,
        )
        return found[0] if found else None

    def tracks(self) -> dict[str, int | None]:
        """As `JournalStore.tracks`."""
        with self._errors():
            rows = self._db.execute(
                "SELECT track_id, seed, former FROM item"
                " WHERE track_id IS NOT NULL OR former != '[]'"
            ).fetchall()
        return tracks_of(rows)

    def summary(self) -> Summary:
        """As `JournalStore.summary`."""
        with self._errors():
            rows = self._db.execute(
                "SELECT state, count(*), sum(accepts), sum(fails)"
                " FROM item GROUP BY state"
            ).fetchall()
        return summary_of(rows)

    def read_note(self, name: str) -> str | None:
        """As `JournalStore.read_note`."""
        with self._errors():
            found = self._db.execute("SELECT value FROM note WHERE name = ?", (name,))
            row = found.fetchone()
        return None if row is None else str(row[0])

    def write_note(self, name: str, value: str) -> None:
        """As `JournalStore.write_note`."""
        with self._errors():
            self._db.execute(
                "INSERT INTO note VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def now(self) -> float:
        """As `JournalStore.now`; this machine's clock."""
        # Not the loop's clock: a later process reads what this one stored.
        return time.time()

    def close(self) -> None:
        """As `JournalStore.close`."""
        self._db.close()

    def _items(self, where: str, *values: object) -> list[Item]:
        with self._errors():
            rows = self._db.execute(f"{_SELECT} {where}", values).fetchall()
        return [item_of(row) for row in rows]


def _advice(error: sqlite3.Error) -> str:
    """What to do if the file itself is damaged."""
    # Only SQLite's "malformed" and "not a database" arrive as the plain DatabaseError.
    # Its subclasses speak of a lock, a full disk or a broken rule: the file is sound.
    if type(error) is not sqlite3.DatabaseError:
        return ""
    return (
        "; the file is damaged. Restore a copy if there is one, or move it away:"
        ' --adopt (existing="adopt") then takes over what results.jsonl records'
    )
