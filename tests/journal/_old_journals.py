"""Journals as versions 1 and 2 wrote them, by their own SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "s3cret-of-the-webhook"
HOOK: Final = f"https://me.example/hook?token={SECRET}"

SQLITE: Final = """
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
    code TEXT,
    error TEXT,
    result TEXT
);
CREATE INDEX item_state ON item (state);
CREATE UNIQUE INDEX item_track ON item (track_id) WHERE track_id IS NOT NULL;
CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

POSTGRES: Final = """
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

NEW_COLUMNS: Final = ("seq", "key", "custom_id", "line", "kind", "body", "file")
ENTRY_COLUMNS: Final = (
    "state",
    "seed",
    "sent_at",
    "lost_at",
    "track_id",
    "former",
    "accepts",
    "fails",
    "code",
    "error",
    "result",
)
COLUMNS: Final = (*NEW_COLUMNS, *ENTRY_COLUMNS)


def _row(seq: int, state: str, **values: Any) -> dict[str, Any]:
    """A row, with what most have in common."""
    common = {
        "seq": seq,
        "key": f"id:song-{seq}",
        "custom_id": f"song-{seq}",
        "line": seq,
        "kind": "music",
        "body": f'{{"tags": "song {seq}"}}',
        "file": f"song-{seq}.mp3",
        "state": state,
        "former": "[]",
        "accepts": 0,
        "fails": 0,
    }
    return dict.fromkeys(COLUMNS) | common | values


ROWS: Final = (
    _row(1, "planned", body=f'{{"tags": "song 1", "webhook": "{HOOK}"}}'),
    _row(2, "intent", seed=7, sent_at=1000.5),
    _row(3, "unknown", seed=8, sent_at=1001.5, lost_at=1002.5, code="unknown"),
    _row(
        4,
        "downloaded",
        seed=9,
        track_id="t4",
        former='["t0"]',
        accepts=2,
        fails=1,
        result='{"id": "t4", "title": "Lied"}',
    ),
    _row(5, "failed", track_id="t5", accepts=1, fails=1, code="NOT_FOUND"),
    _row(6, "failed", track_id="t6", accepts=1, fails=1, code="FAILED", error="broke"),
)
"""An item in each kind of state. The fifth failed after a single 404: version 1 counted
that as a failure."""

NOTES: Final = (("account", "acc_1"), ("credits", "90"))


def write_sqlite(path: Path, version: int) -> None:
    """Write such a journal into a new file, in WAL mode as they were."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SQLITE)
        marks = ", ".join("?" * len(COLUMNS))
        db.executemany(
            f"INSERT INTO item ({', '.join(COLUMNS)}) VALUES ({marks})",  # noqa: S608 - names of ours
            [tuple(row[name] for name in COLUMNS) for row in ROWS],
        )
        db.executemany("INSERT INTO note VALUES (?, ?)", NOTES)
        db.execute(f"PRAGMA user_version = {version}")


def downgrade(path: Path, version: int) -> None:
    """Turn a batch's journal into the one that an earlier version would have made."""
    names = ", ".join(COLUMNS)
    with closing(sqlite3.connect(path)) as db, db:
        rows = db.execute(f"SELECT {names} FROM item ORDER BY seq").fetchall()  # noqa: S608 - names of ours
        notes = db.execute("SELECT name, value FROM note").fetchall()
        db.executescript(
            "DROP TABLE item; DROP TABLE note; DROP TABLE holder;"
            " DROP TABLE IF EXISTS booking"
        )
        db.executescript(SQLITE)
        marks = ", ".join("?" * len(COLUMNS))
        db.executemany(f"INSERT INTO item ({names}) VALUES ({marks})", rows)  # noqa: S608 - names of ours
        db.execute("UPDATE item SET state = 'intent' WHERE state = 'sending'")
        db.executemany("INSERT INTO note VALUES (?, ?)", notes)
        db.execute(f"PRAGMA user_version = {version}")


def write_postgres(conninfo: str, *versions: tuple[str, int]) -> None:
    """Write such journals, each a name and a version, into an empty database."""
    with psycopg.connect(conninfo) as db:
        db.execute(POSTGRES)
        marks = ", ".join(["%s"] * (1 + len(COLUMNS)))
        for name, version in versions:
            db.execute(
                "INSERT INTO finetuning_journal VALUES (%s, %s)", (name, version)
            )
            db.cursor().executemany(
                f"INSERT INTO finetuning_item (journal, {', '.join(COLUMNS)})"  # noqa: S608 - names of ours
                f" VALUES ({marks})",
                [(name, *(row[column] for column in COLUMNS)) for row in ROWS],
            )
            db.cursor().executemany(
                "INSERT INTO finetuning_note VALUES (%s, %s, %s)",
                [(name, *note) for note in NOTES],
            )
