"""A keyed create that is cancelled while its commit is on the way to the disk."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import (
    APITimeoutError,
    AsyncClient,
    Budget,
    GenerationRequest,
)
from finetuning_async._runtime import _serial_thread
from finetuning_async._session import session_of
from finetuning_async.emulator import Emulator, Fault, serve
from finetuning_async.journal import Delete, JournalError, SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from finetuning_async._pacing import CreditLimit
    from finetuning_async.journal import Booking, Change, Item, JournalStore
    from finetuning_async.journal._store import Committed

pytestmark = pytest.mark.real_time


class SlowStore(SQLiteStore):
    """A store whose disk takes 0.3 s to say that a create was committed to be sent."""

    committed = threading.Event()

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        done = super().commit(changes)
        updates = (change for change in changes if not isinstance(change, Delete))
        if any(update.entry.state == "sending" for update in updates):
            self.committed.set()
            time.sleep(0.3)
        return done


class SlowJournal:
    """A backend in a file with that disk."""

    settle, look_every = 300.0, 30.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, account: str) -> JournalStore:
        return SlowStore(self._path, account)

    async def aclose(self) -> None:
        """Nothing: the store closes with its connection."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # a trio task is cancelled by scopes alone, which wait here


@pytest.mark.parametrize("by", ["task", "scope", "every task of it"])
async def test_it_leaves_no_entry_and_sends_nothing(tmp_path: Path, by: str) -> None:
    SlowStore.committed.clear()
    async with Emulator() as emulator, serve(emulator) as url:
        journal = SlowJournal(tmp_path / "tracks.db")
        async with AsyncClient(
            emulator.api_key, base_url=url, journal=journal
        ) as client:
            scope = anyio.CancelScope()

            async def create() -> None:
                with scope:
                    await client.generations.create("rain", idempotency_key="k")

            others = asyncio.all_tasks()
            task = asyncio.ensure_future(create())
            with anyio.fail_after(10):
                while not SlowStore.committed.is_set():  # noqa: ASYNC110 - by a thread
                    await asyncio.sleep(0.01)
            if by == "task":
                task.cancel()
            elif by == "scope":
                scope.cancel()
            else:  # as `asyncio.run` does when it ends
                for one in asyncio.all_tasks() - others:
                    one.cancel()
            await asyncio.wait([task])
            assert [entry.key async for entry in client.journal.entries()] == []
            assert emulator.count(method="POST") == 0


class HangingJournal(SlowJournal):
    """A backend in a file that another program keeps locked."""

    def __init__(self, path: Path, hangs: str) -> None:
        super().__init__(path)
        self.hangs = hangs
        self.may_go_on = threading.Event()

    def open(self, account: str) -> JournalStore:
        if self.hangs == "open":
            self.may_go_on.wait(30)
        return HangingStore(self, self._path, account)


class HangingStore(SQLiteStore):
    """Its store: a change to that state, or a booking, is held up."""

    def __init__(self, journal: HangingJournal, path: Path, account: str) -> None:
        super().__init__(path, account)
        self._of = journal

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        updates = [change for change in changes if not isinstance(change, Delete)]
        if any(update.entry.state == self._of.hangs for update in updates):
            self._of.may_go_on.wait(30)
        return super().commit(changes)

    def book(self, booking: Booking, limits: Sequence[CreditLimit] = ()) -> None:
        if self._of.hangs == "book":
            self._of.may_go_on.wait(30)
        super().book(booking, limits)


@pytest.mark.parametrize("hangs", ["open", "planned", "sending"])
async def test_a_journal_that_hangs_does_not_hold_up_a_call_beyond_its_timeout(
    tmp_path: Path, hangs: str
) -> None:
    journal = HangingJournal(tmp_path / "tracks.db", hangs)
    # With a seed of its caller's, a create is committed as planned before it is sent.
    seed = 5 if hangs == "planned" else None
    async with Emulator() as emulator, serve(emulator) as url:
        async with AsyncClient(
            emulator.api_key, base_url=url, journal=journal
        ) as client:
            began = time.monotonic()
            with pytest.raises(APITimeoutError, match="does not respond") as caught:
                await client.generations.create(
                    "rain", seed=seed, timeout=0.6, idempotency_key="k"
                )
            assert time.monotonic() - began < 3
            assert caught.value.safe_to_retry
            # What it has asked for is committed now, and undone: nobody pays it later.
            journal.may_go_on.set()
            assert await client.journal.get("k") is None
            assert emulator.count(method="POST") == 0
            await client.generations.create("rain", idempotency_key="k")
        assert len(emulator.ledger) == 1


async def test_a_journal_that_hangs_does_not_hold_up_a_cancelled_item_of_a_batch(
    tmp_path: Path,
) -> None:
    journal = HangingJournal(tmp_path / "tracks.db", "book")
    async with Emulator() as emulator, serve(emulator) as url:
        async with AsyncClient(
            emulator.api_key, base_url=url, journal=journal, budget=Budget(1)
        ) as client:
            await client.journal.get("k")  # opens it
            session = session_of(client)
            request = GenerationRequest("rain")
            submission = session.new_submission(request, validate=True)
            began = time.monotonic()
            with anyio.move_on_after(0.3) as scope:
                await session.submit(submission, None)
            assert scope.cancelled_caught
            assert time.monotonic() - began < 2.5
            # The credit is booked now, and returned.
            journal.may_go_on.set()
            await client.generations.create("wind")
        assert len(emulator.ledger) == 1


class BreakingJournal(SlowJournal):
    """A backend in a file that hangs when it is told to, and then fails as often."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.failures = 0
        self.may_go_on = threading.Event()

    def open(self, account: str) -> JournalStore:
        return BreakingStore(self, self._path, account)

    def fail(self) -> None:
        if self.failures:
            self.may_go_on.wait(30)
            self.failures -= 1
            raise JournalError("the connection is lost")


class BreakingStore(SQLiteStore):
    """Its store."""

    def __init__(self, journal: BreakingJournal, path: Path, account: str) -> None:
        super().__init__(path, account)
        self._of = journal

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        self._of.fail()
        return super().commit(changes)

    def find_key(self, key: str) -> Item | None:
        self._of.fail()
        return super().find_key(key)


async def test_a_call_that_failed_never_lets_go_of_the_next_call_s_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_serial_thread, "LINGER", 0.05)
    journal = BreakingJournal(tmp_path / "tracks.db")
    async with Emulator() as emulator, serve(emulator) as url:
        async with AsyncClient(
            emulator.api_key, base_url=url, journal=journal
        ) as client:
            await client.generations.create("before")  # no beat is due for a while
            journal.failures = 2  # to add the entry, and to let go of it
            with pytest.raises(APITimeoutError, match="does not respond"):
                await client.generations.create(
                    "rain", timeout=0.1, idempotency_key="k"
                )
            slow = Fault("delay", "/v1/generations", method="POST", seconds=2.5)
            emulator.add_fault(slow)
            async with anyio.create_task_group() as tasks:

                async def create() -> None:
                    await client.generations.create("rain", idempotency_key="k")

                tasks.start_soon(create)
                await anyio.sleep(0.2)
                journal.may_go_on.set()  # a beat comes while the create is in flight
            entry = await client.journal.get("k")
            assert entry is not None
            assert entry.state == "accepted"
        assert len(emulator.ledger) == 2
