"""A budget of a client with a journal holds across restarts, processes and batches."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AsyncClient,
    Budget,
    BudgetExceededError,
    CapacityError,
    FinetuningError,
    GenerationRequest,
    SubmissionUnknownError,
)
from finetuning_async._runtime import LoopHandle
from finetuning_async.batch import Batch, BatchJournal, Worker
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal import SQLiteJournal
from finetuning_async.journal._state_machine import Accepted, Held, Lost, Sending
from finetuning_async.journal._store import MemoryStore
from tests._cancellations import StepCanceller, cancel_at_step
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

CREATE = "/v1/generations"
RAIN = GenerationRequest("rain", idempotency_key="k")


@asynccontextmanager
async def another(emulator: Emulator, **options: Any) -> AsyncGenerator[AsyncClient]:
    """Another client of the same account, as another process has."""
    async with httpx.AsyncClient(transport=emulator.transport()) as http:
        async with AsyncClient(
            emulator.api_key,
            base_url=emulator.base_url,
            rate_limits=emulator.rate_limits,
            http_client=http,
            **options,
        ) as client:
            yield client


async def test_a_budget_holds_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "tracks.db"
    async with emulated(journal=path, budget=Budget(3)) as (emulator, client):
        await client.generations.create("rain", idempotency_key="k")
        await client.instrumentals.create("wind")  # under a generated key
        await client.sound_effects.create("a door")
        await client.aclose()
        budget = Budget(3)
        async with another(emulator, journal=path, budget=budget) as second:
            await second.generations.create("rain", idempotency_key="k")
            assert (budget.spent, budget.remaining) == (2, 1)
            await second.generations.create("snow")
            sent = emulator.count(method="POST")
            with pytest.raises(BudgetExceededError, match="3 of 3 credits"):
                await second.generations.create("hail")
            with pytest.raises(BudgetExceededError):
                await second.generations.create("hail", idempotency_key="l")
            assert emulator.count(method="POST") == sent
            states = [entry.state async for entry in second.journal.entries()]
            assert states.count("planned") == 0
            # What is known costs nothing.
            await second.generations.create("rain", idempotency_key="k")
            assert (budget.spent, budget.reserved, budget.remaining) == (3, 0, 0)


async def test_two_processes_never_share_the_last_credit(tmp_path: Path) -> None:
    path, refused = tmp_path / "tracks.db", []
    options: dict[str, Any] = {"journal": path, "budget": Budget(5)}
    service = short(queue_size=100)
    async with emulated(service, **options) as (emulator, one):
        async with another(emulator, journal=path, budget=Budget(5)) as two:

            async def create(client: AsyncClient, number: int) -> None:
                try:
                    await client.generations.create(f"rain {number}")
                except BudgetExceededError as error:
                    refused.append(error)

            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(create, one, number)
                    tasks.start_soon(create, two, number)
            assert (len(emulator.ledger), len(refused)) == (5, 11)


@pytest.mark.parametrize("key", ["k", None])
async def test_what_was_not_charged_is_returned(key: str | None) -> None:
    options: dict[str, Any] = {"journal": MemoryJournal(), "budget": Budget(1)}
    async with emulated(max_retries=0, **options) as (emulator, client):
        for status in (400, 402):
            emulator.add_fault(Fault("status", CREATE, method="POST", status=status))
        emulator.add_fault(Fault("connect_refused", CREATE, method="POST"))
        for _ in range(3):
            with pytest.raises(FinetuningError) as caught:
                await client.generations.create("rain", idempotency_key=key)
            assert not isinstance(caught.value, BudgetExceededError)
        await client.generations.create("rain", idempotency_key=key)


async def test_what_waits_is_reserved_for_others_too_and_returned() -> None:
    journal, service = MemoryJournal(), short(queue_size=100)
    async with emulated(service, journal=journal) as (emulator, client):
        for _ in range(10):
            await client.generations.create("before")
        thrifty = client.with_options(budget=Budget(11))
        async with another(emulator, journal=journal, budget=Budget(11)) as other:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(thrifty.generations.create, "rain")
                await anyio.sleep(1)
                for one in (thrifty, other):
                    with pytest.raises(BudgetExceededError, match="and 1 reserved"):
                        await one.generations.create("wind")
                tasks.cancel_scope.cancel()
            for one in (thrifty, other):
                with pytest.raises(CapacityError):
                    await one.generations.create("wind", max_wait=1)


@pytest.mark.parametrize("key", ["k", None])
async def test_a_create_in_doubt_counts_until_it_is_proved_absent(
    key: str | None,
) -> None:
    options: dict[str, Any] = {"journal": MemoryJournal(), "budget": Budget(2)}
    async with emulated(**options) as (emulator, client):
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("rain", idempotency_key=key)
        await client.generations.create("wind")
        with pytest.raises(BudgetExceededError):
            await client.generations.create("snow")
        await anyio.sleep(400)
        async with client.resume_all() as outcomes:
            async for _ in outcomes:
                pass
        # With its key it was sent again and paid; without one it is deleted.
        assert len(emulator.ledger) == (1 if key is None else 2)
        if key is None:
            await client.generations.create("snow")
        with pytest.raises(BudgetExceededError):
            await client.generations.create("hail")


async def test_what_an_earlier_process_left_is_checked_when_it_is_sent() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal, budget=Budget(1)) as (emulator, client):
        await client.generations.create("before")
        journal.leave(RAIN)
        with pytest.raises(BudgetExceededError):
            await client.resume("k")
        assert journal.states()["k"] == "planned"
        async with client.resume_all() as outcomes:
            errors = [outcome.error async for outcome in outcomes]
        assert [type(error) for error in errors if error] == [BudgetExceededError]
        assert journal.states()["k"] == "planned"
        with pytest.raises(BudgetExceededError):
            await client.generations.create("rain", idempotency_key="k")
        assert "k" not in journal.states()  # it has failed, so it is never paid
        assert len(emulator.ledger) == 1


async def test_what_a_person_releases_is_free_again() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal, budget=Budget(1)) as (_, client):
        await open_journal(client)
        journal.leave(RAIN, Sending(7, 1.0), Lost(2.0, "lost"), Held("it is held"))
        with pytest.raises(BudgetExceededError):
            await client.generations.create("wind")
        await client.journal.release("k")
        await client.generations.create("wind")


async def test_what_is_forgotten_stays_spent() -> None:
    async with emulated(journal=MemoryJournal(), budget=Budget(1)) as (_, client):
        await client.generate("rain", idempotency_key="k")
        await client.journal.forget("k")
        with pytest.raises(BudgetExceededError):
            await client.generate("rain", idempotency_key="k")


async def test_each_share_has_the_budget_that_its_views_are_given() -> None:
    """A new `Budget` for each request of a web page: the journal remembers."""
    async with emulated(journal=MemoryJournal(), budget=Budget(4)) as (_, client):

        def view(share: str) -> AsyncClient:
            return client.with_options(share=share, budget=Budget(1))

        for share in ("a", "b"):
            await view(share).generations.create("rain")
            with pytest.raises(BudgetExceededError, match=f"for share '{share}'"):
                await view(share).generations.create("rain")
        entries = [entry async for entry in client.journal.entries()]
        assert [entry.share for entry in entries] == ["a", "b"]
        await client.generations.create("rain", share="a")
        await client.generations.create("rain")
        with pytest.raises(BudgetExceededError, match="4 of 4 credits are spent"):
            await view("c").generations.create("rain")


async def test_a_credit_is_free_again_after_the_period_also_after_a_restart() -> None:
    now = LoopHandle.current().now
    journal = MemoryJournal(new_store=lambda: MemoryStore(now))
    spent = 0
    async with emulated(journal=journal) as (emulator, _):
        for expected in (1, 1, 2):
            budget = Budget(1, per=3600)
            async with another(emulator, journal=journal, budget=budget) as client:
                wait = 0.0
                try:
                    await client.generations.create("rain")
                except BudgetExceededError as error:
                    wait = error.retry_after or 0.0
                is_refused, spent = expected == spent, expected
                assert wait == pytest.approx(3600 if is_refused else 0, abs=5)
                assert len(emulator.ledger) == expected
                await anyio.sleep(wait)


async def test_a_batch_counts_in_the_journal_of_its_client(tmp_path: Path) -> None:
    path = tmp_path / "tracks.db"
    service = short(audio=b"ID3", queue_size=100)
    async with emulated(service, journal=path, budget=Budget(4)) as (emulator, client):
        await client.generations.create("before")
        async with Batch(client, tmp_path / "album") as batch:
            await batch.add([GenerationRequest(f"rain {n}") for n in range(5)])
            assert len([item async for item in batch.run()]) == 3
            assert batch.paused is not None
            assert batch.paused[0] == "budget"
        assert len(emulator.ledger) == 4
        async with another(emulator, journal=path, budget=Budget(5)) as other:
            await other.generations.create("after")
            with pytest.raises(BudgetExceededError):
                await other.generations.create("more")
        keys = [entry.request.prompt async for entry in client.journal.entries()]
        assert keys == ["before", "after"]


async def test_a_worker_gives_items_back_that_the_budget_does_not_allow(
    tmp_path: Path,
) -> None:
    journal = BatchJournal(tmp_path / "items.db")
    options: dict[str, Any] = {"journal": tmp_path / "tracks.db", "budget": Budget(1)}
    async with emulated(short(audio=b"ID3"), **options) as (emulator, client):
        numbers = await journal.add("a", [GenerationRequest(f"r {n}") for n in "12"])
        worker = Worker(client, journal)
        states = [await worker.process_item(number) for number in numbers]
        assert [one.item.state for one in states] == ["downloaded", "planned"]
        assert states[1].again_in is not None
        assert len(emulator.ledger) == 1
    await journal.aclose()


async def test_a_batch_in_doubt_stays_counted(tmp_path: Path) -> None:
    options: dict[str, Any] = {"journal": tmp_path / "tracks.db", "budget": Budget(1)}
    async with emulated(short(audio=b"ID3"), **options) as (emulator, client):
        emulator.add_fault(Fault("lost_after_commit", CREATE, method="POST"))
        async with Batch(client, tmp_path / "album") as batch:
            await batch.add([GenerationRequest("rain")])
            assert [item.state async for item in batch.run()] == ["downloaded"]
        with pytest.raises(BudgetExceededError):
            await client.generations.create("more")


@pytest.mark.parametrize("canceller", ["task.cancel", "trio scope"])
def test_a_cancelled_create_counts_exactly_if_it_was_or_may_be_charged(
    canceller: StepCanceller,
) -> None:
    """Cancelled at every step, as a call and as an item of a batch."""
    for make in (_create, _book):
        step, reached = 1, True
        while reached:

            async def main(run_cancelled: Any, make: Any = make) -> None:
                await _cancelled(run_cancelled, make)

            reached = cancel_at_step(canceller, step, main)
            step += 1 if step % 10 else 4  # every step would take long
        assert step > 15


async def _create(client: AsyncClient) -> None:
    await client.generations.create("rain")


async def _book(client: AsyncClient) -> None:
    from finetuning_async._session import session_of

    session = session_of(client)
    await session.submit(session.new_submission(RAIN, validate=True), None)


async def _cancelled(run_cancelled: Any, make: Any) -> None:
    journal, budget = MemoryJournal(), Budget(3)
    async with emulated(journal=journal, budget=budget) as (emulator, client):
        await run_cancelled(lambda: make(client))
        await anyio.sleep(1)
        if not journal.stores:
            return
        from finetuning_async._pacing import CreditLimit

        usage = journal.store.usage(CreditLimit(3))
        assert usage.reserved == 0
        assert len(emulator.ledger) <= usage.spent <= 1
        if not emulator.count(method="POST", path=CREATE):
            assert usage.spent == 0


async def test_a_journal_of_ones_own_settings_counts_as_well(tmp_path: Path) -> None:
    journal = SQLiteJournal(tmp_path / "tracks.db")
    async with emulated(journal=journal, budget=Budget(1)) as (_, client):
        await client.generations.create("rain")
        with pytest.raises(BudgetExceededError):
            await client.generations.create("rain")
    await journal.aclose()


async def test_an_accepted_entry_of_an_earlier_process_counts() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal, budget=Budget(1)) as (_, client):
        await open_journal(client)
        journal.leave(RAIN, Sending(7, 1.0), Accepted("t1"))
        with pytest.raises(BudgetExceededError):
            await client.generations.create("wind")
