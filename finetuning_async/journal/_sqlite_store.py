"""The journals in one SQLite file: the queries; the file itself is `_sqlite_file`'s."""

from __future__ import annotations

import sqlite3
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from finetuning_async.journal._file_names import UsedNames
from finetuning_async.journal._outcomes import (
    check_same_content,
    not_found_error,
    not_storable_error,
    stale_error,
    taken_error,
    version,
    with_free_name,
)
from finetuning_async.journal._records import (
    SHORT_LENGTH,
    Added,
    Item,
    NewItem,
    Summary,
)
from finetuning_async.journal._spending import (
    BOOK,
    SPENT_AT,
    UNBOOK,
    USAGE,
    Usage,
    booking_of,
    charge_delay,
    first_refusal,
    parameters,
    sql,
)
from finetuning_async.journal._sql_columns import (
    ALL_COLUMNS,
    COUNTS,
    ENTRY_COLUMNS,
    NEW_COLUMNS,
    entry_values,
    item_from,
    item_of,
    new_values,
    summary_of,
    tracks_of,
)
from finetuning_async.journal._sqlite_file import SQLiteFile
from finetuning_async.journal._state_machine import STATES, Entry, State
from finetuning_async.journal._store import (
    LONGEST_LEASE,
    NOT_PENDING,
    Insert,
    Update,
    commit_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from finetuning_async._errors import BudgetExceededError
    from finetuning_async._pacing import CreditLimit
    from finetuning_async.journal._spending import Booking
    from finetuning_async.journal._store import Change, Committed

_ADDED: Final = (
    "journal",
    "created_at",
    "updated_at",
    *NEW_COLUMNS,
    *ENTRY_COLUMNS,
)
_INSERT: Final = (
    f"INSERT INTO item ({', '.join(_ADDED)})"  # noqa: S608 - names of ours
    f" VALUES ({', '.join('?' * len(_ADDED))})"
    " ON CONFLICT (journal, key) DO NOTHING"
)
_SET: Final = f"UPDATE item SET {', '.join(f'{name} = ?' for name in ENTRY_COLUMNS)}"  # noqa: S608 - names of ours
# Fencing: a worker that was suspended since it read the item changes no row. The values
# of `_unchanged`.
_IF_UNCHANGED: Final = (
    "WHERE seq = ? AND state = ? AND lost_at IS ? AND accepts = ? AND fence = ?"
)
_UPDATE: Final = (
    f"{_SET}, updated_at = ?, spent_at = coalesce(?, spent_at) {_IF_UNCHANGED}"
)
_IS_UNCHANGED: Final = f"SELECT 1 FROM item {_IF_UNCHANGED}"  # noqa: S608 - names of ours
_DELETE: Final = f"DELETE FROM item {_IF_UNCHANGED}"  # noqa: S608 - names of ours
_SELECT: Final = f"SELECT {', '.join(ALL_COLUMNS)} FROM item WHERE journal = ?"  # noqa: S608 - names of ours
_SEQS: Final = (
    "SELECT seq FROM (SELECT seq FROM item"
    " WHERE journal = ? AND state = ? AND seq > ? ORDER BY seq LIMIT ?)"
)
"""One state's, read in order from the index; see `SQLiteStore.page`."""

_USAGE, _SPENT_AT, _BOOK, _UNBOOK = (
    sql(text, "", ":NAME") for text in (USAGE, SPENT_AT, BOOK, UNBOOK)
)
_CHUNK: Final = 500
_ADOPT: Final = (
    ': --adopt (existing="adopt") then takes over what results.jsonl records'
)
_PAID_AGAIN: Final = "; the keys that it knew may then be paid again"

LARGEST_SEQ: Final = 2**63 - 1
LAST_CHARACTER: Final = "\U0010ffff"

FORGET_AFTER: Final = 3600.0
"""Seconds after which a holder that is dead is removed from the file."""


class SQLiteStore:
    """A journal in a file, which other processes may use at the same time.

    Args:
        path: The file; created if needed, readable by its owner only.
        journal: Which journal of the file; one for each account. A batch's has no name.
        read_only: Whether only to read, beside a process that writes.
        clock: The time in seconds since 1970.

    Raises:
        JournalError: It cannot be opened, or a newer version wrote it.
    """

    def __init__(
        self,
        path: Path,
        journal: str = "",
        *,
        read_only: bool = False,
        # Not the loop's clock: other processes read what this one stores.
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._clock = clock
        advice = _PAID_AGAIN if journal else _ADOPT
        self._file = SQLiteFile(path, read_only=read_only, clock=clock, advice=advice)

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._journal!r}>"

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
        with self._file.transaction() as db:
            names = db.execute(
                "SELECT file FROM item WHERE journal = ? AND file != ''",
                (self._journal,),
            )
            used = UsedNames(name for (name,) in names)
            before = db.total_changes
            while chunk := list(islice(stream, _CHUNK)):
                given += len(chunk)
                self._insert(db, [with_free_name(item, used) for item in chunk])
            new = db.total_changes - before
            for key, entry in (entries or {}).items():
                db.execute(
                    f"{_SET} WHERE journal = ? AND key = ? AND state = 'planned'",
                    (*entry_values(entry), self._journal, key),
                )
        return Added(new, given - new)

    def _insert(self, db: sqlite3.Connection, chunk: list[NewItem]) -> None:
        # Known keys are not inserted. Only then is it worth comparing contents.
        before = db.total_changes
        now = self.now()
        db.executemany(_INSERT, [self._values(item, now) for item in chunk])
        if db.total_changes - before < len(chunk):
            self._check_known(chunk)

    def _values(
        self, item: NewItem, now: float, entry: Entry | None = None
    ) -> tuple[object, ...]:
        values = entry_values(entry or Entry())
        return (self._journal, now, now, *new_values(item), *values)

    def _check_known(self, chunk: list[NewItem]) -> None:
        marks = ", ".join("?" * len(chunk))
        known = self._items(f"AND key IN ({marks})", *(item.key for item in chunk))
        by_key = {item.key: item for item in known}
        for item in chunk:
            check_same_content(by_key[item.key], item)

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """As `JournalStore.commit`."""
        with self._file.transaction() as db:
            return [self._apply(db, change) for change in changes]

    def _apply(self, db: sqlite3.Connection, change: Change) -> Committed:
        try:
            if isinstance(change, Insert):
                return self._add(db, change)
            if isinstance(change, Update):
                return self._update(db, change)
        except (ValueError, OverflowError) as error:
            # It was refused before its statement ran, so the others can go on.
            return not_storable_error(change.item, error)
        done = db.execute(_DELETE, _unchanged(change.item))
        if not done.rowcount:
            return stale_error(change.item)
        if kept := booking_of(change.item, self.now()):
            self._write_booking(db, *kept)
        return None

    def _add(self, db: sqlite3.Connection, change: Insert) -> Committed:
        new, entry, now = change.item, change.entry, self.now()
        if change.limits and self.find_key(new.key) is None:
            refused = self._refusal(db, change.limits)
            if refused is not None:
                return refused
        done = db.execute(_INSERT, self._values(new, now, entry))
        if not done.rowcount:
            return self.find_key(new.key)
        return item_from(new, int(done.lastrowid or 0), entry, now)

    def _update(self, db: sqlite3.Connection, change: Update) -> Committed:
        item, entry, now = change.item, change.entry, self.now()
        delay = charge_delay(item.entry, entry)
        spent_at = item.spent_at if delay is None else now + delay
        is_planned = entry.state == "planned"
        refused = self._refusal(db, change.limits, item.seq, reserved=is_planned)
        if refused and db.execute(_IS_UNCHANGED, _unchanged(item)).fetchone():
            return refused
        values = (*entry_values(entry), now, spent_at, *_unchanged(item))
        try:
            done = db.execute(_UPDATE, values)
        except sqlite3.IntegrityError:
            # It has undone this statement only.
            return taken_error(item, entry)
        if not done.rowcount:
            return stale_error(item)
        return attrs.evolve(item, entry=entry, updated_at=now, spent_at=spent_at)

    def _refusal(
        self,
        db: sqlite3.Connection,
        limits: Sequence[CreditLimit],
        seq: int = 0,
        name: str = "",
        *,
        reserved: bool = True,
    ) -> BudgetExceededError | None:
        """The error of the first limit that allows no credit more."""
        return first_refusal(
            limits,
            lambda limit: self._usage(db, limit, seq, name),
            self.now(),
            reserved=reserved,
        )

    def _usage(
        self, db: sqlite3.Connection, limit: CreditLimit, seq: int = 0, name: str = ""
    ) -> Usage:
        values = parameters(limit, self.now(), but_seq=seq, but_name=name)
        values |= {"journal": self._journal}
        spent, reserved = db.execute(_USAGE, values).fetchone()
        is_over = limit.per is not None and not limit.allows(spent + reserved)
        spent_at = db.execute(_SPENT_AT, values).fetchall() if is_over else ()
        return Usage(spent, reserved, tuple(spent_at))

    def usage(self, limit: CreditLimit) -> Usage:
        """As `JournalStore.usage`."""
        with self._file.connection() as db:
            return self._usage(db, limit)

    def book(self, booking: Booking, limits: Sequence[CreditLimit] = ()) -> None:
        """As `JournalStore.book`."""
        is_held = booking.holder is not None
        with self._file.transaction() as db:
            error = self._refusal(db, limits, name=booking.name, reserved=is_held)
            if error is None:
                self._write_booking(db, booking, self.now() + booking.delay)
        if error is not None:
            raise error

    def _write_booking(
        self, db: sqlite3.Connection, booking: Booking, at: float
    ) -> None:
        values = attrs.asdict(booking) | {"journal": self._journal, "at": at}
        db.execute(_BOOK, values)

    def unbook(self, name: str) -> None:
        """As `JournalStore.unbook`."""
        with self._file.transaction() as db:
            db.execute(_UNBOOK, {"journal": self._journal, "name": name})

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        return commit_update(self, item, entry)

    def claim(self, after: int, limit: int) -> list[Item]:
        """As `JournalStore.claim`."""
        return self.page(after, limit, "planned")

    def get(self, seq: int) -> Item:
        """As `JournalStore.get`."""
        found = self._items("AND seq = ?", seq)
        if not found:
            raise not_found_error(seq)
        return found[0]

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        return list(self.rows(*(s for s in STATES if s not in NOT_PENDING)))

    def rows(self, *states: State) -> Iterator[Item]:
        """As `JournalStore.rows`."""
        # No cursor stays open between pages, so an iteration that takes long, or is
        # given up, holds no read lock that would keep the WAL from being checkpointed.
        after = 0
        while page := self.page(after, _CHUNK, *states):
            yield from page
            after = page[-1].seq

    def page(self, after: int, limit: int, *states: State) -> list[Item]:
        """As `JournalStore.page`."""
        wanted = states or STATES
        if self._file.is_outdated:  # a view has no index by state
            marks = ", ".join("?" * len(wanted))
            where = f"AND state IN ({marks}) AND seq > ? ORDER BY seq LIMIT ?"
            return self._items(where, *wanted, after, limit)
        # Of several states at once SQLite would sort all that there are, for each page.
        seqs = " UNION ALL ".join([_SEQS] * len(wanted))
        where = f"AND seq IN ({seqs} ORDER BY seq LIMIT ?) ORDER BY seq"
        values: list[object] = []
        for state in wanted:
            values += (self._journal, state, after, limit)
        return self._items(where, *values, limit)

    def newest(self, prefix: str, before: int | None, limit: int) -> list[Item]:
        """As `JournalStore.newest`."""
        below = LARGEST_SEQ if before is None else before
        if not prefix:
            return self._items("AND seq < ? ORDER BY seq DESC LIMIT ?", below, limit)
        # By the index of the keys: the plus keeps SQLite from reading all by `seq`.
        return self._items(
            "AND key >= ? AND key < ? AND +seq < ? ORDER BY +seq DESC LIMIT ?",
            prefix,
            prefix + LAST_CHARACTER,
            below,
            limit,
        )

    def find(self, name: str) -> Item | None:
        """As `JournalStore.find`."""
        return self._item(
            "AND (custom_id = ? OR key = ? OR track_id = ?"
            f" OR (custom_id IS NULL AND substr(key, 1, {SHORT_LENGTH}) = ?)) LIMIT 1",
            *(name,) * 4,
        )

    def find_key(self, key: str) -> Item | None:
        """As `JournalStore.find_key`."""
        return self._item("AND key = ?", key)

    def find_track(self, track_id: str) -> Item | None:
        """As `JournalStore.find_track`."""
        return self._item("AND track_id = ?", track_id)

    def tracks(self) -> dict[str, int | None]:
        """As `JournalStore.tracks`."""
        return tracks_of(
            self._rows(
                "SELECT track_id, seed, former FROM item WHERE journal = ?"
                " AND (track_id IS NOT NULL OR former != '[]')"
            )
        )

    def summary(self) -> Summary:
        """As `JournalStore.summary`."""
        return summary_of(
            self._rows(
                f"SELECT {COUNTS} FROM item WHERE journal = ? GROUP BY state"  # noqa: S608 - names of ours
            )
        )

    def read_note(self, name: str) -> str | None:
        """As `JournalStore.read_note`."""
        rows = self._rows("SELECT value FROM note WHERE journal = ? AND name = ?", name)
        return str(rows[0][0]) if rows else None

    def write_note(self, name: str, value: str) -> None:
        """As `JournalStore.write_note`."""
        with self._file.transaction() as db:
            self._write_note(db, name, value)

    def swap_note(self, name: str, old: str | None, new: str) -> bool:
        """As `JournalStore.swap_note`."""
        with self._file.transaction() as db:
            is_old = self.read_note(name) == old
            if is_old:
                self._write_note(db, name, new)
            return is_old

    def _write_note(self, db: sqlite3.Connection, name: str, value: str) -> None:
        db.execute(
            "INSERT INTO note VALUES (?, ?, ?)"
            " ON CONFLICT (journal, name) DO UPDATE SET value = excluded.value",
            (self._journal, name, value),
        )

    def beat(self, holder: str, seconds: float) -> None:
        """As `JournalStore.beat`."""
        now = self.now()
        with self._file.unsynced_transaction() as db:
            db.execute("DELETE FROM holder WHERE until < ?", (now - FORGET_AFTER,))
            db.execute(
                "INSERT INTO holder VALUES (?, ?, ?)"
                " ON CONFLICT (journal, name) DO UPDATE SET until = excluded.until",
                (self._journal, holder, now + seconds),
            )

    def is_alive(self, holder: str) -> bool:
        """As `JournalStore.is_alive`."""
        rows = self._rows(
            "SELECT until FROM holder WHERE journal = ? AND name = ?", holder
        )
        now = self.now()
        return bool(rows) and now < float(rows[0][0]) <= now + LONGEST_LEASE

    def remove_holder(self, holder: str) -> None:
        """As `JournalStore.remove_holder`."""
        with self._file.unsynced_transaction() as db:
            db.execute(
                "DELETE FROM holder WHERE journal = ? AND name = ?",
                (self._journal, holder),
            )

    def now(self) -> float:
        """As `JournalStore.now`; this machine's clock."""
        return self._clock()

    def close(self) -> None:
        """As `JournalStore.close`; the next use opens the file again."""
        self._file.close()

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query whose first parameter is the journal's name."""
        with self._file.connection() as db:
            return db.execute(query, (self._journal, *values)).fetchall()

    def _items(self, where: str, *values: object) -> list[Item]:
        return [item_of(row) for row in self._rows(f"{_SELECT} {where}", *values)]

    def _item(self, where: str, *values: object) -> Item | None:
        found = self._items(where, *values)
        return found[0] if found else None


def _unchanged(item: Item) -> tuple[object, ...]:
    """The values of `_IF_UNCHANGED`."""
    return (item.seq, *version(item.entry))
