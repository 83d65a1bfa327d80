"""One suite for every store; a new store is added to `_journal_stores`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest

from finetuning_async import (
    GenerationRequest,
    InstrumentalRequest,
    SoundEffectRequest,
)
from finetuning_async.batch import JournalError, Row, StaleItemError
from finetuning_async.journal._records import (
    Item,
    ItemFactory,
    NewItem,
    Request,
    body_of,
)
from finetuning_async.journal._spending import LONGEST_LEASE
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import Entry, State
from finetuning_async.journal._store import Delete, Insert, MemoryStore, Update
from finetuning_async.postgres import PostgresJournal
from finetuning_async.postgres._journal_connection import PostgresConnection
from finetuning_async.postgres._journal_store import PostgresStore
from tests.journal._items import inserted, items, new
from tests.journal._journal_stores import STORES, opener, partitions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from finetuning_async._api import AnyRequest
    from finetuning_async.journal._store import JournalStore


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[JournalStore]:
    made = opener(request.param, request)()
    yield made
    made.close()


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
from tests.journal._items import items
store = SQLiteStore(Path({str(tmp_path / "j.db")!r}))
store.add(items(3))
store.record(store.claim(0, 1)[0], Entry(state="sending", seed=5))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    store = SQLiteStore(tmp_path / "j.db")
    assert [item.entry.seed for item in store.pending()] == [5]
    store.close()


def test_a_postgres_journal_of_a_newer_version_is_refused(
    postgres_cluster: str,
) -> None:
    PostgresStore(postgres_cluster, journal="newer").close()
    with psycopg.connect(postgres_cluster) as db:
        db.execute("UPDATE finetuning_journal SET version = 99 WHERE name = 'newer'")
    with pytest.raises(JournalError, match="newer version"):
        PostgresStore(postgres_cluster, journal="newer")


def test_a_lost_connection_to_postgres_is_reopened(postgres_cluster: str) -> None:
    store = PostgresStore(postgres_cluster, journal="broken")
    store.add(items(1))
    with psycopg.connect(postgres_cluster) as db:
        with store._connection.use() as own:
            number = own.info.backend_pid
        db.execute("SELECT pg_terminate_backend(%s, 5000)", (number,))
    with pytest.raises(JournalError) as caught:
        store.record(store.get(1), Entry(state="sending"))
    assert caught.value.safe_to_retry
    assert store.record(store.get(1), Entry(state="sending")).entry.state == "sending"
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_child_forked_during_a_call_to_postgres_in_another_thread_goes_on(
    postgres_cluster: str,
) -> None:
    journal = PostgresJournal(postgres_cluster)
    store = journal.open("forked")
    began, may_end = threading.Event(), threading.Event()

    def work(_: object) -> None:
        began.set()
        may_end.wait(10)

    thread = threading.Thread(target=store.transact, args=(work,))
    thread.start()
    began.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # if it hangs
        try:
            assert journal.open("forked").find_key("none") is None
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    may_end.set()
    thread.join()
    store.close()
    assert os.waitstatus_to_exitcode(status) == 0


class SignalledError(Exception):
    """Raised by the handler of a signal."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signal here")
@pytest.mark.parametrize("part", ["transaction", "use"])
def test_a_signal_that_ends_a_query_of_postgres_leaves_a_usable_store(
    postgres_cluster: str, part: str
) -> None:
    def raise_error(*_: object) -> None:
        raise SignalledError

    connection = PostgresConnection(postgres_cluster)
    before = signal.signal(signal.SIGALRM, raise_error)
    try:
        with pytest.raises(SignalledError):  # noqa: PT012 - the query is in the block
            with getattr(connection, part)() as db:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                db.execute("SELECT pg_sleep(5)")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with connection.transaction() as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
    connection.close()


def test_work_in_a_failed_add_is_rolled_back_in_postgres(
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


def test_an_item_in_postgres_that_is_deleted_while_it_is_inserted_again_is_returned(
    postgres_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(postgres_cluster, journal="raced")
    other = PostgresStore(postgres_cluster, journal="raced")
    item = inserted(other, "k")
    look = store._by_key

    def look_before_it_is_deleted(keys: list[str]) -> dict[str, Item]:
        found = look(keys)
        other.commit([Delete(item)])
        return found

    monkeypatch.setattr(store, "_by_key", look_before_it_is_deleted)
    again, added = store.commit([Insert(new("k")), Insert(new("new"))])
    assert again == item
    monkeypatch.undo()
    assert list(store.rows()) == [added]
    store.close()
    other.close()


def test_journals_and_batches_in_postgres_are_separate(postgres_cluster: str) -> None:
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


def test_programs_that_start_at_once_create_one_journal_in_postgres(
    postgres: str,
) -> None:
    def begin(number: int) -> int:
        store = PostgresStore(postgres, journal=f"j{number % 2}")
        added = store.add(items(3)).new
        store.close()
        return added

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(8))) == 6


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


def test_an_item_is_inserted_with_its_entry(store: JournalStore) -> None:
    # Equal to the last digit: that shows a call that it has added the entry.
    entry = Entry(
        state="sending", holder="h1", fence=3, seed=5, sent_at=1772474700.1234567
    )
    item = inserted(store, "order-1", entry)
    assert (item.key, item.file, item.entry, item.name) == (
        "order-1",
        "",
        entry,
        "order-1",
    )
    assert item == store.find_key("order-1") == store.get(item.seq)
    assert store.find_key("order-2") is None


def test_an_item_whose_key_is_known_is_not_inserted_again(store: JournalStore) -> None:
    first = inserted(store, "order-1", Entry(holder="h1"))
    other = attrs.evolve(new("order-1"), body='{"tags": "wind"}')
    again, twice = store.commit([Insert(other, Entry(holder="h2")), Insert(other)])
    assert again == twice == first
    assert store.summary().total == 1


def test_the_share_of_an_item_is_kept(store: JournalStore) -> None:
    (item,) = store.commit([Insert(new("order-1", share="tenant-7"))])
    assert isinstance(item, Item)
    assert store.get(item.seq).share == "tenant-7"


def test_items_know_when_they_were_added_and_changed(store: JournalStore) -> None:
    before = store.now()
    store.add(items(1))
    item = inserted(store, "order-1")
    for one in (store.get(1), item):
        assert before <= one.created_at == one.updated_at <= store.now()
    changed = store.record(item, Entry(state="sending"))
    assert changed.created_at == item.created_at <= changed.updated_at <= store.now()
    assert changed == store.get(item.seq)


def test_changes_are_committed_together_and_in_order(store: JournalStore) -> None:
    one, two = inserted(store, "1"), inserted(store, "2")
    results = store.commit(
        [
            Update(one, Entry(state="sending", seed=1)),
            Delete(two),
            Insert(new("2"), Entry(holder="h")),
            Insert(new("3")),
            Update(one, Entry(state="sending", seed=2)),  # stale by the first
        ]
    )
    assert [type(result) for result in results] == [
        Item,
        type(None),
        Item,
        Item,
        StaleItemError,
    ]
    assert results[0] == store.find_key("1")
    assert results[2] == store.find_key("2")
    assert store.get(one.seq).entry.seed == 1


def test_a_change_that_is_not_possible_does_not_undo_the_others(
    store: JournalStore,
) -> None:
    one, two, three = (inserted(store, key) for key in "123")
    accepted = Entry(state="accepted", track_id="t1", accepts=1)
    store.record(one, accepted)
    results = store.commit(
        [
            Update(one, accepted),  # stale
            Update(two, accepted),  # the track is another item's
            Insert(new("4")),
            Delete(one),  # stale
            Update(three, attrs.evolve(accepted, track_id="t3")),
        ]
    )
    stale, taken, fourth, stale_too, changed = results
    assert isinstance(stale, StaleItemError)
    assert isinstance(stale_too, StaleItemError)
    assert isinstance(taken, JournalError)
    assert not isinstance(taken, StaleItemError)
    assert "t1 already belongs" in str(taken)
    assert fourth == store.find_key("4")
    assert changed == store.find_track("t3")
    assert store.get(two.seq) == two
    assert store.commit([]) == []


def test_a_change_that_cannot_be_stored_does_not_undo_the_others(
    store: JournalStore,
) -> None:
    one, two = inserted(store, "1"), inserted(store, "2")
    sending = Entry(state="sending", seed=2**70)
    refused, changed = store.commit(
        [Update(one, sending), Update(two, attrs.evolve(sending, seed=7))]
    )
    assert isinstance(changed, Item)
    assert store.get(two.seq).entry.seed == 7
    if not isinstance(store, MemoryStore):
        assert isinstance(refused, JournalError)
        assert not isinstance(refused, StaleItemError)
        assert store.get(one.seq) == one


def test_texts_of_the_service_can_be_any(store: JournalStore) -> None:
    # JSON may hold half an emoji, as where a title was cut, and a NUL.
    result = json.dumps({"id": "t1", "title": "ra\ud83d \0"}, ensure_ascii=False)
    entry = Entry(state="accepted", track_id="t1", error="cut \ud83d \0", result=result)
    item = inserted(store, "1")
    (stored,) = store.commit([Update(item, entry)])
    assert isinstance(stored, Item)
    found = store.get(item.seq)
    assert found.result == {"id": "t1", "title": "ra\ud83d \0"}
    assert str(found.entry.error).startswith("cut ")


def test_effects_cost_no_credits(store: JournalStore) -> None:
    effect = attrs.evolve(new("1"), kind="sound_effect")
    failed = Entry(state="failed", track_id="t1", accepts=1, fails=1)
    store.commit([Insert(effect, failed)])
    inserted(store, "2", attrs.evolve(failed, track_id="t2"))
    summary = store.summary()
    assert (summary.accepts, summary.fails) == (1, 1)
    assert summary.states["failed"] == 2


def test_an_item_is_deleted_unless_it_was_changed(store: JournalStore) -> None:
    item = inserted(store, "order-1")
    claimed = store.record(item, Entry(holder="h2", fence=1))
    (stale,) = store.commit([Delete(item)])
    assert isinstance(stale, StaleItemError)
    assert store.commit([Delete(claimed)]) == [None]
    assert store.find_key("order-1") is None
    (gone,) = store.commit([Delete(claimed)])
    assert isinstance(gone, StaleItemError)
    with pytest.raises(StaleItemError):
        store.record(claimed, Entry(state="sending"))


def test_the_number_of_a_deleted_item_is_not_used_again(store: JournalStore) -> None:
    # Its holder may only be halted. It must not take the new item for its own.
    store.add(items(2))
    item = inserted(store, "order-1", Entry(holder="halted"))
    store.commit([Delete(item)])
    again = inserted(store, "order-1", Entry(holder="other"))
    assert again.seq > item.seq
    with pytest.raises(StaleItemError):
        store.record(item, Entry(state="sending", holder="halted"))
    assert store.get(again.seq) == again
    store.add(items(3))
    assert len({one.seq for one in store.rows()}) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"state": "sending"},
        {"lost_at": 5.0},
        {"accepts": 1},
        {"fence": 1},
    ],
)
def test_each_part_of_the_version_fences(
    store: JournalStore, changed: dict[str, Any]
) -> None:
    item = inserted(store, "order-1")
    store.record(item, attrs.evolve(item.entry, **changed))
    with pytest.raises(StaleItemError):
        store.record(item, Entry(state="sending", seed=1))
    (stale,) = store.commit([Delete(item)])
    assert isinstance(stale, StaleItemError)


def test_an_item_is_found_by_its_track(store: JournalStore) -> None:
    item = inserted(store, "order-1")
    store.record(item, Entry(state="accepted", track_id="t1", former=("t0",)))
    found = store.find_track("t1")
    assert found is not None
    assert found.key == "order-1"
    assert store.find_track("t0") is None
    assert store.find_track("order-1") is None


def test_a_holder_may_live_for_as_long_as_the_longest_lease(tmp_path: Path) -> None:
    for store in (
        SQLiteStore(tmp_path / "j.db", clock=lambda: 7.0),
        MemoryStore(lambda: 7.0),
    ):
        store.beat("h", LONGEST_LEASE)
        assert store.is_alive("h")
        store.beat("h", LONGEST_LEASE + 0.1)
        assert not store.is_alive("h")
        store.close()


def test_a_leases_holder_lives_as_long_as_it_said(store: JournalStore) -> None:
    assert not store.is_alive("h1")
    store.beat("h1", 60.0)
    store.beat("h2", -1.0)
    assert store.is_alive("h1")
    assert not store.is_alive("h2")
    store.beat("h2", 60.0)
    store.beat("h1", 0.05)
    assert store.is_alive("h2")
    time.sleep(0.1)
    assert not store.is_alive("h1")
    store.remove_holder("h2")
    store.remove_holder("nobody")
    assert not store.is_alive("h2")
    # As one that died before the clock was set back by a day.
    store.beat("h3", 86_400.0)
    assert not store.is_alive("h3")


def test_a_note_is_swapped_only_if_it_is_the_old_one(store: JournalStore) -> None:
    assert not store.swap_note("a", "1", "2")
    assert store.swap_note("a", None, "1")
    assert not store.swap_note("a", None, "2")
    assert not store.swap_note("a", "2", "3")
    assert store.swap_note("a", "1", "2")
    assert store.read_note("a") == "2"


def test_pages_go_on_where_the_last_one_ended(store: JournalStore) -> None:
    store.add(items(9))
    for item in list(store.rows())[::2]:
        store.record(item, Entry(state="failed"))
    assert [item.seq for item in store.page(0, 3)] == [1, 2, 3]
    assert [item.seq for item in store.page(3, 100)] == [4, 5, 6, 7, 8, 9]
    assert [item.seq for item in store.page(2, 2, "failed")] == [3, 5]
    assert [item.seq for item in store.page(2, 3, "failed", "planned")] == [3, 4, 5]
    assert store.page(0, 3, "held") == store.page(9, 3) == []


def test_every_kind_of_request_survives(store: JournalStore) -> None:
    hook = "https://user:pw@me.example/hook?token=s3cret#part"
    requests: list[AnyRequest] = [
        GenerationRequest("rain", lyrics="la", webhook=hook),
        InstrumentalRequest("rain", enhance=False),
        SoundEffectRequest("bang", duration=2, webhook=hook),
    ]
    for request in requests:
        made = attrs.evolve(new(request.prompt + request.kind), kind=request.kind)
        store.commit([Insert(attrs.evolve(made, body=body_of(request)))])
    found = list(store.rows())
    assert [item.request for item in found] == [
        attrs.evolve(requests[0], webhook="https://me.example/hook"),
        requests[1],
        attrs.evolve(requests[2], webhook="https://me.example/hook"),
    ]
    assert [item.has_lost_webhook for item in found] == [True, False, True]
    assert not any(word in repr(found) for word in ("s3cret", "user:pw", "part"))


def test_threads_share_a_store(store: JournalStore) -> None:
    def work(number: int) -> list[int]:
        made = [inserted(store, f"{number}-{n}") for n in range(20)]
        for item in made:
            store.record(item, Entry(state="sending", seed=number))
        inserted(store, "same")
        return [item.seq for item in made]

    with ThreadPoolExecutor(8) as pool:
        seqs = [seq for found in pool.map(work, range(8)) for seq in found]
    assert len(set(seqs)) == 160
    assert store.summary().states["sending"] == 160
    assert store.summary().total == 161


def test_of_many_that_claim_an_item_one_succeeds(store: JournalStore) -> None:
    item = inserted(store, "order-1")

    def claim(number: int) -> bool:
        entry = Entry(holder=f"h{number}", fence=1)
        (result,) = store.commit([Update(item, entry)])
        return isinstance(result, Item)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(40))) == 1


@pytest.mark.parametrize("kind", STORES[1:])
def test_two_openings_of_one_journal_see_each_other(
    request: pytest.FixtureRequest, kind: str
) -> None:
    reopened = opener(kind, request)
    one, two = reopened(), reopened()
    item = inserted(one, "order-1", Entry(holder="h1"))
    assert inserted(two, "order-1", Entry(holder="h2")) == item
    two.beat("h2", 60.0)
    assert one.is_alive("h2")
    two.record(item, Entry(state="sending"))
    with pytest.raises(StaleItemError):
        one.record(item, Entry(state="sending"))
    one.close()
    two.close()


def test_the_newest_of_a_prefix_are_paged_backwards(store: JournalStore) -> None:
    keys = ["a:1", "b:1", "a%:1", "a:2", "a_:1", "A:1", "a:3"]
    store.commit([Insert(new(key)) for key in keys])
    first = store.newest("a:", None, 2)
    assert [item.key for item in first] == ["a:3", "a:2"]
    assert [item.key for item in store.newest("a:", first[-1].seq, 9)] == ["a:1"]
    assert [item.key for item in store.newest("", None, 3)] == ["a:3", "A:1", "a_:1"]
    assert [item.key for item in store.newest("a%", None, 9)] == ["a%:1"]
    assert store.newest("a:4", None, 9) == []


@pytest.mark.parametrize("kind", STORES[1:])
def test_accounts_share_a_file_or_a_database_and_nothing_in_it(
    request: pytest.FixtureRequest, kind: str
) -> None:
    one, two = partitions(kind, request)
    accepted = Entry(state="accepted", track_id="t1", seed=1, accepts=1, former=("t0",))
    for store, body in ((one, '{"tags": "rain"}'), (two, '{"tags": "wind"}')):
        item = attrs.evolve(new("order-1"), body=body)
        store.commit([Insert(item, accepted)])
        store.write_note("name", body)
    one.beat("h", 60.0)
    assert not two.is_alive("h")
    for store, tags in ((one, "rain"), (two, "wind")):
        for found in (
            store.find_key("order-1"),
            store.find_track("t1"),
            store.find("order-1"),
            *store.rows(),
            *store.page(0, 9, "accepted"),
            *store.pending(),
        ):
            assert found is not None
            assert found.request.tags == tags
        assert store.summary().total == 1
        assert store.tracks() == {"t0": None, "t1": 1}
        assert store.read_note("name") == f'{{"tags": "{tags}"}}'
        store.close()
