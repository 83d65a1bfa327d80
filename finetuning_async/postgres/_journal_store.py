"""The journal in PostgreSQL, for workers on many machines.

One database can hold several journals, one for each account: credits and tracks belong
to an account, and a create in doubt is resolved by looking at all of them. The clock is
the database's. The queries of items are here, those of budgets in `_spending`, the rest
in `_leases_and_notes`; `_journal_connection` has the connection.
"""

from __future__ import annotations

from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

# After it, which says what to install: psycopg may not be there.
import psycopg

from finetuning_async.journal import (
    ALL_COLUMNS,
    COUNTS,
    DIGEST_LENGTH,
    ENTRY_COLUMNS,
    NEW_COLUMNS,
    NOT_PENDING,
    SHORT_LENGTH,
    STATES,
    Added,
    Delete,
    Entry,
    Insert,
    Item,
    NewItem,
    State,
    Summary,
    Update,
    UsedNames,
    booking_of,
    charge_delay,
    check_same_content,
    commit_update,
    entry_values,
    item_of,
    new_values,
    not_found_error,
    not_storable_error,
    stale_error,
    summary_of,
    taken_error,
    tracks_of,
    version,
    with_free_name,
)
from finetuning_async.postgres import _journal_schema as schema
from finetuning_async.postgres._journal_connection import PostgresConnection
from finetuning_async.postgres._leases_and_notes import LeasesAndNotes
from finetuning_async.postgres._spending import SpendingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import LiteralString

    from finetuning_async.journal import Change, Committed

T = TypeVar("T")

_ADDED: Final = ("journal", "seq", "created_at", "updated_at")
_INSERT: Final = (
    f"INSERT INTO finetuning_item ({', '.join((*_ADDED, *NEW_COLUMNS, *ENTRY_COLUMNS))})"  # noqa: S608, E501 - names of ours
    f" VALUES ({', '.join(['%s'] * len((*_ADDED, *NEW_COLUMNS, *ENTRY_COLUMNS)))})"
)
# Fencing: a worker that was suspended since it read the item, while others believed it
# dead and moved the item on, changes no row. The values of `_unchanged`.
_IF_UNCHANGED: Final = (
    "WHERE journal = %s AND seq = %s AND state = %s"
    " AND lost_at IS NOT DISTINCT FROM %s AND accepts = %s AND fence = %s"
)
_UPDATE: Final = (
    f"UPDATE finetuning_item SET {', '.join(f'{name} = %s' for name in ENTRY_COLUMNS)},"  # noqa: S608 - names of ours
    f" updated_at = {schema.NOW}, spent_at = coalesce({schema.NOW} + %s, spent_at)"
    f" {_IF_UNCHANGED} RETURNING updated_at, spent_at"
)
_DELETE: Final = f"DELETE FROM finetuning_item {_IF_UNCHANGED} RETURNING seq"  # noqa: S608 - names of ours
_SELECT: Final = (
    f"SELECT {', '.join(ALL_COLUMNS)} FROM finetuning_item"  # noqa: S608 - names of ours
    " WHERE journal = %s"
)
_CHUNK: Final = 500


class PostgresStore(SpendingStore, LeasesAndNotes):
    """A journal in a database. Tables are created if there are none.

    After a connection was lost, the next call opens a new one.

    Args:
        conninfo: How to connect, in libpq's form: a URL or ``host=...``; empty for the
            environment's ``PGHOST`` and so on.
        journal: Its name; one for each account.

    Raises:
        JournalError: The database cannot be used, or a newer version wrote to it.
    """

    def __init__(self, conninfo: str = "", *, journal: str = "default") -> None:
        super().__init__(PostgresConnection(conninfo), journal)
        try:
            with self._connection.transaction() as db:
                schema.prepare(db, journal)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<PostgresStore {self._journal!r}>"

    @property
    def journal(self) -> str:
        """Its name."""
        return self._journal

    def transact(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Run a function with the connection, in one transaction.

        Raises:
            JournalError: The database refused.
        """
        with self._connection.transaction() as db:
            return work(db)

    def _items(self, where: LiteralString, *values: object) -> list[Item]:
        return [item_of(row) for row in self._rows(f"{_SELECT} {where}", *values)]

    def add(
        self,
        items: Iterable[NewItem],
        on_added: Callable[[psycopg.Connection, list[Item]], None] | None = None,
    ) -> Added:
        """As `JournalStore.add`.

        Args:
            items: What to add.
            on_added: Called with the connection and the new items, some at a time; what
                it writes there is committed together with them, or not at all.
        """
        new, known = 0, 0
        stream = iter(items)
        with self._connection.transaction() as db:
            self._lock_journal()
            names = self._rows(
                "SELECT file FROM finetuning_item WHERE journal = %s AND file != ''"
            )
            used = UsedNames(name for (name,) in names)
            while chunk := list(islice(stream, _CHUNK)):
                named = [with_free_name(item, used) for item in chunk]
                inserts = [Insert(item) for item in named]
                _, added = self._add(inserts, check_same_content)
                new, known = new + len(added), known + len(chunk) - len(added)
                if on_added is not None and added:
                    on_added(db, list(added.values()))
        return Added(new, known)

    def _add(
        self,
        inserts: Sequence[Insert],
        check: Callable[[NewItem, NewItem], None] | None = None,
    ) -> tuple[dict[str, Item], dict[str, Item]]:
        """Add the items whose key is not known, under `_lock_journal`.

        Args:
            inserts: What to add.
            check: Called with each item that is known, and the one given.

        Returns:
            The known items and the new ones, by their keys.
        """
        known = self._by_key([insert.item.key for insert in inserts])
        # `seq` is not a sequence: each journal counts from 1, without gaps, and no
        # number is used again, since a process may be halted that knows the old item.
        ((last, now),) = self._rows(
            f"SELECT last_seq, {schema.NOW} FROM finetuning_journal WHERE name = %s"  # noqa: S608 - an expression of ours
        )
        added: dict[str, Item] = {}
        for insert in inserts:
            item = insert.item
            before = known.get(item.key) or added.get(item.key)
            if before is None:
                times = {"created_at": now, "updated_at": now}
                seq = last + len(added) + 1
                made = Item(**attrs.asdict(item), **times, seq=seq, entry=insert.entry)
                added[item.key] = made
            elif check is not None:
                check(before, item)
        if added:
            self._write(list(added.values()))
        return known, added

    def _by_key(self, keys: list[str]) -> dict[str, Item]:
        return {item.key: item for item in self._items("AND key = ANY(%s)", keys)}

    def _write(self, items: list[Item]) -> None:
        rows = [
            (
                self._journal,
                item.seq,
                item.created_at,
                item.updated_at,
                *new_values(item),
                *entry_values(item.entry),
            )
            for item in items
        ]
        with self._connection.opened().cursor() as cursor:
            cursor.executemany(_INSERT, rows)
            cursor.execute(
                "UPDATE finetuning_journal SET last_seq = %s WHERE name = %s",
                (items[-1].seq, self._journal),
            )

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        """As `JournalStore.commit`."""
        with self._connection.use() as db:
            try:
                return self._commit(db, changes)
            except (psycopg.errors.UniqueViolation, psycopg.DataError):
                return self._commit_separately(db, changes)
            except psycopg.errors.DeadlockDetected:
                # Another process changes the same items in another order. It has gone
                # on now, and what it has changed is stale here.
                return self._commit(db, changes)

    def _commit(
        self, db: psycopg.Connection, changes: Sequence[Change]
    ) -> list[Committed]:
        results: list[Committed] = []
        with db.transaction():
            self._lock_if_limited(changes)
            # In their order; those of one kind that follow one another go together.
            for kind, group in groupby(changes, _kind_of):
                results += self._apply(kind, list(group))
        return results

    def _lock_if_limited(self, changes: Sequence[Change]) -> None:
        """Lock the journal if changes have limits: no one else may take the credit."""
        if any(_kind_of(change) is None for change in changes):
            self._lock_journal()

    def _commit_separately(
        self, db: psycopg.Connection, changes: Sequence[Change]
    ) -> list[Committed]:
        """The same, so that a change that is not allowed undoes no other. Rare."""
        results: list[Committed] = []
        with db.transaction():
            self._lock_if_limited(changes)
            for change in changes:
                try:
                    with db.transaction():  # a savepoint
                        results += self._apply(_kind_of(change), [change])
                except psycopg.errors.UniqueViolation:
                    if not isinstance(change, Update):
                        raise
                    results.append(taken_error(change.item, change.entry))
                except psycopg.DataError as error:
                    results.append(not_storable_error(change.item, error))
        return results

    def _apply(self, kind: type | None, group: list[Any]) -> list[Committed]:
        if kind is None:
            return [self._apply_within_limits(change) for change in group]
        if kind is Insert:
            self._lock_journal()
            known, added = self._add(group)
            # Not read again: a known one may have been deleted meanwhile.
            items = known | added
            return [items[change.item.key] for change in group]
        if kind is Update:
            rows = [
                (
                    *entry_values(c.entry),
                    charge_delay(c.item.entry, c.entry),
                    *self._unchanged(c.item),
                )
                for c in group
            ]
            return list(map(_updated, group, self._each(_UPDATE, rows)))
        rows = [self._unchanged(c.item) for c in group]
        found = self._each(_DELETE, rows)
        for change, row in zip(group, found, strict=True):
            kept = None if row is None else booking_of(change.item, self.now())
            if kept is not None:
                self._spending().book(*kept)
        return list(map(_deleted, group, found))

    def _apply_within_limits(self, change: Insert | Update) -> Committed:
        """Make a change unless its limits do not allow it, under `_lock_journal`."""
        if isinstance(change, Insert):
            if known := self.find_key(change.item.key):
                return known
            refused = self._spending().refusal(change.limits, reserved=True)
        else:
            refused = self._spending().refusal(
                change.limits,
                reserved=change.entry.state == "planned",
                but_seq=change.item.seq,
            )
            stored = self._items("AND seq = %s", change.item.seq)
            if not stored or version(stored[0].entry) != version(change.item.entry):
                return stale_error(change.item)
        return refused or self._apply(type(change), [change])[0]

    def _unchanged(self, item: Item) -> tuple[object, ...]:
        """The values of `_IF_UNCHANGED`."""
        return (self._journal, item.seq, *version(item.entry))

    def _each(
        self, query: LiteralString, rows: list[tuple[object, ...]]
    ) -> list[tuple[Any, ...] | None]:
        """The first row that a query returns for each of its rows of parameters."""
        found: list[tuple[Any, ...] | None] = []
        with self._connection.opened().cursor() as cursor:
            cursor.executemany(query, rows, returning=True)  # in one round trip
            while True:
                found.append(cursor.fetchone())
                if not cursor.nextset():
                    return found

    def claim(self, after: int, limit: int) -> list[Item]:
        """As `JournalStore.claim`."""
        return self.page(after, limit, "planned")

    def get(self, seq: int) -> Item:
        """As `JournalStore.get`."""
        found = self._items("AND seq = %s", seq)
        if not found:
            raise not_found_error(seq)
        return found[0]

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        return commit_update(self, item, entry)

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        states = [state for state in STATES if state not in NOT_PENDING]
        return self._items("AND state = ANY(%s) ORDER BY seq", states)

    def rows(self, *states: State) -> Iterator[Item]:
        """As `JournalStore.rows`."""
        after = 0
        while page := self.page(after, _CHUNK, *states):
            yield from page
            after = page[-1].seq

    def page(self, after: int, limit: int, *states: State) -> list[Item]:
        """As `JournalStore.page`."""
        if not states:
            where: LiteralString = "AND seq > %s ORDER BY seq LIMIT %s"
            return self._items(where, after, limit)
        where = "AND seq > %s AND state = ANY(%s) ORDER BY seq LIMIT %s"
        return self._items(where, after, list(states), limit)

    def newest(self, prefix: str, before: int | None, limit: int) -> list[Item]:
        """As `JournalStore.newest`."""
        where: LiteralString = "AND starts_with(key, %s) ORDER BY seq DESC LIMIT %s"
        if before is None:
            return self._items(where, prefix, limit)
        where = "AND starts_with(key, %s) AND seq < %s ORDER BY seq DESC LIMIT %s"
        return self._items(where, prefix, before, limit)

    def find(self, name: str) -> Item | None:
        """As `JournalStore.find`."""
        where = (
            "AND (custom_id = %s OR key = %s OR track_id = %s"
            " OR (custom_id IS NULL AND left(right(key, %s), %s) = %s)) LIMIT 1"
        )
        found = self._items(where, name, name, name, DIGEST_LENGTH, SHORT_LENGTH, name)
        return found[0] if found else None

    def find_key(self, key: str) -> Item | None:
        """As `JournalStore.find_key`."""
        found = self._items("AND key = %s", key)
        return found[0] if found else None

    def find_track(self, track_id: str) -> Item | None:
        """As `JournalStore.find_track`."""
        found = self._items("AND track_id = %s", track_id)
        return found[0] if found else None

    def in_batch(self, batch: str, *states: State) -> list[Item]:
        """The items of one batch in these states, in order; by default all items."""
        where = "AND starts_with(key, %s) AND state = ANY(%s) ORDER BY seq"
        return self._items(where, f"{batch}/", list(states or STATES))

    def tracks(self) -> dict[str, int | None]:
        """As `JournalStore.tracks`."""
        return tracks_of(
            self._rows(
                "SELECT track_id, seed, former FROM finetuning_item WHERE journal = %s"
                " AND (track_id IS NOT NULL OR former != '[]')"
            )
        )

    def summary(self, batch: str | None = None) -> Summary:
        """As `JournalStore.summary`; only of one batch, if its name is given."""
        prefix = "" if batch is None else f"{batch}/"
        return summary_of(
            self._rows(
                f"SELECT {COUNTS} FROM finetuning_item"  # noqa: S608 - names of ours
                " WHERE journal = %s AND starts_with(key, %s) GROUP BY state",
                prefix,
            )
        )

    def close(self) -> None:
        """As `JournalStore.close`."""
        self._connection.close()


def _kind_of(change: Change) -> type | None:
    """Its class; `None` if it has limits, so that it is made alone."""
    has_limits = isinstance(change, Insert | Update) and bool(change.limits)
    return None if has_limits else type(change)


def _updated(change: Update, row: tuple[Any, ...] | None) -> Committed:
    if row is None:
        return stale_error(change.item)
    updated_at, spent_at = row
    return attrs.evolve(
        change.item, entry=change.entry, updated_at=updated_at, spent_at=spent_at
    )


def _deleted(change: Delete, row: tuple[Any, ...] | None) -> Committed:
    return stale_error(change.item) if row is None else None
