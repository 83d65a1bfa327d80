"""The tables of journals in PostgreSQL, and how earlier versions' become them.

All journals of a database share the tables, which are brought up to date as a whole.
What the items of a journal look like has a version for each journal. Programs of an
earlier version must be stopped before: they would write what this one does not expect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finetuning_async.journal import REVIVE_404, JournalError, without_secrets

if TYPE_CHECKING:
    import psycopg

VERSION: Final = 3

NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
"""The time by the database's clock, in seconds since 1970."""

_SINCE: Final = "extract(epoch FROM transaction_timestamp())::float8"
"""The same for all items that are brought up to date at once."""

_LOCK: Final = 0x6674_6E67
"""Number of the advisory lock under which tables are changed; "ftng" in ASCII."""

SCHEMA: Final = """
CREATE TABLE finetuning_journal (
    name text PRIMARY KEY,
    version integer NOT NULL,
    last_seq bigint NOT NULL DEFAULT 0
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
    share text,
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
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    spent_at double precision,
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
CREATE TABLE finetuning_holder (
    journal text NOT NULL REFERENCES finetuning_journal (name) ON DELETE CASCADE,
    name text NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (journal, name)
);
"""

_ADD_BOOKINGS: Final = """
ALTER TABLE finetuning_item ADD COLUMN IF NOT EXISTS spent_at double precision;
CREATE TABLE IF NOT EXISTS finetuning_booking (
    journal text NOT NULL REFERENCES finetuning_journal (name) ON DELETE CASCADE,
    name text NOT NULL,
    share text,
    holder text,
    credits bigint NOT NULL,
    at double precision NOT NULL,
    PRIMARY KEY (journal, name)
);
"""

_TO_3: Final = f"""
ALTER TABLE finetuning_item
    ADD COLUMN IF NOT EXISTS holder text,
    ADD COLUMN IF NOT EXISTS fence integer NOT NULL DEFAULT 0,
    ADD COLUMN share text,
    ADD COLUMN created_at double precision NOT NULL DEFAULT {_SINCE},
    ADD COLUMN updated_at double precision NOT NULL DEFAULT {_SINCE};
ALTER TABLE finetuning_item
    ALTER COLUMN created_at DROP DEFAULT,
    ALTER COLUMN updated_at DROP DEFAULT;
ALTER TABLE finetuning_journal ADD COLUMN last_seq bigint NOT NULL DEFAULT 0;
UPDATE finetuning_journal SET last_seq = coalesce(
    (SELECT max(seq) FROM finetuning_item WHERE journal = name), 0);
CREATE TABLE finetuning_holder (
    journal text NOT NULL REFERENCES finetuning_journal (name) ON DELETE CASCADE,
    name text NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (journal, name)
);
"""  # noqa: S608 - an expression of ours


def prepare(db: psycopg.Connection, journal: str) -> None:
    """Create the tables and the journal, or bring them up to date.

    Args:
        db: The connection, in a transaction.
        journal: The name of the journal.

    Raises:
        JournalError: A newer version wrote it.
    """
    # Without it two programs that start at once would both find no tables.
    db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    if not _has_table(db, "finetuning_item"):
        db.execute(SCHEMA)
    elif not _has_table(db, "finetuning_holder"):
        db.execute(_TO_3)
    if not _has_table(db, "finetuning_booking"):
        db.execute(_ADD_BOOKINGS)
    db.execute(
        "INSERT INTO finetuning_journal (name, version) VALUES (%s, %s)"
        " ON CONFLICT DO NOTHING",
        (journal, VERSION),
    )
    query = "SELECT version FROM finetuning_journal WHERE name = %s"
    ((version,),) = db.execute(query, (journal,)).fetchall()
    if version > VERSION:
        raise JournalError(
            f"the journal {journal} was written by a newer version of"
            f" finetuning-async (journal format {version}, this one reads up to"
            f" {VERSION}); upgrade it"
        )
    if version < VERSION:
        _migrate(db, journal, version)


def _has_table(db: psycopg.Connection, name: str) -> bool:
    return db.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,)


def _migrate(db: psycopg.Connection, journal: str, version: int) -> None:
    name = (journal,)
    if version < 2:
        db.execute(f"UPDATE finetuning_item SET {REVIVE_404} AND journal = %s", name)  # noqa: S608 - names of ours
    db.execute(
        "UPDATE finetuning_item SET state = 'sending'"
        " WHERE state = 'intent' AND journal = %s",
        name,
    )
    _remove_secrets(db, journal)
    query = "UPDATE finetuning_journal SET version = %s WHERE name = %s"
    db.execute(query, (VERSION, journal))


def _remove_secrets(db: psycopg.Connection, journal: str) -> None:
    found = db.execute(
        "SELECT seq, body, result FROM finetuning_item WHERE journal = %s"
        """ AND (body LIKE '%%"webhook"%%' OR result LIKE '%%"webhook"%%')""",
        (journal,),
    )
    rows: list[tuple[Any, ...]] = [
        (without_secrets(body), result and without_secrets(result), journal, seq)
        for seq, body, result in found
    ]
    with db.cursor() as cursor:
        cursor.executemany(
            "UPDATE finetuning_item SET body = %s, result = %s"
            " WHERE journal = %s AND seq = %s",
            rows,
        )
