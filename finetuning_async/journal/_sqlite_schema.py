"""The tables of a journal in SQLite, and how those of earlier versions become them.

Version 1 counted a track as failed after a single 404. Versions 1 and 2 held one
journal in a file, called the state `sending` ``intent``, and kept whole webhooks.
Version 3 did not note when credits were spent. The version is SQLite's
``user_version``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from finetuning_async.journal._records import without_secrets
from finetuning_async.journal._sql_columns import ALL_COLUMNS, REVIVE_404

if TYPE_CHECKING:
    import sqlite3

VERSION: Final = 4

OLDEST_VERSION: Final = 1
"""The oldest version that can still be read."""

# AUTOINCREMENT, so that the number of a deleted item is never used again: a process
# that was halted since it read the old item would take the new one for it.
SCHEMA: Final = """
CREATE TABLE item (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    journal TEXT NOT NULL,
    key TEXT NOT NULL,
    custom_id TEXT,
    line INTEGER,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    file TEXT NOT NULL,
    share TEXT,
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
    result TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    spent_at REAL,
    UNIQUE (journal, key)
);
CREATE INDEX item_state ON item (journal, state, seq);
CREATE UNIQUE INDEX item_track ON item (journal, track_id) WHERE track_id IS NOT NULL;
CREATE TABLE note (
    journal TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (journal, name)
) WITHOUT ROWID;
CREATE TABLE holder (
    journal TEXT NOT NULL,
    name TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (journal, name)
) WITHOUT ROWID;
CREATE TABLE booking (
    journal TEXT NOT NULL,
    name TEXT NOT NULL,
    share TEXT,
    holder TEXT,
    credits INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (journal, name)
) WITHOUT ROWID;
"""

_BOOKING: Final = SCHEMA[SCHEMA.index("CREATE TABLE booking") :]

_BEFORE_COPY: Final = """
DROP INDEX IF EXISTS item_state;
DROP INDEX IF EXISTS item_track;
ALTER TABLE item RENAME TO old_item;
ALTER TABLE note RENAME TO old_note;
"""
_AFTER_COPY: Final = """
INSERT INTO note SELECT '', name, value FROM old_note;
DROP TABLE old_item;
DROP TABLE old_note;
"""

_ADDED: Final = {"holder": "NULL", "fence": "0", "share": "NULL", "spent_at": "NULL"}
"""Columns that earlier versions had not, and what they hold for their items."""

_CHANGED: Final = {
    "state": "CASE state WHEN 'intent' THEN 'sending' ELSE state END",
    "body": "without_secrets(body)",
    "result": "without_secrets(result)",
}


def create(db: sqlite3.Connection) -> None:
    """Create the tables, in the transaction that runs."""
    _run(db, SCHEMA)
    db.execute(f"PRAGMA user_version = {VERSION}")


def migrate(db: sqlite3.Connection, version: int, now: float) -> None:
    """Bring a file of an earlier version up to date, in the transaction that runs.

    Args:
        db: The connection.
        version: The version of the file.
        now: When its items count as added, in seconds since 1970.
    """
    if version == 3:
        _run(db, "ALTER TABLE item ADD COLUMN spent_at REAL;" + _BOOKING)
        db.execute(f"PRAGMA user_version = {VERSION}")
        return
    if version < 2:
        db.execute(f"UPDATE item SET {REVIVE_404}")  # noqa: S608 - names of ours
    columns = _old_columns(db, now)
    _run(db, _BEFORE_COPY + SCHEMA)
    db.execute(
        f"INSERT INTO item (journal, {', '.join(columns)})"  # noqa: S608 - names of ours
        f" SELECT '', {', '.join(columns.values())} FROM old_item ORDER BY seq"
    )
    _run(db, _AFTER_COPY)
    db.execute(f"PRAGMA user_version = {VERSION}")


def show_as_current(db: sqlite3.Connection) -> None:
    """Let a connection that only reads see an earlier version's tables as today's."""
    columns = [f"{sql} AS {name}" for name, sql in _old_columns(db, 0.0).items()]
    # Temporary views come before the tables of the same names, and are kept in memory.
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(
        f"CREATE TEMP VIEW item AS SELECT '' AS journal, {', '.join(columns)}"  # noqa: S608 - names of ours
        " FROM main.item"
    )
    db.execute(
        "CREATE TEMP VIEW note AS SELECT '' AS journal, name, value FROM main.note"
    )
    db.execute("CREATE TEMP TABLE holder (journal TEXT, name TEXT, until REAL)")
    _run(db, _BOOKING.replace("CREATE", "CREATE TEMP"))


def _old_columns(db: sqlite3.Connection, now: float) -> dict[str, str]:
    """Today's columns, and how to read each from the tables of an earlier version."""
    db.create_function("without_secrets", 1, _without_secrets, deterministic=True)
    there = {row[1] for row in db.execute("PRAGMA main.table_info(item)")}
    times = {"created_at": repr(now), "updated_at": repr(now)}
    columns = {name: name for name in ALL_COLUMNS} | _CHANGED
    missing = {**_ADDED, **times}
    return columns | {k: sql for k, sql in missing.items() if k not in there}


def _without_secrets(text: str | None) -> str | None:
    return None if text is None else without_secrets(text)


def _run(db: sqlite3.Connection, script: str) -> None:
    # Not `executescript`, which would commit first.
    for statement in script.split(";"):
        db.execute(statement)
