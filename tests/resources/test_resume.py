"""`resume` and `resume_all`: what an earlier process began comes to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    APITimeoutError,
    AuthenticationError,
    ClientClosedError,
    GenerationFailedError,
    GenerationRequest,
    InsufficientCreditsError,
    InvalidRequestError,
    Outcome,
    SoundEffectRequest,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from finetuning_async.emulator import Emulator, Fault
from finetuning_async.journal import Delete, Held, Lost, Sending
from tests._client_journals import MemoryJournal, open_journal
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from finetuning_async import AsyncClient

pytestmark = pytest.mark.sampled(2)

CREATE = "/v1/generations"
RAIN = GenerationRequest("rain", idempotency_key="k")
HELD = (Sending(7, 1.0), Lost(2.0, "it was lost"), Held("it may be any of two"))


async def all_of(client: AsyncClient) -> dict[str | None, Outcome]:
    async with client.resume_all() as outcomes:
        return {o.request.idempotency_key: o async for o in outcomes}


async def test_a_key_is_resumed_to_its_final_track() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        begun = await client.generations.create("rain", idempotency_key="k")
        assert (await client.resume("k")).status == "completed"
        again = await client.resume("k", timeout=0)
        assert again.id == begun.id
        assert emulator.count(method="POST") == 1


async def test_a_key_that_is_not_there_cannot_be_resumed() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        with pytest.raises(InvalidRequestError, match=r"'k'; client.journal.entries"):
            await client.resume("k")
        assert emulator.count(method="POST") == 0


async def test_a_resumed_wait_times_out_and_may_be_resumed_again() -> None:
    emulator = Emulator(generation_time=(100, 100))
    async with emulated(emulator, journal=MemoryJournal()) as (_, client):
        await client.generations.create("rain", idempotency_key="k")
        with pytest.raises(WaitTimeoutError) as caught:
            await client.resume("k", timeout=10)
        assert caught.value.safe_to_retry
        await client.resume("k")


async def test_a_resumed_create_that_runs_out_of_time_stays_for_the_next_call() -> None:
    journal = MemoryJournal()
    emulator = short(creates_per_minute=1)
    async with emulated(emulator, journal=journal) as (_, client):
        await client.generations.create("first")
        journal.leave(RAIN)
        with pytest.raises(APITimeoutError):
            await client.resume("k", timeout=5)
        assert journal.item("k").entry.state == "planned"
        await client.resume("k")
        assert emulator.count(method="POST", status=202) == 2


async def test_a_failed_track_fails_its_resumption() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE, method="POST"))
        await client.generations.create("rain", idempotency_key="k")
        for _ in range(2):
            with pytest.raises(GenerationFailedError, match="another idempotency key"):
                await client.resume("k")


async def test_outcomes_advise_another_key_for_what_failed() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        emulator.add_fault(Fault("fail", CREATE, method="POST", times=3))
        journal.leave(RAIN)
        found = [*(await all_of(client)).values()]
        many = GenerationRequest("sea", idempotency_key="m"), GenerationRequest("bird")
        async with client.generate_many(many) as outcomes:
            found += [outcome async for outcome in outcomes]
        advised = {
            o.request.prompt: "another idempotency" in str(o.error) for o in found
        }
        assert advised == {"rain": True, "sea": True, "bird": False}


async def test_all_that_has_not_ended_is_resumed_and_each_outcome_comes_once() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await client.generate("done", idempotency_key="done")
        accepted = await client.generations.create("sea", idempotency_key="accepted")
        made = await client.generations.create("bird", seed=77)
        (auto,) = [key for key in journal.states() if key.startswith("auto-")]
        journal.store.commit([Delete(journal.item(auto))])
        now = made.created_at.timestamp() if made.created_at else 0.0
        sending = GenerationRequest("bird", seed=77, idempotency_key="sending")
        journal.leave(sending, Sending(77, now - 0.5))
        journal.leave(GenerationRequest("rain", idempotency_key="planned"))
        journal.leave(GenerationRequest("held", idempotency_key="held"), *HELD)
        outcomes = await all_of(client)
        assert set(outcomes) == {"accepted", "sending", "planned", "held"}
        assert outcomes["accepted"].result().id == accepted.id
        assert outcomes["sending"].result().id == made.id
        assert outcomes["planned"].result().prompt == "rain"
        assert isinstance(outcomes["held"].error, SubmissionUnknownError)
        assert len(emulator.ledger) == 4
        assert set(await all_of(client)) == {"held"}


async def test_what_is_in_doubt_is_looked_up_until_it_is_known() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await client.generate("before", idempotency_key="before")
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generate("rain", idempotency_key="k")
        await client.generate("after", idempotency_key="after")
        outcomes = await all_of(client)
        track: Any = outcomes["k"].result()
        assert track.parameters.seed == caught.value.seed
        assert len(emulator.ledger) == 3


async def test_what_had_no_key_is_looked_for_and_never_sent() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        auto = "auto-" + 32 * "0"
        journal.leave(GenerationRequest("rain", idempotency_key=auto))
        lost = "auto-" + 32 * "1"
        emulator.add_fault(Fault("lost_before_commit", CREATE, method="POST"))
        with pytest.raises(SubmissionUnknownError):
            await client.generate("rain")
        await client.generate("after", idempotency_key="after")
        running = await client.generations.create("sea")
        del lost
        outcomes = await all_of(client)
        assert [o.result().id for o in outcomes.values()] == [running.id]
        assert len(emulator.ledger) == 2
        assert set(journal.states().values()) == {"completed"}


async def test_an_effect_left_in_flight_is_held() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        effect = SoundEffectRequest("a door", idempotency_key="k")
        journal.leave(effect, Sending(None, 1.0))
        outcomes = await all_of(client)
        assert isinstance(outcomes["k"].error, SubmissionUnknownError)
        assert journal.states() == {"k": "held"}
        assert emulator.count(method="POST") == 0


async def test_a_service_that_is_down_for_a_while_loses_no_planned_create() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal, max_retries=0) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN)
        emulator.add_fault(Fault("connect_refused", CREATE, times=3))
        outcomes = await all_of(client)
        assert outcomes["k"].result().prompt == "rain"
        assert len(emulator.ledger) == 1


async def test_a_resumed_create_that_is_refused_is_an_outcome_and_not_kept() -> None:
    journal = MemoryJournal()
    async with emulated(Emulator(credits=0), journal=journal) as (_, client):
        await open_journal(client)
        journal.leave(RAIN)
        outcomes = await all_of(client)
        assert isinstance(outcomes["k"].error, InsufficientCreditsError)
        assert journal.states() == {}


async def test_leaving_the_block_leaves_the_rest_in_the_journal() -> None:
    journal = MemoryJournal()
    emulator = short(creates_per_minute=1)
    async with emulated(emulator, journal=journal) as (_, client):
        await open_journal(client)
        for number in range(8):
            request = GenerationRequest("rain", idempotency_key=f"{number}")
            journal.leave(request)
        async with client.resume_all() as outcomes:
            async for outcome in outcomes:
                first = outcome.request.idempotency_key
                break
        states = journal.states()
        assert states[str(first)] == "completed"
        assert list(states.values()).count("planned") >= 4
        spent = len(emulator.ledger)
        assert spent == 8 - list(states.values()).count("planned")
        async with client.resume_all() as outcomes:
            rest = [outcome async for outcome in outcomes]
        assert {o.request.idempotency_key for o in rest} | {first} == set(states)
        assert len(emulator.ledger) == 8


async def test_of_two_that_resume_at_once_one_does_the_work() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        for number in range(3):
            journal.leave(GenerationRequest("rain", idempotency_key=f"{number}"))
        found: list[dict[str | None, Outcome]] = []

        async def resume(client: AsyncClient) -> None:
            found.append(await all_of(client))

        async with anyio.create_task_group() as group:
            group.start_soon(resume, client)
            group.start_soon(resume, client.with_options(max_retries=1))
        assert sorted(len(outcomes) for outcomes in found) == [0, 3]
        assert len(emulator.ledger) == 3


async def test_another_process_that_resumes_is_waited_for_and_taken_over() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await open_journal(client)
        journal.leave(RAIN)
        journal.store.beat("other", 60.0)
        journal.store.write_note("resumer", "other")
        found: list[dict[str | None, Outcome]] = []

        async def resume() -> None:
            found.append(await all_of(client))

        async with anyio.create_task_group() as group:
            group.start_soon(resume)
            await anyio.sleep(100)
            assert not emulator.ledger
            journal.store.remove_holder("other")
            await anyio.sleep(2)
            assert len(emulator.ledger) == 1
        assert set(found[0]) == {"k"}


async def test_closing_the_client_ends_the_resumption_and_keeps_the_rest() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (_, client):
        await client.generations.create("rain", idempotency_key="k")
        with pytest.raises(ClientClosedError):  # noqa: PT012 - the block is what ends
            async with client.resume_all() as outcomes:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.aclose)
                async for _ in outcomes:
                    pass
        assert journal.states() == {"k": "accepted"}


async def test_a_key_that_is_refused_ends_each_outcome() -> None:
    journal = MemoryJournal()
    async with emulated(journal=journal) as (emulator, client):
        await client.generations.create("rain", idempotency_key="k")
        fault = Fault("status", CREATE + "*", status=401, code="INVALID_API_KEY")
        fault.times = None
        emulator.add_fault(fault)
        outcomes = await all_of(client)
        assert isinstance(outcomes["k"].error, AuthenticationError)
        assert journal.states() == {"k": "accepted"}


async def test_a_resumption_times_out_where_the_account_cannot_be_read() -> None:
    async with emulated(journal=MemoryJournal()) as (emulator, client):
        emulator.add_fault(Fault("delay", "/v1/me", seconds=300, times=None))
        begun = anyio.current_time()
        with pytest.raises(APITimeoutError, match="opening the journal") as caught:
            await client.resume("k", timeout=5)
        assert caught.value.safe_to_retry
        assert anyio.current_time() - begun < 6


async def test_a_track_that_never_ends_is_an_outcome_after_its_wait() -> None:
    journal = MemoryJournal()
    async with emulated(Emulator(generation_time=(1e6, 1e6)), journal=journal) as (
        _,
        client,
    ):
        await client.generations.create("rain", idempotency_key="k")
        async with client.resume_all() as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        assert isinstance(outcome.error, WaitTimeoutError)
        assert outcome.error.safe_to_retry
        assert journal.states() == {"k": "accepted"}
