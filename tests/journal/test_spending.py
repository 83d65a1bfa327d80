"""What a store counts in a budget: every kind alike, and like a list of credits."""

from __future__ import annotations

import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from finetuning_async import BudgetExceededError, GenerationRequest, SoundEffectRequest
from finetuning_async._pacing._credit_limit import TOLERANCE, CreditLimit
from finetuning_async.journal._errors import JournalError, StaleItemError
from finetuning_async.journal._records import Item, NewItem, body_of
from finetuning_async.journal._spending import LATE, Booking
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import (
    Absent,
    Accepted,
    Claimed,
    Ended,
    Entry,
    Event,
    Found,
    Lost,
    NotSent,
    Sending,
    step,
)
from finetuning_async.journal._store import Delete, Insert, MemoryStore, Update
from finetuning_async.postgres._journal_store import PostgresStore
from tests._client_journals import put
from tests.journal._journal_stores import STORES, opener, partitions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from finetuning_async._api import AnyRequest
    from finetuning_async.journal._store import Committed, JournalStore

RAIN = GenerationRequest("rain")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[JournalStore]:
    made = opener(request.param, request)()
    yield made
    made.close()


def new(key: str, share: str | None = None, request: AnyRequest = RAIN) -> NewItem:
    return NewItem(
        key=key,
        custom_id=None,
        line=None,
        kind=request.kind,
        body=body_of(request),
        file="",
        share=share,
    )


def record(store: JournalStore, item: Item, *events: Event) -> Item:
    for event in events:
        item = store.record(item, step(item.entry, event)[0])
    return item


def add(
    store: JournalStore, key: str, *events: Event, share: str | None = None
) -> Item:
    return record(store, put(store, new(key, share), Entry(holder="h")), *events)


def used(store: JournalStore, **limit: Any) -> tuple[int, int]:
    usage = store.usage(attrs.evolve(CreditLimit(100), **limit))
    return usage.spent, usage.reserved


SENT = Sending(7, 1.0)


def test_what_may_have_been_charged_is_spent_and_what_is_not_is_free(
    store: JournalStore,
) -> None:
    add(store, "planned, its holder is dead")
    assert used(store) == (0, 0)
    store.beat("h", 60)
    assert used(store) == (0, 1)
    add(store, "sending", SENT)
    add(store, "unknown", SENT, Lost(2.0, "lost"))
    add(store, "refused", SENT, NotSent(), Claimed("dead"))
    add(store, "absent", SENT, Lost(2.0, "lost"), Absent())
    add(store, "accepted", SENT, Accepted("t1"))
    add(store, "failed", SENT, Accepted("t2"), Ended(True))
    put(
        store,
        new("effect", request=SoundEffectRequest("a door")),
        Entry(state="sending"),
    )
    assert used(store) == (4, 1)
    assert used(store, per=1e6) == (4, 1)
    store.remove_holder("h")
    assert used(store) == (4, 0)


def test_the_credits_of_one_share_are_counted_alone(store: JournalStore) -> None:
    for share in ("a", "b", "b", None):
        add(
            store,
            f"{share} {random.random()}",
            SENT,
            Accepted(f"t{random.random()}"),
            share=share,
        )
    store.book(Booking(name="x", share="b"))
    assert [used(store, share=share)[0] for share in ("a", "b", "c", None)] == [
        1,
        3,
        0,
        5,
    ]


def test_what_is_forgotten_stays_spent(store: JournalStore) -> None:
    accepted = add(store, "k", SENT, Accepted("t1"), share="a")
    doubted = add(store, "l", SENT, Lost(2.0, "lost"))
    planned = add(store, "m")
    store.commit([Delete(accepted), Delete(doubted), Delete(planned)])
    assert (used(store)[0], used(store, share="a")[0]) == (2, 1)
    again = add(store, "k", Sending(8, 1.0), Accepted("t2"))
    store.commit([Delete(again)])
    assert used(store)[0] == 3


def test_a_booking_is_reserved_while_its_holder_lives_and_then_spent(
    store: JournalStore,
) -> None:
    held = Booking(name="b", share=None, holder="h")
    store.book(held)
    assert used(store) == (0, 0)
    store.beat("h", 60)
    assert used(store) == (0, 1)
    store.book(attrs.evolve(held, holder=None))
    assert used(store) == (1, 0)
    store.unbook("b")
    assert used(store) == (0, 0)


class Clock:
    """One that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "file"])
def timed(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[JournalStore, Clock]]:
    clock = Clock()
    made: JournalStore
    if request.param == "memory":
        made = MemoryStore(clock=clock)
    else:
        made = SQLiteStore(tmp_path / "j.db", "one", clock=clock)
    yield made, clock
    made.close()


def test_a_credit_counts_for_a_period_and_not_a_moment_longer(
    timed: tuple[JournalStore, Clock],
) -> None:
    store, clock = timed
    store.book(Booking(name="b", share=None))
    for clock.now, spent in ((1000.0, 1), (1059.0, 1), (1060.0, 0)):
        assert store.usage(CreditLimit(5, per=60.0)).spent == spent


def test_what_was_spent_a_period_ago_within_rounding_counts_no_more(
    timed: tuple[JournalStore, Clock],
) -> None:
    store, clock = timed
    clock.now = TOLERANCE
    store.book(Booking(name="b", share=None))
    add(store, "k", SENT, Accepted("t1"))
    clock.now = 60.0
    assert store.usage(CreditLimit(5, per=60.0)).spent == 0


def test_a_holder_lives_until_its_lease_ends_and_not_a_moment_longer(
    timed: tuple[JournalStore, Clock],
) -> None:
    store, clock = timed
    store.beat("h", 10.0)
    for clock.now, is_alive in ((1000.0, True), (1009.0, True), (1010.0, False)):
        assert store.is_alive("h") == is_alive


def test_a_change_above_a_limit_is_not_made_and_undoes_no_other(
    store: JournalStore,
) -> None:
    store.beat("h", 60)
    limits = (CreditLimit(2),)
    held = Entry(holder="h")
    made = store.commit([Insert(new(key), held, limits) for key in "abc"])
    assert [type(one) for one in made] == [Item, Item, BudgetExceededError]
    assert store.find_key("c") is None
    # A known key costs nothing.
    (known,) = store.commit([Insert(new("a"), held, limits)])
    assert isinstance(known, Item)
    for item in made[:2]:
        assert isinstance(item, Item)
        sending = step(item.entry, SENT)[0]
        (sent,) = store.commit([Update(item, sending, limits)])
        assert isinstance(sent, Item)
        (again,) = store.commit([Update(item, sending, limits)])
        assert isinstance(again, StaleItemError)
    with pytest.raises(BudgetExceededError):
        store.book(Booking(name="x", share=None, holder="h"), limits)


def test_a_postgres_database_lends_a_credit_under_its_lock_beside_an_impossible_change(
    postgres_cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = (PostgresStore(postgres_cluster, journal="lock") for _ in range(2))
    accepted = Entry(state="accepted", track_id="t1", accepts=1)
    put(store, new("a"), accepted)
    taken = Update(put(store, new("b"), Entry()), accepted)
    apply, locked = store._apply_within_limits, []

    def watched(change: Insert | Update) -> Committed:
        query = "SELECT FROM finetuning_journal WHERE name = 'lock' FOR UPDATE NOWAIT"
        with pytest.raises(JournalError, match="could not obtain lock"):
            other.transact(lambda db: db.execute(query))
        locked.append(change)
        return apply(change)

    monkeypatch.setattr(store, "_apply_within_limits", watched)
    results = store.commit([taken, Insert(new("c"), Entry(), (CreditLimit(2),))])
    assert [type(one) for one in results] == [JournalError, Item]
    assert len(locked) == 1
    store.close()
    other.close()


def test_what_is_to_be_sent_is_held_up_by_what_is_spent_only(
    store: JournalStore,
) -> None:
    """A process that was halted may find its reservation taken."""
    halted = add(store, "halted")  # its holder is dead
    store.beat("other", 60)
    held, limits = Entry(holder="other"), (CreditLimit(1),)
    (other,) = store.commit([Insert(new("other"), held, limits)])
    assert isinstance(other, Item)
    claimed = step(halted.entry, Claimed("me"))[0]
    (refused,) = store.commit([Update(halted, claimed, limits)])
    assert isinstance(refused, BudgetExceededError)
    sending = step(halted.entry, SENT)[0]
    (sent,) = store.commit([Update(halted, sending, limits)])
    assert isinstance(sent, Item)
    (refused,) = store.commit([Update(other, sending, limits)])
    assert isinstance(refused, BudgetExceededError)
    assert store.get(other.seq).entry.state == "planned"


def test_a_booking_is_held_up_by_what_is_reserved_while_it_is_reserved_itself(
    store: JournalStore,
) -> None:
    store.beat("h", 60)
    limits = (CreditLimit(1),)
    held = Booking(name="b", share=None, holder="h")
    store.book(Booking(name="a", share=None, holder="h"))
    with pytest.raises(BudgetExceededError):
        store.book(held, limits)
    store.book(attrs.evolve(held, holder=None), limits)
    assert used(store) == (1, 1)


@pytest.mark.parametrize("kind", STORES)
def test_of_two_processes_one_gets_the_last_credit(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Eight threads with a store each, as processes have, take the last three."""
    open_store = opener(kind, request)
    stores = [open_store() for _ in range(8)]
    stores[0].beat("h", 60)
    limits, held = (CreditLimit(3, per=600.0),), Entry(holder="h")

    def take(number: int) -> int:
        store, mine = stores[number], 0
        for turn in range(4):
            item = new(f"{number} {turn}")
            (made,) = store.commit([Insert(item, held, limits)])
            mine += isinstance(made, Item)
        return mine

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 3
    for store in stores:
        store.close()


@pytest.mark.parametrize("kind", ["sqlite", STORES[2]])
def test_accounts_do_not_count_for_each_other(
    kind: str, request: pytest.FixtureRequest
) -> None:
    one, two = partitions(kind, request)
    one.beat("h", 60)
    add(one, "k", SENT, Accepted("t1"))
    add(one, "l")
    one.book(Booking(name="b", share=None))
    assert (used(one), used(two)) == ((2, 1), (0, 0))
    one.close()
    two.close()


class Time:
    now = 1e9

    def __call__(self) -> float:
        return self.now


PATHS: tuple[tuple[Event, ...], ...] = (
    (SENT, Accepted("?")),
    (SENT, NotSent()),
    (SENT, Lost(2.0, "lost"), Found("?")),
    (SENT, Lost(2.0, "lost"), Absent(), Claimed("h"), Sending(9, 3.0), Accepted("?")),
    (SENT, Lost(2.0, "lost")),
    (SENT,),
    (SENT, Accepted("?"), Ended(True)),
)


@pytest.mark.parametrize("seed", range(6))
def test_stores_count_alike_and_a_credit_counts_for_the_period(
    seed: int, tmp_path: Path
) -> None:
    """Random events at random times, against a plain list of what was charged when."""
    rng, time = random.Random(seed), Time()
    stores: list[JournalStore]
    stores = [MemoryStore(time), SQLiteStore(tmp_path / "j.db", clock=time)]
    limit = CreditLimit(5, per=1000.0)
    ways: dict[str, list[Event]] = {}
    until: dict[str, float] = {}  # per key: until when its credit may be taken
    for number in range(120):
        time.now += rng.choice([0.0, 1.0, 30.0, 299.0, 999.0])
        for store in stores:
            store.beat("h", 50)
        key = f"k{rng.randrange(12)}"
        known = [store.find_key(key) for store in stores]
        if known[0] is None:
            ways[key] = list(rng.choice(PATHS))
            for store in stores:
                put(store, new(key), Entry(holder="h"))
        elif ways[key]:
            event = ways[key].pop(0)
            if isinstance(event, Accepted | Found):
                event = attrs.evolve(event, track_id=f"t{number}")
            for store, item in zip(stores, known, strict=True):
                assert item is not None
                record(store, item, event)
            if isinstance(event, Sending):
                until[key] = float("inf")
            elif isinstance(event, Accepted | Found):
                until[key] = time.now
            elif isinstance(event, Lost):
                until[key] = time.now + LATE
            elif isinstance(event, NotSent | Absent):
                del until[key]
        elif rng.random() < 0.3:
            for store, item in zip(stores, known, strict=True):
                assert item is not None
                store.commit([Delete(item)])
            if until.get(key) == float("inf"):
                until[key] = time.now + LATE
            if key in until:
                until[f"{key} {number}"] = until.pop(key)
        counted = sum(at > time.now - 1000.0 + 1e-6 for at in until.values())
        usages = [store.usage(limit) for store in stores]
        assert [usage.spent for usage in usages] == [counted, counted]
        assert usages[0].reserved == usages[1].reserved
        errors = [usage.refusal(limit, time.now) for usage in usages]
        assert errors[0] == errors[1]
        if errors[0] is not None and errors[0].retry_after is not None:
            time.now += errors[0].retry_after
            if usages[0].reserved == 0:
                assert stores[1].usage(limit).refusal(limit, time.now) is None
    for store in stores:
        store.close()


def test_a_file_of_version_3_is_counted_from_when_its_items_changed_last(
    tmp_path: Path,
) -> None:
    path, time = tmp_path / "j.db", Time()
    store = SQLiteStore(path, "acc", clock=time)
    add(store, "k", SENT, Accepted("t1"))
    store.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE item DROP COLUMN spent_at")
        db.execute("DROP TABLE booking")
        db.execute("PRAGMA user_version = 3")
        db.commit()
    store = SQLiteStore(path, "acc", clock=time)
    time.now += 50
    assert used(store, per=51.0) == (1, 0)
    assert used(store, per=49.0) == (0, 0)
    store.commit([Delete(item) for item in store.rows()])
    assert used(store) == (1, 0)
    store.close()
