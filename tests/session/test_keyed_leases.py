"""Creates with a key that another process holds, has taken over, or left behind."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async import (
    APITimeoutError,
    AsyncClient,
    GenerationRequest,
    RateLimit,
    RateLimits,
    SubmissionUnknownError,
)
from finetuning_async._session import session_of
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal import (
    Absent,
    Delete,
    Item,
    JournalError,
    Restarted,
    Sending,
    Update,
    step,
)
from finetuning_async.journal._store import MemoryStore
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import Cookieless, emulated
from tests.session._keyed import CREATE, RAIN, in_doubt, posts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from finetuning_async.journal._store import Change, Committed


async def test_a_resumed_call_sends_what_its_entry_says_now() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        left = journal.leave(RAIN, holder="alive")
        journal.store.beat("alive", 3.0)
        async with anyio.create_task_group() as group:
            group.start_soon(client.resume, "k")
            await anyio.sleep(0.1)
            # Its call fails, another uses the key for something else, and dies.
            journal.store.commit([Delete(left)])
            journal.leave(GenerationRequest("wind", idempotency_key="k"))
        assert [job.prompt for job in emulator.tracks.values()] == ["wind"]


class BrokenStore(MemoryStore):
    """A store that cannot commit an accepted track for some times."""

    breaks = 0

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        is_accepted = any(
            isinstance(change, Update) and change.entry.state == "accepted"
            for change in changes
        )
        if is_accepted and self.breaks:
            self.breaks -= 1
            raise JournalError("the database is gone")
        return super().commit(changes)


@asynccontextmanager
async def two_processes(
    journal: MemoryJournal, **options: Any
) -> AsyncGenerator[tuple[Emulator, AsyncClient, AsyncClient]]:
    """Two clients with leases of their own, the first of which keeps its own for ever.

    As the process of a server does, which always has a create in progress.
    """
    async with (
        emulated(journal=journal, **options) as (emulator, first),
        Cookieless(transport=emulator.transport()) as http,
        AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            http_client=http,
            journal=journal,
        ) as second,
    ):
        opened = await session_of(first).recorder().journal.opened()
        async with opened.alive():
            yield emulator, first, second


@pytest.mark.parametrize("breaks", [1, 4, 5])
async def test_a_track_that_could_not_be_recorded_is_not_lost(breaks: int) -> None:
    journal = MemoryJournal(new_store=BrokenStore)
    async with two_processes(journal) as (emulator, first, second):
        store = journal.store
        assert isinstance(store, BrokenStore)
        store.breaks = breaks
        if breaks == 1:
            await first.generations.create("rain", idempotency_key="k")
        else:
            with pytest.raises(JournalError, match="is gone"):
                await first.generations.create("rain", idempotency_key="k")
        if breaks == 5:  # even then the same process finds it
            await first.generations.create("rain", idempotency_key="k")
        track = await second.generations.create("rain", idempotency_key="k", timeout=5)
        assert {*emulator.tracks} == {track.id}


async def test_a_resumed_call_that_runs_out_of_time_gives_up_its_lease() -> None:
    journal = MemoryJournal()
    limits = RateLimits(creates=RateLimit(1, per=60.0))
    async with two_processes(journal, rate_limits=limits) as (emulator, first, second):
        journal.leave(RAIN)
        await first.generations.create("wind")
        with pytest.raises(APITimeoutError):
            await first.resume("k", timeout=1.0)
        await second.generations.create("rain", idempotency_key="k", timeout=90.0)
        assert len(emulator.tracks) == 2


class TakingStore(MemoryStore):
    """A store in which another process has taken a create for absent, too early."""

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        for change in changes:
            if not isinstance(change, Update) or change.entry.state != "accepted":
                continue
            stored = self.get(change.item.seq)
            if stored.entry.lost_at is None:
                lost, _ = step(stored.entry, Restarted(1.0))
                planned, _ = step(lost, Absent())
                super().commit([Update(stored, planned)])
        return super().commit(changes)


async def test_a_late_response_is_recorded_unless_it_was_sent_again() -> None:
    journal = MemoryJournal(new_store=TakingStore)
    async with emulated(journal=journal) as (emulator, client):
        first = await client.generate("rain", idempotency_key="k")
        again = await client.generate("rain", idempotency_key="k")
        assert first.id == again.id
        assert posts(emulator) == 1


class HastyStore(MemoryStore):
    """A store in which another process takes the first one that sends for dead."""

    has_taken = False

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        results = super().commit(changes)
        for item in list(self.rows("sending")):
            if not self.has_taken:
                self.has_taken = True
                lost, _ = step(item.entry, Restarted(self.now()))
                super().commit([Update(item, lost)])
        return results


@pytest.mark.parametrize("kind", ["generations", "sound_effects"])
async def test_a_late_refusal_leaves_nothing_in_doubt(kind: str) -> None:
    journal = MemoryJournal(new_store=HastyStore)
    async with emulated(journal=journal) as (emulator, client):
        path = f"/v1/{kind.replace('_', '-')}"
        emulator.add_fault(Fault("status", path, method="POST", status=402))
        create = getattr(client, kind).create
        track = await create("rain", idempotency_key="k", timeout=10.0)
        assert journal.item("k").entry.track_id == track.id
        assert posts(emulator) == 2


async def test_a_call_that_times_out_behind_its_lookalike_is_never_paid() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", seed=7, idempotency_key="k")
        with pytest.raises(APITimeoutError, match="nothing was sent"):
            await client.generations.create(
                "rain", seed=7, timeout=3, idempotency_key="l"
            )
        assert journal.states() == {"k": "unknown"}


async def test_a_call_that_is_resumed_behind_its_lookalike_leaves_it_to_others() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", seed=7, idempotency_key="k")
        journal.leave(GenerationRequest("rain", seed=7, idempotency_key="l"))
        with pytest.raises(APITimeoutError, match="nothing was sent"):
            await client.resume("l", timeout=3)
        item = journal.item("l")
        assert item.entry.state == "planned"
        assert not journal.store.is_alive(str(item.entry.holder))


class SleepyStore(MemoryStore):
    """A store whose machine sleeps for an hour once it has committed a `sending`."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0
        self.states: list[str] = []

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        results = super().commit(changes)
        self.states += [item.entry.state for item in results if isinstance(item, Item)]
        if "sending" in self.states:
            self.slept = 3600.0
        return results


async def test_what_a_machine_was_about_to_send_when_it_slept_does_not_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = SleepyStore()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + store.slept)
    journal = MemoryJournal(new_store=lambda: store)
    async with emulated(journal=journal) as (emulator, client):
        await client.generate("rain", idempotency_key="k")
        assert store.states[:4] == ["sending", "planned", "sending", "accepted"]
        assert posts(emulator) == 1


async def test_a_create_that_died_in_flight_is_looked_up_and_not_sent() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        made = await client.generations.create("rain", seed=77)
        now = made.created_at.timestamp() if made.created_at else 0.0
        request = GenerationRequest("rain", seed=77, idempotency_key="k")
        (store,) = journal.stores.values()
        for item in list(store.rows()):
            store.commit([Delete(item)])
        journal.leave(request, Sending(77, now - 0.5))
        track = await client.generate("rain", seed=77, idempotency_key="k")
        assert track.id == made.id
        assert posts(emulator) == 1


async def test_what_dead_processes_left_keeps_no_other_create_in_doubt() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await in_doubt(emulator, client, "lost_before_commit")
        now = client._session().account.service_time() or 0.0
        sent = attrs.evolve(RAIN, idempotency_key="sent")
        journal.leave(sent, Sending(78, now))
        journal.leave(attrs.evolve(RAIN, idempotency_key="planned"))
        for _ in range(20):
            await anyio.sleep(60)
            try:
                await client.generations.create("rain", idempotency_key="k")
            except SubmissionUnknownError:
                continue
            break
        assert journal.states()["k"] == "accepted"
        assert len(emulator.ledger) == 1


async def test_a_create_that_died_before_it_was_sent_is_sent_by_the_next_call() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN)
        await client.generate("rain", idempotency_key="k")
        assert journal.item("k").entry.fence == 1
        assert len(emulator.ledger) == 1


async def test_while_another_process_holds_the_lease_a_call_waits_for_its_track() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        item = journal.leave(RAIN, holder="other")
        journal.store.beat("other", 60.0)
        with pytest.raises(APITimeoutError, match="another call with key 'k'"):
            await client.generate("rain", idempotency_key="k", timeout=30)
        assert journal.item("k") == item
        assert posts(emulator) == 0


async def test_a_lease_whose_holder_dies_is_taken_over_within_a_second() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN, holder="other")
        journal.store.beat("other", 60.0)
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: client.generations.create("rain", idempotency_key="k")
            )
            await anyio.sleep(10)
            assert posts(emulator) == 0
            journal.store.remove_holder("other")
            await anyio.sleep(1.1)
            assert posts(emulator) == 1


async def test_an_entry_that_its_holder_deletes_is_made_by_the_call_that_waited() -> (
    None
):
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        item = journal.leave(RAIN, holder="other")
        journal.store.beat("other", 60.0)
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: client.generations.create("rain", idempotency_key="k")
            )
            await anyio.sleep(5)
            journal.store.commit([Delete(item)])
        assert journal.states() == {"k": "accepted"}
        assert posts(emulator) == 1
