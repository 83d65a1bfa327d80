"""`Journal`: many changes in one commit, and callers that are cancelled meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async.journal._errors import JournalError, StaleItemError
from finetuning_async.journal._journal import Journal
from finetuning_async.journal._sqlite_store import SQLiteStore
from finetuning_async.journal._state_machine import (
    Accepted,
    Action,
    Claimed,
    Ended,
    Entry,
    Retried,
    Sending,
)
from finetuning_async.journal._store import MemoryStore
from tests.journal._items import new

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from finetuning_async.journal._records import Item
    from finetuning_async.journal._store import Change, Committed


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Loops with the system's clock: under one that jumps, commits block the loop."""
    return str(request.param)


class SlowStore(MemoryStore):
    """A store whose commits are held up, and which notes how large they are."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.may_commit = threading.Event()
        self.is_committing = threading.Event()
        self.error: Exception | None = None

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        self.sizes.append(len(changes))
        self.is_committing.set()
        assert self.may_commit.wait(10)
        if self.error is not None:
            raise self.error
        return super().commit(changes)


@pytest.fixture
def store() -> Iterator[SlowStore]:
    made = SlowStore()
    yield made
    made.may_commit.set()


async def until_committing(store: SlowStore) -> None:
    await anyio.to_thread.run_sync(store.is_committing.wait, 10)
    await anyio.wait_all_tasks_blocked()


async def test_changes_that_come_during_a_commit_go_into_the_next_together(
    store: SlowStore,
) -> None:
    journal = Journal(store)
    items: list[Item] = []

    async def insert(key: str) -> None:
        items.append(await journal.insert(new(key), Entry(holder="h")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(insert, "first")
        await until_committing(store)
        for number in range(50):
            tasks.start_soon(insert, f"key {number}")
        await anyio.wait_all_tasks_blocked()
        store.may_commit.set()
    assert store.sizes == [1, 50]
    assert {item.key for item in items} == {item.key for item in store.rows()}
    assert all(item == store.find_key(item.key) for item in items)


async def test_each_caller_gets_the_result_of_its_own_change(store: SlowStore) -> None:
    journal = Journal(store)
    store.may_commit.set()
    item = await journal.insert(new("1"), Entry())
    other = await journal.insert(new("2"), Entry())
    results: dict[str, object] = {}

    async def claim(holder: str, item: Item) -> None:
        try:
            after, action = await journal.record(item, Claimed(holder))
        except StaleItemError as error:
            results[holder] = error
        else:
            results[holder] = after.entry.holder, action

    store.may_commit.clear()
    store.is_committing.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.insert, new("3"), Entry())
        await until_committing(store)
        for holder, one in (("a", item), ("b", item), ("c", other)):
            tasks.start_soon(claim, holder, one)
        await anyio.wait_all_tasks_blocked()
        store.may_commit.set()
    assert results.pop("c") == ("c", Action.SEND)
    assert sorted(map(type, results.values()), key=str) == [StaleItemError, tuple]
    assert store.sizes[-1] == 3


async def test_a_commit_that_fails_fails_for_each_of_its_callers(
    store: SlowStore,
) -> None:
    journal = Journal(store)
    errors: list[JournalError] = []

    async def insert(key: str) -> None:
        with pytest.raises(JournalError, match="the disk is full") as caught:
            await journal.insert(new(key), Entry())
        errors.append(caught.value)

    store.error = JournalError("the disk is full", safe_to_retry=True)
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(insert, str(number))
        await until_committing(store)
        store.may_commit.set()
    assert len({id(error) for error in errors}) == 5
    assert all(error.safe_to_retry for error in errors)
    assert store.summary().total == 0
    store.error = None
    await journal.insert(new("later"), Entry())
    assert store.summary().total == 1


async def test_what_no_store_should_raise_reaches_each_of_its_callers(
    store: SlowStore,
) -> None:
    journal = Journal(store)
    errors: list[type[Exception]] = []

    async def insert(key: str) -> None:
        with pytest.raises((JournalError, ValueError), match="of its own") as caught:
            await journal.insert(new(key), Entry())
        errors.append(caught.type)

    store.error = ValueError("an error of its own")
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(insert, str(number))
        await until_committing(store)
        store.may_commit.set()
    assert len(errors) == 3
    assert JournalError in errors


async def test_an_item_is_deleted(store: SlowStore) -> None:
    store.may_commit.set()
    journal = Journal(store)
    item = await journal.insert(new("1"), Entry())
    claimed, _ = await journal.record(item, Claimed("h"))
    with pytest.raises(StaleItemError):
        await journal.delete(item)
    await journal.delete(claimed)
    assert await journal.call(store.find_key, "1") is None


async def test_an_impossible_event_reaches_no_store(store: SlowStore) -> None:
    journal = Journal(store)
    store.may_commit.set()
    made = await journal.insert(new("1"), Entry())
    with pytest.raises(JournalError, match="not possible"):
        await journal.record(made, Accepted("t1"))
    assert store.sizes == [1]


async def test_a_scope_that_is_cancelled_hears_what_was_committed(
    store: SlowStore,
) -> None:
    # Else it would not know whether its create may be on its way.
    journal = Journal(store)
    store.may_commit.set()
    made = await journal.insert(new("1"), Entry())
    await journal.refresh_counts()
    store.may_commit.clear()
    store.is_committing.clear()
    results: list[Item] = []
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await until_committing(store)
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            assert results == []
            store.may_commit.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            await journal.record(made, Sending(5, 1.0), keep=results.append)
    assert scope.cancelled_caught
    assert results == [store.get(made.seq)]
    assert journal.summary.states["sending"] == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("is_leader", [True, False])
async def test_a_task_that_is_cancelled_leaves_no_commit_half_known(
    store: SlowStore, is_leader: bool
) -> None:
    store.may_commit.set()
    journal = Journal(store)
    first = await journal.insert(new("1"), Entry())
    second = await journal.insert(new("2"), Entry())
    await journal.refresh_counts()
    store.may_commit.clear()
    store.is_committing.clear()
    tasks = [
        asyncio.ensure_future(journal.record(item, Sending(5, 1.0)))
        for item in (first, second)
    ]
    await until_committing(store)
    cancelled, other = tasks if is_leader else reversed(tasks)
    for _ in range(3):
        cancelled.cancel()
        await anyio.wait_all_tasks_blocked()
    assert not cancelled.done()  # it waits for its commit, and then ends
    store.may_commit.set()
    item, _ = await other
    assert item.entry.state == "sending"
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert store.summary().states["sending"] == 2
    assert journal.summary == store.summary()


async def test_counts_follow_what_is_recorded(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    journal = Journal(store)
    items = [await journal.insert(new(str(n)), Entry()) for n in range(3)]
    assert (await journal.refresh_counts()).total == 3
    for item in items[:2]:
        sent, _ = await journal.record(item, Sending(5, 1.0))
    accepted, _ = await journal.record(sent, Accepted("t1"))
    assert journal.summary == store.summary()
    assert journal.summary.accepts == 1
    failed, _ = await journal.record(accepted, Ended(True, None, "FAILED", "no"))
    again, _ = await journal.record(failed, Retried())
    await journal.record(again, Sending(6, 2.0))
    assert journal.summary == store.summary()
    assert (journal.summary.accepts, journal.summary.fails) == (1, 1)
    store.close()


async def test_one_hundred_callers_share_few_commits(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db", "one")
    journal, commits = Journal(store), 0
    commit = store.commit

    def counted(changes: Sequence[Change]) -> list[Committed]:
        nonlocal commits
        commits += 1
        return commit(changes)

    store.commit = counted  # type: ignore[method-assign] # to count the commits

    async def create(key: str) -> None:
        item = await journal.insert(new(key), Entry(holder="h"))
        item, _ = await journal.record(item, Sending(5, 1.0))
        await journal.record(item, Accepted(f"track {key}"))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(create, str(number))
    assert store.summary().states["accepted"] == 100
    assert commits <= 20
    store.close()
