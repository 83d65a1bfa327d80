"""One suite for every store; a new store is added to `_journal_stores`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs
import psycopg
import pytest

from finetuning_async import GenerationRequest, InstrumentalRequest
from finetuning_async.batch import JournalError, Row, StaleItemError
from finetuning_async.journal._records import Item, ItemFactory, NewItem, Request
from finetuning_async.journal._sqlite_schema import VERSION
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import Entry, State
from finetuning_async.postgres._journal_store import PostgresStore
from tests.journal._journal_stores import STORES, opener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from finetuning_async.journal._store import JournalStore


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[JournalStore]:
    made = opener(request.param, request)()
    yield made
    made.close()


def items(count: int, custom: bool = False) -> list[NewItem]:
    factory = ItemFactory()
    return [
        factory.item(
            Row(
                request=GenerationRequest(f"song {n}", bpm=90),
                custom_id=f"id{n}" if custom else None,
                line=n + 1,
            )
        )
        for n in range(count)
    ]


def test_items_are_read_in_order_and_unchanged(store: JournalStore) -> None:
    added = store.add(items(5))
    assert (added.new, added.known) == (5, 0)
    claimed = store.claim(0, 3)
    assert [item.seq for item in claimed] == [1, 2, 3]
    assert [item.seq for item in store.claim(3, 10)] == [4, 5]
    assert claimed[0].request == GenerationRequest("song 0", bpm=90)
    assert claimed[0].line == 1
    assert claimed[0].entry == Entry()


def test_every_parameter_survives(store: JournalStore) -> None:
    requests: list[Request] = [
        GenerationRequest(
            "a\u2028b 'quoted' \U0001f3b9",
            lyrics="l\nm",
            duration=30.5,
            bpm=90,
            language="en",
            key="Db",
            scale="minor",
            timesignature="3",
            seed=0,
            webhook="https://me.example/hook",
        ),
        InstrumentalRequest("x", duration=30, enhance=False, seed=2**31 - 1),
        InstrumentalRequest("x"),
    ]
    factory = ItemFactory()
    store.add(factory.item(Row(request=request)) for request in requests)
    assert [item.request for item in store.rows()] == requests


def test_items_with_known_keys_stay_unchanged(store: JournalStore) -> None:
    store.add(items(3))
    first = store.claim(0, 1)[0]
    store.record(first, Entry(state="sending", seed=5))
    added = store.add(items(4))
    assert (added.new, added.known) == (1, 3)
    assert [item.entry.state for item in store.rows()] == ["sending", *["planned"] * 3]


def test_a_custom_id_with_different_content_adds_nothing(store: JournalStore) -> None:
    store.add(items(2, custom=True))
    changed = [attrs.evolve(items(9, custom=True)[1], body='{"tags": "other"}')]
    with pytest.raises(JournalError, match=r"line 2: id1 .* different content"):
        store.add([*items(9, custom=True)[5:], *changed])
    assert store.summary().total == 2


def test_an_input_that_fails_midway_adds_nothing(store: JournalStore) -> None:
    def broken() -> Iterator[NewItem]:
        yield from items(1200)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.add(broken())
    assert store.summary().total == 0
    assert store.add(items(2)).new == 2


def test_an_entry_keeps_every_field(store: JournalStore) -> None:
    store.add(items(1))
    entry = Entry(
        state="failed",
        seed=5,
        sent_at=1.25,
        lost_at=2.5,
        track_id="t1",
        former=("t0", "t9"),
        accepts=3,
        fails=2,
        code="FAILED",
        error="it broke",
        result='{"a": 1}',
    )
    store.record(store.claim(0, 1)[0], entry)
    (item,) = store.rows("failed")
    assert item.entry == entry
    assert store.tracks() == {"t0": None, "t1": 5, "t9": None}
    assert (store.summary().accepts, store.summary().fails) == (3, 2)


def test_a_record_from_an_older_state_is_refused(store: JournalStore) -> None:
    store.add(items(1))
    old = store.claim(0, 1)[0]
    store.record(old, Entry(state="sending"))
    with pytest.raises(StaleItemError, match="no longer planned"):
        store.record(old, Entry(state="sending"))
    assert store.get(1).entry == Entry(state="sending")


def test_a_suspended_worker_is_fenced_off(
    store: JournalStore,
) -> None:
    store.add(items(1))
    first = store.record(store.get(1), Entry(state="sending", seed=5))
    lost = store.record(first, Entry(state="unknown", seed=5, lost_at=3.25))
    absent = store.record(lost, Entry(state="planned", seed=5, lost_at=3.25))
    again = store.record(absent, Entry(state="sending", seed=5, lost_at=3.25))
    with pytest.raises(StaleItemError):
        store.record(first, Entry(state="accepted", track_id="t1", accepts=1))
    with pytest.raises(StaleItemError):
        store.record(
            attrs.evolve(again, entry=Entry(state="sending", lost_at=3.25, accepts=1)),
            Entry(state="accepted", track_id="t1", accepts=2),
        )
    assert store.get(1).entry == again.entry


def test_a_track_belongs_to_one_item(store: JournalStore) -> None:
    store.add(items(2))
    store.record(store.get(1), Entry(state="accepted", track_id="t1", accepts=1))
    with pytest.raises(JournalError):
        store.record(store.get(2), Entry(state="accepted", track_id="t1", accepts=1))
    assert store.get(2).entry == Entry()


def test_an_item_is_read_by_its_number(store: JournalStore) -> None:
    store.add(items(2))
    assert store.get(2) == store.claim(1, 1)[0]
    with pytest.raises(JournalError, match="no item 3"):
        store.get(3)


def test_a_store_has_a_clock(store: JournalStore) -> None:
    before = time.time()
    assert abs(store.now() - before) < 5
    assert store.now() <= store.now()


def test_pending_are_the_items_in_progress_or_in_doubt(store: JournalStore) -> None:
    store.add(items(8))
    states: tuple[State, ...] = (
        "planned",
        "sending",
        "unknown",
        "held",
        "accepted",
        "completed",
    )
    every: tuple[State, ...] = (*states, "downloaded", "failed")
    for item, state in zip(store.claim(0, 8), every, strict=True):
        if state != "planned":
            store.record(item, Entry(state=state))
    assert [item.entry.state for item in store.pending()] == list(states[1:])
    assert store.summary().in_doubt == 3
    assert not store.summary().is_done


def test_items_are_found_by_every_shown_name(store: JournalStore) -> None:
    store.add([*items(1), *items(2, custom=True)[1:]])
    first, second = store.claim(0, 2)
    store.record(second, Entry(state="accepted", track_id="t1"))
    for name, seq in ((first.name, 1), (first.key, 1), ("id1", 2), ("t1", 2)):
        found = store.find(name)
        assert found is not None
        assert found.seq == seq
    assert store.find("nobody") is None


def test_notes_are_kept_and_replaced(store: JournalStore) -> None:
    assert store.read_note("a") is None
    store.write_note("a", "1")
    store.write_note("a", "2")
    assert store.read_note("a") == "2"


def test_rows_can_be_changed_during_iteration(store: JournalStore) -> None:
    store.add(items(600))  # more than one chunk
    for item in store.rows("planned"):
        store.record(item, Entry(state="downloaded"))
    assert store.summary().states["downloaded"] == 600


def test_a_key_given_twice_in_one_add_is_one_item(store: JournalStore) -> None:
    added = store.add([*items(2, custom=True), *items(2, custom=True)])
    assert (added.new, added.known) == (2, 2)
    assert [item.seq for item in store.rows()] == [1, 2]


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "j.db").close()
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(JournalError, match="newer version"):
        SQLiteStore(tmp_path / "j.db")


def test_a_file_that_is_not_a_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_bytes(b"no database" * 100)
    with pytest.raises(JournalError, match=r"j\.db"):
        SQLiteStore(tmp_path / "j.db")


def test_a_reader_can_read_while_the_runner_writes(tmp_path: Path) -> None:
    writer = SQLiteStore(tmp_path / "j.db")
    writer.add(items(3))
    reader = SQLiteStore(tmp_path / "j.db", read_only=True)
    writer.record(writer.claim(0, 1)[0], Entry(state="sending"))
    assert reader.summary().states["sending"] == 1
    with pytest.raises(JournalError, match="readonly"):
        reader.write_note("a", "b")
    reader.close()
    writer.close()


def test_every_commit_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from finetuning_async.journal._state_machine import Entry, State
from finetuning_async.journal._sqlite_store import SQLiteStore
from tests.journal.test_stores import items
store = SQLiteStore(Path({str(tmp_path / "j.db")!r}))
store.add(items(3))
store.record(store.claim(0, 1)[0], Entry(state="sending", seed=5))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    store = SQLiteStore(tmp_path / "j.db")
    assert [item.entry.seed for item in store.pending()] == [5]
    store.close()


@pytest.mark.xdist_group("postgres")
def test_a_journal_of_a_newer_version_is_refused(postgres_cluster: str) -> None:
    PostgresStore(postgres_cluster, journal="newer").close()
    with psycopg.connect(postgres_cluster) as db:
        db.execute("UPDATE finetuning_journal SET version = 99 WHERE name = 'newer'")
    with pytest.raises(JournalError, match="newer version"):
        PostgresStore(postgres_cluster, journal="newer")


@pytest.mark.xdist_group("postgres")
def test_a_lost_connection_is_reopened(postgres_cluster: str) -> None:
    store = PostgresStore(postgres_cluster, journal="broken")
    store.add(items(1))
    with psycopg.connect(postgres_cluster) as db:
        number = store._connection().info.backend_pid
        db.execute("SELECT pg_terminate_backend(%s, 5000)", (number,))
    with pytest.raises(JournalError) as caught:
        store.record(store.get(1), Entry(state="sending"))
    assert caught.value.safe_to_retry
    assert store.record(store.get(1), Entry(state="sending")).entry.state == "sending"
    store.close()


@pytest.mark.xdist_group("postgres")
def test_work_in_a_failed_add_is_rolled_back(
    postgres_cluster: str,
) -> None:
    store = PostgresStore(postgres_cluster, journal="together")

    def also(db: psycopg.Connection, new: list[Item]) -> None:
        db.execute("CREATE TABLE a_job AS SELECT %s::int AS seq", (new[-1].seq,))
        if len(new) > 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.add(items(3), also)
    assert store.summary().total == 0
    assert store.add(items(2), also).new == 2
    with psycopg.connect(postgres_cluster) as db:
        assert db.execute("SELECT seq FROM a_job").fetchall() == [(2,)]
    store.close()


@pytest.mark.xdist_group("postgres")
def test_journals_and_batches_are_separate(postgres_cluster: str) -> None:
    first = PostgresStore(postgres_cluster, journal="first")
    second = PostgresStore(postgres_cluster, journal="second")
    for batch in ("a", "a.b"):
        factory = ItemFactory(batch)
        first.add(
            factory.item(Row(request=GenerationRequest("x"), custom_id=name))
            for name in ("one", None)
        )
    assert second.summary().total == 0
    assert first.summary().total == 4
    assert first.summary("a").total == 2
    one, other = first.in_batch("a.b")
    assert (one.file, one.custom_id) == ("a.b/one.mp3", "one")
    assert first.find(other.name) is not None
    first.close()
    second.close()


@pytest.mark.xdist_group("postgres")
def test_programs_that_start_at_once_create_one_journal(postgres: str) -> None:
    def begin(number: int) -> int:
        store = PostgresStore(postgres, journal=f"j{number % 2}")
        added = store.add(items(3)).new
        store.close()
        return added

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 6


@pytest.mark.parametrize("kind", STORES[1:])
def test_a_journal_of_version_1_is_migrated_once(
    request: pytest.FixtureRequest, kind: str
) -> None:
    reopened = opener(kind, request)
    store = reopened()
    store.add(items(3))
    first, second, third = store.claim(0, 3)
    gone = Entry(state="failed", track_id="t1", accepts=1, fails=1, code="NOT_FOUND")
    store.record(first, gone)
    store.record(second, Entry(state="failed", code="NOT_FOUND"))
    store.record(third, Entry(state="failed", track_id="t3", fails=1, code="FAILED"))
    as_version_1(store)
    store.close()
    store = reopened()
    assert [item.entry.state for item in store.rows()] == [
        "accepted",
        "failed",
        "failed",
    ]
    assert (store.summary().accepts, store.summary().fails) == (1, 1)
    store.record(store.get(1), gone)
    store.close()
    store = reopened()
    assert store.get(1).entry == gone
    store.close()


def as_version_1(store: JournalStore) -> None:
    if isinstance(store, SQLiteStore):
        store._db.execute("PRAGMA user_version = 1")
        return
    assert isinstance(store, PostgresStore)
    store.transact(lambda db: db.execute("UPDATE finetuning_journal SET version = 1"))


def test_names_that_differ_only_in_case_get_different_files(
    store: JournalStore,
) -> None:
    factory = ItemFactory()
    rows = [
        Row(request=GenerationRequest("x"), custom_id=name) for name in ("Rain", "rain")
    ]
    store.add([factory.item(rows[0])])
    store.add([factory.item(row) for row in rows])
    first, second = (item.file for item in store.rows())
    assert first == "Rain.mp3"
    assert second.casefold() != "rain.mp3"
