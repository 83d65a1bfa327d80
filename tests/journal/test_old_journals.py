"""Journals of versions 1 and 2 are migrated as a whole, and nothing of them is lost."""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from finetuning_async import GenerationRequest
from finetuning_async.batch import Row
from finetuning_async.journal._errors import JournalError
from finetuning_async.journal._records import ItemFactory
from finetuning_async.journal._sqlite_schema import VERSION
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import Entry
from finetuning_async.postgres._journal_store import PostgresStore
from tests.journal._old_journals import (
    HOOK,
    NOTES,
    ROWS,
    SECRET,
    write_postgres,
    write_sqlite,
)

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async.journal._store import JournalStore


def check_migrated(store: JournalStore, version: int, since: float) -> None:
    found = list(store.rows())
    states = {row["seq"]: row["state"] for row in ROWS} | {2: "sending"}
    if version == 1:
        states[5] = "accepted"  # a single 404 is no end
    assert {item.seq: item.entry.state for item in found} == states
    for item, row in zip(found, ROWS, strict=True):
        for name in ("key", "custom_id", "line", "kind", "file"):
            assert getattr(item, name) == row[name]
        for name in ("seed", "sent_at", "lost_at", "track_id", "accepts", "result"):
            assert getattr(item.entry, name) == row[name]
        assert (item.entry.holder, item.entry.fence, item.share) == (None, 0, None)
        assert since - 5 <= item.created_at == item.updated_at <= time.time() + 5
    assert found[0].request == GenerationRequest("song 1", webhook=HOOK.split("?")[0])
    assert found[0].has_lost_webhook
    assert found[3].entry.former == ("t0",)
    assert [(name, store.read_note(name)) for name, _ in NOTES] == list(NOTES)
    accepts = sum(row["accepts"] for row in ROWS)
    assert store.summary().accepts == accepts
    assert store.summary().fails == 3 - (version == 1)


def check_usable(store: JournalStore) -> None:
    """It goes on as any other: rows are known again, and events recorded."""
    rows = [Row(request=GenerationRequest("song 1", webhook=HOOK), custom_id="song-1")]
    factory = ItemFactory()
    assert store.add(map(factory.item, rows)).known == 1
    assert factory.request(store.get(1)).webhook == HOOK
    assert store.record(store.get(2), Entry(state="unknown", lost_at=5.0)).seq == 2
    new = Row(request=GenerationRequest("song 7"), custom_id="song-7")
    assert store.add([ItemFactory().item(new)]).new == 1
    found = store.find_key("id:song-7")
    assert found is not None
    assert found.seq > 6


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_version_is_migrated(tmp_path: Path, version: int) -> None:
    path, since = tmp_path / "j.db", time.time()
    write_sqlite(path, version)
    path.chmod(0o644)
    store = SQLiteStore(path)
    check_migrated(store, version, since)
    check_usable(store)
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize("version", [1, 2])
def test_postgres_tables_of_an_earlier_version_are_migrated(
    postgres: str, version: int
) -> None:
    since = time.time()
    write_postgres(postgres, ("default", version))
    store = PostgresStore(postgres)
    check_migrated(store, version, since)
    check_usable(store)
    store.close()


def test_each_journal_of_a_postgres_database_is_migrated_when_it_is_opened(
    postgres: str,
) -> None:
    since = time.time()
    write_postgres(postgres, ("first", 1), ("second", 2), ("third", 2))
    for name, version in (("first", 1), ("second", 2)):
        store = PostgresStore(postgres, journal=name)
        check_migrated(store, version, since)
        store.close()
    with psycopg.connect(postgres) as db:
        found = db.execute("SELECT name, version FROM finetuning_journal ORDER BY name")
        assert found.fetchall() == [("first", 3), ("second", 3), ("third", 2)]


@pytest.mark.parametrize("version", [1, 2])
def test_the_query_of_a_webhook_is_in_no_byte_of_a_migrated_file(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "j.db"
    write_sqlite(path, version)
    with closing(sqlite3.connect(path)) as db, db:
        # Long lyrics are kept in pages of their own, which an update leaves free.
        for lyrics in ("a" * 20_000, "b" * 10):
            body = f'{{"lyrics": "{lyrics}", "tags": "x", "webhook": "{HOOK}"}}'
            db.execute("UPDATE item SET body = ? WHERE seq = 3", (body,))
    assert SECRET.encode() in path.read_bytes()
    store = SQLiteStore(path)
    for part in tmp_path.iterdir():
        assert SECRET.encode() not in part.read_bytes(), part
    store.close()
    assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_version_is_read_as_it_is(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "j.db"
    write_sqlite(path, version)
    before = path.read_bytes()
    store = SQLiteStore(path, read_only=True)
    found = list(store.rows())
    assert [item.entry.state for item in found] == [
        "planned",
        "sending",
        "unknown",
        "downloaded",
        "failed",
        "failed",
    ]
    assert found[0].request.webhook == HOOK.split("?")[0]
    assert [item.seq for item in store.rows("sending", "failed")] == [2, 5, 6]
    assert store.find("song-4") == store.find_track("t4") == store.get(4)
    assert store.tracks() == {"t0": None, "t4": 9, "t5": None, "t6": None}
    assert store.summary().states["sending"] == 1
    assert store.read_note("account") == "acc_1"
    assert not store.is_alive("nobody")
    with pytest.raises(JournalError):
        store.write_note("a", "b")
    store.close()
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    write_sqlite(path, 2)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE item SET body = ' {\"webhook\"' WHERE seq = 6")  # no JSON
    with pytest.raises(JournalError, match=r"j\.db"):
        SQLiteStore(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        states = db.execute("SELECT state FROM item ORDER BY seq").fetchall()
        assert [state for (state,) in states] == [row["state"] for row in ROWS]


def test_a_batch_of_an_earlier_version_knows_its_rows_without_names_again(
    tmp_path: Path,
) -> None:
    # Their keys are made of their content, the whole webhook included.
    path = tmp_path / "j.db"
    write_sqlite(path, 2)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "UPDATE item SET key = 'd494416c4d9a51d13f9547b49dabe358', custom_id = NULL"
            " WHERE seq = 1"
        )
    store = SQLiteStore(path)
    row = Row(request=GenerationRequest("song 1", webhook=HOOK))
    assert store.add([ItemFactory().item(row)]).known == 1
    store.close()
