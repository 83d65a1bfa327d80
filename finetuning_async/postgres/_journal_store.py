"""The journal in PostgreSQL, for workers on many machines.

One database can hold several journals, one for each account: credits and tracks belong
to an account, and a create in doubt is resolved by looking at all of them. The clock is
the database's. A commit is on its disk before a call returns, even where the database's
default for ``synchronous_commit`` is ``off``.

Needs psycopg: ``pip install 'finetuning-async[procrastinate]'``.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from itertools import islice
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from finetuning_async.journal import (
    ALL_COLUMNS,
    DIGEST_LENGTH,
    ENTRY_COLUMNS,
    NEW_COLUMNS,
    NOT_PENDING,
    REVIVE_404,
    SHORT_LENGTH,
    STATES,
    Added,
    Entry,
    Item,
    JournalError,
    NewItem,
    State,
    Summary,
    UsedNames,
    check_same_content,
    entry_values,
    item_of,
    new_values,
    not_found_error,
    stale_error,
    summary_of,
    tracks_of,
    with_free_name,
)

try:
    import psycopg
except ImportError as _missing:
    _HINT = (
        f"a journal in PostgreSQL needs {_missing.name or 'psycopg[binary]'}:"
        " pip install 'finetuning-async[procrastinate]'"
    )
    raise ImportError(_HINT, name=_missing.name) from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import LiteralString

T = TypeVar("T")

VERSION: Final = 2

_LOCK: Final = 0x6674_6E67
"""Number of the advisory lock under which tables are created; "ftng" in ASCII."""

SCHEMA: Final = """
CREATE TABLE finetuning_journal (
    name text PRIMARY KEY,
    version integer NOT NULL
);
CREATE TABLE finetuning_item (
    journal text NOT NULL REFERENCES finetuning_journal (name) ON DELETE CASCADE,
    seq bigint NOT NULL,
    key text NOT NULL,
    custom_id text,
    line integer,
    kind text NOT NULL,
    body text NOT NULL,
    file text NOT NULL,
    state text NOT NULL DEFAULT 'planned',
    seed bigint,
    sent_at double precision,
    lost_at double precision,
    track_id text,
    former text NOT NULL DEFAULT '[]',
    accepts integer NOT NULL DEFAULT 0,
    fails integer NOT NULL DEFAULT 0,
    holder text,
    fence integer NOT NULL DEFAULT 0,
    code text,
    error text,
    result text,
    PRIMARY KEY (journal, seq),
    UNIQUE (journal, key),
    UNIQUE (journal, track_id)
);
CREATE INDEX finetuning_item_state ON finetuning_item (journal, state, seq);
CREATE TABLE finetuning_note (
    journal text NOT NULL REFERENCES finetuning_journal (name) ON DELETE CASCADE,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (journal, name)
);
"""

_INSERT: Final = (
    f"INSERT INTO finetuning_item (journal, seq, {', '.join(NEW_COLUMNS)})"  # noqa: S608 - names of ours
    f" VALUES (%s, %s, {', '.join(['%s'] * len(NEW_COLUMNS))})"
)
# Fencing: a worker that was suspended since it read the item, while others believed it
# dead and moved the item on, updates no row.
_UPDATE: Final = (
    f"UPDATE finetuning_item SET {', '.join(f'{name} = %s' for name in ENTRY_COLUMNS)}"  # noqa: S608 - names of ours
    " WHERE journal = %s AND seq = %s AND state = %s"
    " AND lost_at IS NOT DISTINCT FROM %s AND accepts = %s AND fence = %s"
)
_SELECT: Final = (
    f"SELECT {', '.join(ALL_COLUMNS)} FROM finetuning_item"  # noqa: S608 - names of ours
    " WHERE journal = %s"
)
_CHUNK: Final = 500


class PostgresStore:
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
        self._conninfo = conninfo
        self._journal = journal
        self._db: psycopg.Connection | None = None
        self._opened_by = 0
        self._closer = weakref.finalize(self, _close, None, 0)
        self._lock = RLock()
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<PostgresStore {self._journal!r}>"

    @property
    def journal(self) -> str:
        """Its name."""
        return self._journal

    def _connection(self) -> psycopg.Connection:
        """The connection of this process; a forked child opens its own."""
        if self._db is None or self._db.closed or self._opened_by != os.getpid():
            self._db = db = psycopg.connect(self._conninfo, autocommit=True)
            self._opened_by = os.getpid()
            self._closer.detach()
            self._closer = weakref.finalize(self, _close, db, self._opened_by)
            # An intent that a crash of the database can undo would not be an intent.
            # Stricter settings, as for replicas, are kept.
            db.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        return self._db

    def _prepare(self) -> None:
        db = self._connection()
        with db.transaction():
            # Without it two programs that start at once would both find no tables.
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if not self._has_tables():
                db.execute(SCHEMA)
            db.execute(
                "INSERT INTO finetuning_journal VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (self._journal, VERSION),
            )
            ((version,),) = self._rows(
                "SELECT version FROM finetuning_journal WHERE name = %s"
            )
            if version < VERSION:
                self._migrate()
        if version > VERSION:
            raise JournalError(
                f"the journal {self._journal} was written by a newer version of"
                f" finetuning-async (journal format {version}, this one reads up to"
                f" {VERSION}); upgrade it"
            )

    def _migrate(self) -> None:
        db, name = self._connection(), (self._journal,)
        db.execute(f"UPDATE finetuning_item SET {REVIVE_404} AND journal = %s", name)  # noqa: S608 - names of ours
        db.execute(
            "UPDATE finetuning_journal SET version = %s WHERE name = %s",
            (VERSION, *name),
        )

    def _has_tables(self) -> bool:
        found = self._connection().execute("SELECT to_regclass('finetuning_item')")
        return found.fetchone() != (None,)

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn psycopg's errors into ours; hold the connection's lock meanwhile.

        There is one connection for all threads, so a record made in one thread would
        otherwise join the transaction of another.
        """
        try:
            with self._lock:
                yield
        except psycopg.Error as error:
            raise JournalError(
                f"the journal could not be read or written: {error}",
                safe_to_retry=True,
            ) from error

    def transact(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Run a function with the connection, in one transaction.

        Raises:
            JournalError: The database refused.
        """
        with self._errors(), self._connection().transaction():
            return work(self._connection())

    def _rows(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query whose first parameter is the journal's name."""
        with self._errors():
            found = self._connection().execute(query, (self._journal, *values))
            return found.fetchall()

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
        with self._errors(), self._connection().transaction():
            # Adding is serial within a journal: `seq` and file names must be unique.
            self._connection().execute(
                "SELECT FROM finetuning_journal WHERE name = %s FOR UPDATE",
                (self._journal,),
            )
            names = self._rows("SELECT file FROM finetuning_item WHERE journal = %s")
            used = UsedNames(name for (name,) in names)
            while chunk := list(islice(stream, _CHUNK)):
                added = self._insert([with_free_name(item, used) for item in chunk])
                new, known = new + len(added), known + len(chunk) - len(added)
                if on_added is not None and added:
                    on_added(self._connection(), added)
        return Added(new, known)

    def _insert(self, chunk: list[NewItem]) -> list[Item]:
        """Insert the new items; `seq` goes on from the highest, as `add` is serial."""
        # `seq` is not a sequence: each journal counts from 1, without gaps.
        keys = [item.key for item in chunk]
        known = {item.key: item for item in self._items("AND key = ANY(%s)", keys)}
        ((last,),) = self._rows(
            "SELECT coalesce(max(seq), 0) FROM finetuning_item WHERE journal = %s"
        )
        added: dict[str, Item] = {}
        for item in chunk:
            before = known.get(item.key) or added.get(item.key)
            if before is not None:
                check_same_content(before, item)
                continue
            seq = last + len(added) + 1
            added[item.key] = Item(**attrs.asdict(item), seq=seq, entry=Entry())
        rows = [(self._journal, i.seq, *new_values(i)) for i in added.values()]
        with self._connection().cursor() as cursor:
            cursor.executemany(_INSERT, rows)
        return list(added.values())

    def claim(self, after: int, limit: int) -> list[Item]:
        """As `JournalStore.claim`."""
        where = "AND state = 'planned' AND seq > %s ORDER BY seq LIMIT %s"
        return self._items(where, after, limit)

    def get(self, seq: int) -> Item:
        """As `JournalStore.get`."""
        found = self._items("AND seq = %s", seq)
        if not found:
            raise not_found_error(seq)
        return found[0]

    def record(self, item: Item, entry: Entry) -> Item:
        """As `JournalStore.record`."""
        old = item.entry
        known = (
            self._journal,
            item.seq,
            old.state,
            old.lost_at,
            old.accepts,
            old.fence,
        )
        with self._errors():
            done = self._connection().execute(_UPDATE, (*entry_values(entry), *known))
        if not done.rowcount:
            raise stale_error(item)
        return attrs.evolve(item, entry=entry)

    def pending(self) -> list[Item]:
        """As `JournalStore.pending`."""
        states = [state for state in STATES if state not in NOT_PENDING]
        return self._items("AND state = ANY(%s) ORDER BY seq", states)

    def rows(self, *states: State) -> Iterator[Item]:
        """As `JournalStore.rows`; reads chunks, so other calls may come between."""
        where = "AND seq > %s AND state = ANY(%s) ORDER BY seq LIMIT %s"
        after = 0
        while chunk := self._items(where, after, list(states or STATES), _CHUNK):
            yield from chunk
            after = chunk[-1].seq

    def find(self, name: str) -> Item | None:
        """As `JournalStore.find`."""
        where = (
            "AND (custom_id = %s OR key = %s OR track_id = %s"
            " OR (custom_id IS NULL AND left(right(key, %s), %s) = %s)) LIMIT 1"
        )
        found = self._items(where, name, name, name, DIGEST_LENGTH, SHORT_LENGTH, name)
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
                "SELECT state, count(*), sum(accepts), sum(fails) FROM finetuning_item"
                " WHERE journal = %s AND starts_with(key, %s) GROUP BY state",
                prefix,
            )
        )

    def read_note(self, name: str) -> str | None:
        """As `JournalStore.read_note`."""
        rows = self._rows(
            "SELECT value FROM finetuning_note WHERE journal = %s AND name = %s", name
        )
        return str(rows[0][0]) if rows else None

    def write_note(self, name: str, value: str) -> None:
        """As `JournalStore.write_note`."""
        self._rows(
            "INSERT INTO finetuning_note VALUES (%s, %s, %s)"
            " ON CONFLICT (journal, name) DO UPDATE SET value = excluded.value"
            " RETURNING name",
            name,
            value,
        )

    def now(self) -> float:
        """As `JournalStore.now`; the database's clock."""
        with self._errors():
            found = self._connection().execute(
                "SELECT extract(epoch FROM clock_timestamp())::float8"
            )
            return float(found.fetchall()[0][0])

    def close(self) -> None:
        """As `JournalStore.close`."""
        self._closer()


def _close(db: psycopg.Connection | None, process: int) -> None:
    """Close a connection that this process opened, not one of its parent."""
    if db is not None and process == os.getpid():
        db.close()
