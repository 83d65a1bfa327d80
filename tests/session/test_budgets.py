"""A client spends no more credits than its budget has; without a journal."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AsyncClient,
    Budget,
    BudgetExceededError,
    CapacityError,
    FinetuningError,
    InvalidRequestError,
)
from finetuning_async.batch import Batch
from finetuning_async.emulator import Fault
from tests._cancellations import STEP_CANCELLERS, StepCanceller, cancel_at_step
from tests._emulated_client import emulated, short

CREATE = "/v1/generations"


async def test_a_create_above_the_budget_is_refused_and_nothing_is_sent() -> None:
    budget = Budget(2)
    async with emulated(budget=budget) as (emulator, client):
        await client.generate("rain")
        await client.instrumentals.create("wind")
        sent = emulator.count()
        with pytest.raises(BudgetExceededError, match="2 of 2 credits are spent") as e:
            await client.generations.create("snow")
        assert (e.value.retry_after, e.value.safe_to_retry) == (None, False)
        assert emulator.count() == sent
        assert len(emulator.ledger) == 2
        assert (budget.spent, budget.remaining) == (2, 0)


async def test_a_credit_is_free_again_after_the_period() -> None:
    async with emulated(budget=Budget(2, per=3600)) as (emulator, client):
        await client.generations.create("rain")
        await anyio.sleep(600)
        await client.generations.create("wind")
        with pytest.raises(BudgetExceededError, match="in any 3600 s") as caught:
            await client.generations.create("snow")
        assert caught.value.retry_after == pytest.approx(3000, abs=1)
        assert caught.value.safe_to_retry
        await anyio.sleep(caught.value.retry_after or 0)
        await client.generations.create("snow")
        with pytest.raises(BudgetExceededError):
            await client.generations.create("hail")
        assert len(emulator.ledger) == 3


async def test_creates_at_once_never_take_more_than_there_is() -> None:
    budget = Budget(5)
    async with emulated(budget=budget) as (emulator, client):
        requests = (f"rain {number}" for number in range(30))
        errors: list[FinetuningError] = []

        async def create(tags: str) -> None:
            try:
                await client.generations.create(tags)
            except BudgetExceededError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            for tags in requests:
                tasks.start_soon(create, tags)
        assert (len(emulator.ledger), len(errors)) == (5, 25)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", CREATE, method="POST", status=400, code="VALIDATION_ERROR"),
        Fault("status", CREATE, method="POST", status=402, code="NO_CREDITS"),
        Fault("connect_refused", CREATE, method="POST"),
    ],
    ids=["400", "402", "refused"],
)
async def test_what_was_not_charged_is_returned(fault: Fault) -> None:
    budget = Budget(1)
    async with emulated(budget=budget, max_retries=0) as (emulator, client):
        emulator.add_fault(fault)
        with pytest.raises(FinetuningError):
            await client.generations.create("rain")
        assert budget.remaining == 1
        await client.generations.create("rain")
        assert budget.remaining == 0


async def test_what_waits_is_reserved_and_returned_if_it_gives_up() -> None:
    budget = Budget(11)
    async with emulated(short(queue_size=100), budget=budget) as (_, client):
        for _ in range(10):
            await client.generations.create("before")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.generations.create, "rain")
            await anyio.sleep(1)
            assert (budget.spent, budget.reserved, budget.remaining) == (10, 1, 0)
            with pytest.raises(BudgetExceededError, match="and 1 reserved"):
                await client.generations.create("wind")
            tasks.cancel_scope.cancel()
        assert budget.remaining == 1
        with pytest.raises(CapacityError):
            await client.generations.create("rain", max_wait=1)
        assert budget.remaining == 1


@pytest.mark.parametrize("action", ["lost_before_commit", "lost_after_commit"])
async def test_a_create_in_doubt_counts_as_spent(action: Any) -> None:
    budget = Budget(1)
    async with emulated(budget=budget) as (emulator, client):
        emulator.add_fault(Fault(action, CREATE, method="POST"))
        emulator.add_fault(Fault("status", CREATE, method="GET", times=None))
        with pytest.raises(FinetuningError):
            await client.generations.create("rain")
        assert budget.remaining == 0


async def test_a_failed_track_stays_spent() -> None:
    budget = Budget(1)
    async with emulated(budget=budget) as (emulator, client):
        emulator.add_fault(Fault("fail", CREATE, method="POST"))
        with pytest.raises(FinetuningError):
            await client.generate("rain")
        assert (budget.spent, budget.remaining) == (1, 0)


async def test_sound_effects_cost_nothing() -> None:
    budget = Budget(1)
    async with emulated(budget=budget) as (_, client):
        await client.generations.create("rain")
        await client.sound_effects.create("a door")
        assert budget.spent == 1


async def test_one_object_counts_for_all_that_it_is_given_to() -> None:
    budget = Budget(2)
    async with emulated(budget=budget) as (emulator, client):
        view = client.with_options(priority="low")
        other = client.with_options(budget=budget, share="me")
        await view.generations.create("rain")
        await other.generations.create("wind")  # once, though it is there twice
        assert budget.spent == 2
        for one in (client, view, other):
            with pytest.raises(BudgetExceededError):
                await one.generations.create("snow")
        assert len(emulator.ledger) == 2


async def test_the_budget_of_a_share_comes_on_top_of_that_of_the_account() -> None:
    async with emulated(budget=Budget(3)) as (_, client):
        guest = client.with_options(share="guest", budget=Budget(1))
        await guest.generations.create("rain")
        with pytest.raises(BudgetExceededError, match="1 of 1 credits"):
            await guest.generations.create("wind")
        await guest.generations.create("wind", share="other")
        await client.generations.create("snow")
        with pytest.raises(BudgetExceededError, match="3 of 3"):
            await guest.generations.create("hail", share="other")
        unlimited = client.with_options(budget=None)
        await unlimited.generations.create("hail")


async def test_a_refusal_by_one_budget_takes_nothing_of_another() -> None:
    total, own = Budget(5), Budget(1)
    async with emulated(budget=total) as (_, client):
        guest = client.with_options(share="guest", budget=own)
        await guest.generations.create("rain")
        with pytest.raises(BudgetExceededError):
            await guest.generations.create("wind")
        assert (total.remaining, own.remaining) == (4, 0)


@pytest.mark.parametrize("wrong", [50, 0, True, 2.5, "five", Budget])
def test_a_budget_must_be_a_budget(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="budget must be a Budget"):
        AsyncClient("ft_live_" + 32 * "a", budget=wrong)


async def test_a_view_checks_its_budget_too() -> None:
    async with emulated() as (_, client):
        with pytest.raises(InvalidRequestError, match="budget must be a Budget"):
            client.with_options(budget=5)  # type: ignore[arg-type]  # refused
        with pytest.raises(InvalidRequestError, match="given only these options"):
            client.with_options(budgets={})  # type: ignore[call-arg]  # refused


@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
def test_a_cancelled_create_counts_exactly_if_it_was_or_may_be_charged(
    canceller: StepCanceller,
) -> None:
    """Cancelled at every step."""
    step, reached = 1, True
    while reached:
        reached = cancel_at_step(canceller, step, _cancelled_create)
        step += 1
    assert step > 7


async def _cancelled_create(run_cancelled: Any) -> None:
    budget = Budget(3)
    async with emulated(budget=budget) as (emulator, client):
        await run_cancelled(lambda: client.generations.create("rain"))
        await anyio.sleep(1)
        assert budget.reserved == 0
        assert len(emulator.ledger) <= budget.spent <= 1
        if not emulator.count(method="POST"):
            assert budget.spent == 0


def test_threads_and_loops_share_one_budget() -> None:
    budget, refused = Budget(5), []

    async def create() -> None:
        async with short(queue_size=100) as service:
            async with (
                httpx.AsyncClient(transport=service.transport()) as http,
                AsyncClient(
                    service.api_key,
                    base_url=service.base_url,
                    http_client=http,
                    budget=budget,
                ) as client,
            ):
                for _ in range(3):
                    try:
                        await client.generations.create("rain")
                    except BudgetExceededError as error:
                        refused.append(error)

    threads = [threading.Thread(target=anyio.run, args=(create,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (budget.spent, len(refused)) == (5, 4)


async def test_a_batch_keeps_to_the_budget_of_its_client(tmp_path: Any) -> None:
    from finetuning_async import GenerationRequest

    async with emulated(short(audio=b"ID3"), budget=Budget(3)) as (emulator, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add([GenerationRequest(f"rain {n}") for n in range(5)])
            items = [item async for item in batch.run()]
            assert len(items) == len(emulator.ledger) == 3
            assert batch.paused is not None
            assert batch.paused[0] == "budget"
