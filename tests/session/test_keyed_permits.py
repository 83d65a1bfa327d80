"""A create with a key that need not wait: one commit says that it is known and sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import (
    GenerationRequest,
    IdempotencyConflictError,
    RateLimit,
    RateLimits,
)
from finetuning_async.emulator import Fault
from finetuning_async.journal import Delete, Item, JournalError, Sending
from finetuning_async.journal._store import MemoryStore
from tests._client_journals import MemoryJournal
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async import AsyncClient
    from finetuning_async.journal._store import Change, Committed

ONE_A_MINUTE = RateLimits(creates=RateLimit(1, per=60.0), queue=2)


class RecordingStore(MemoryStore):
    """A store that notes the states that it commits, and may be broken."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[str] = []
        self.is_broken = False

    def commit(self, changes: Sequence[Change]) -> list[Committed]:
        if self.is_broken:
            raise JournalError("the disk is full")
        results = super().commit(changes)
        self.states += [item.entry.state for item in results if isinstance(item, Item)]
        return results


def recording() -> tuple[RecordingStore, MemoryJournal]:
    store = RecordingStore()
    return store, MemoryJournal(new_store=lambda: store)


async def assert_goes_at_once(client: AsyncClient, prompt: str) -> None:
    before = anyio.current_time()
    await client.generations.create(prompt, idempotency_key=prompt)
    assert anyio.current_time() - before < 1.0


@pytest.mark.parametrize("kind", ["generations", "sound_effects"])
async def test_a_create_that_need_not_wait_is_committed_twice(kind: str) -> None:
    store, journal = recording()
    async with emulated(journal=journal) as (_, client):
        await getattr(client, kind).create("rain", idempotency_key="k")
        assert store.states == ["sending", "accepted"]


async def test_a_create_that_waits_for_its_permit_is_planned_meanwhile() -> None:
    store, journal = recording()
    async with emulated(journal=journal, rate_limits=ONE_A_MINUTE) as (_, client):
        await client.generations.create("wind")
        store.states.clear()
        await client.generations.create("rain", idempotency_key="k")
        assert store.states == ["planned", "sending", "accepted"]


async def test_a_create_with_a_seed_of_the_callers_is_planned_first() -> None:
    # It may have to wait for one that looks the same in a list.
    store, journal = recording()
    async with emulated(journal=journal) as (_, client):
        await client.generations.create("rain", seed=5, idempotency_key="k")
        assert store.states == ["planned", "sending", "accepted"]


async def test_a_refused_create_is_planned_again_before_it_waits() -> None:
    store, journal = recording()
    async with emulated(journal=journal) as (emulator, client):
        code = "GENERATION_RATE_LIMITED"
        refused = Fault("status", "/v1/generations", status=429, code=code)
        emulator.add_fault(refused)
        await client.generations.create("rain", idempotency_key="k")
        assert store.states == ["sending", "planned", "sending", "accepted"]
        assert len(emulator.tracks) == 1


@pytest.mark.parametrize("refusal", ["known", "other content", "broken journal"])
async def test_a_call_that_sends_nothing_returns_its_permit_and_its_slot(
    refusal: str,
) -> None:
    store, journal = recording()
    async with emulated(journal=journal, rate_limits=ONE_A_MINUTE) as (_, client):
        first = await client.generations.create("rain", idempotency_key="k")
        await client.wait_for_completion(first)
        await anyio.sleep(60)
        for _ in range(3):
            if refusal == "known":
                again = await client.generations.create("rain", idempotency_key="k")
                assert again.id == first.id
            elif refusal == "other content":
                with pytest.raises(IdempotencyConflictError):
                    await client.generations.create("hail", idempotency_key="k")
            else:
                store.is_broken = True
                with pytest.raises(JournalError, match="is full"):
                    await client.generations.create("hail", idempotency_key="h")
                store.is_broken = False
        await assert_goes_at_once(client, "wind")


async def test_a_known_key_gives_its_track_although_no_create_may_go() -> None:
    _, journal = recording()
    async with emulated(journal=journal, rate_limits=ONE_A_MINUTE) as (_, client):
        first = await client.generations.create("rain", idempotency_key="k")
        again = await client.generations.create(
            "rain", idempotency_key="k", max_wait=0.0
        )
        assert again.id == first.id


class LateStore(MemoryStore):
    """A store that does not show the next entry that is looked for: it comes later."""

    hides = False

    def find_key(self, key: str) -> Item | None:
        is_hidden, self.hides = self.hides, False
        return None if is_hidden else super().find_key(key)


async def test_what_a_process_was_sending_that_dies_meanwhile_is_looked_up() -> None:
    """It added the entry between the look for the key and the addition of ours."""
    store = LateStore()
    journal = MemoryJournal(new_store=lambda: store)
    async with emulated(journal=journal) as (emulator, client):
        paid = await client.generations.create("rain", seed=7)
        assert paid.created_at is not None
        for item in list(store.rows()):  # a process that had no key for it
            store.commit([Delete(item)])
        request = GenerationRequest("rain", idempotency_key="k")
        journal.leave(request, Sending(7, paid.created_at.timestamp() - 0.5))
        store.hides = True
        found = await client.generations.create("rain", idempotency_key="k")
        assert found.id == paid.id
        assert len(emulator.ledger) == 1
