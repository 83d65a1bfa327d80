"""Creates with a key that are cancelled or time out: paid once all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import (
    APITimeoutError,
    AsyncClient,
    ClientClosedError,
    Generation,
)
from finetuning_async.emulator import Emulator, Fault
from tests._cancellations import (
    CANCELLERS,
    STEP_CANCELLERS,
    Canceller,
    StepCanceller,
    cancel_at_step,
    run_loop,
)
from tests._client_journals import MemoryJournal
from tests._emulated_client import SHORT, emulated, short
from tests.session._keyed import CREATE, posts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def test_the_timeout_of_a_joined_call_is_its_own() -> None:
    emulator = short(latency=(2, 2))
    async with emulated(emulator, journal=MemoryJournal()) as (_, client):
        await client.generations.create("before")
        errors: list[APITimeoutError] = []
        tracks: list[Generation] = []

        async def create(timeout: float | None) -> None:
            try:
                track = await client.generations.create(
                    "rain", idempotency_key="k", timeout=timeout
                )
                tracks.append(track)
            except APITimeoutError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(create, None)
            await anyio.sleep(0.1)
            group.start_soon(create, 1.0)
            group.start_soon(create, 60.0)
        assert len({track.id for track in tracks}) == 1
        assert len(tracks) == 2
        assert "another call with key 'k'" in errors[0].message
        assert errors[0].safe_to_retry
        assert posts(emulator) == 2


async def test_a_cancelled_creator_hands_over_to_a_joined_call() -> None:
    emulator = short(creates_per_minute=1)
    async with emulated(emulator, journal=MemoryJournal()) as (_, client):
        await client.generations.create("first")
        tracks: list[Generation] = []

        async def join() -> None:
            tracks.append(await client.generations.create("rain", idempotency_key="k"))

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(10):
                group.start_soon(anyio.sleep, 0)
                group.start_soon(_after, 1.0, join)
                await client.generations.create("rain", idempotency_key="k")
        assert len(tracks) == 1
        assert posts(emulator) == 2


async def _after(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    await anyio.sleep(seconds)
    await work()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("canceller", "after"),
    # Of each two moments one; the ways to cancel take turns.
    [
        (canceller, after)
        for number, canceller in enumerate(CANCELLERS)
        for after in [0.1, 0.3, 0.6, 0.9, 1.1, 1.6][number % 2 :: 2]
    ],
    ids=str,
)
def test_a_keyed_create_cancelled_at_any_time_is_paid_once(
    canceller: Canceller, after: float
) -> None:
    async def main() -> None:
        journal = MemoryJournal()
        service = Emulator(latency=(0.25, 0.25), generation_time=SHORT)
        async with emulated(service, journal=journal) as (
            emulator,
            client,
        ):
            await canceller.run(
                lambda: client.generations.create("rain", idempotency_key="k"), after
            )
            await check_paid_once(emulator, client, journal)

    run_loop(canceller.loop, main)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_keyed_create_cancelled_at_every_step_is_paid_once(
    canceller: StepCanceller, *, is_lost: bool
) -> None:
    # Of each eight steps one: the four ways to cancel take turns, in both cases.
    step, reached = STEP_CANCELLERS.index(canceller) + 4 * is_lost, True
    while reached:
        step += 8 if step else 1

        async def main(run_cancelled: Any) -> None:
            journal = MemoryJournal()
            service = Emulator(latency=(0.25, 0.25), generation_time=SHORT)
            async with emulated(service, journal=journal) as (
                emulator,
                client,
            ):
                if is_lost:
                    emulator.add_fault(
                        Fault("lost_after_commit", CREATE, method="POST")
                    )
                await run_cancelled(
                    lambda: client.generations.create("rain", idempotency_key="k")
                )
                await check_paid_once(emulator, client, journal)

        reached = cancel_at_step(canceller, step, main)
    assert step >= 20


async def check_paid_once(
    emulator: Emulator, client: AsyncClient, journal: MemoryJournal
) -> None:
    """Check what a cancelled call left, and that its key then costs one credit."""
    await anyio.sleep(1)  # let what is on the wire arrive
    states = journal.states() if journal.stores else {}
    if emulator.tracks:
        assert states in ({"k": "accepted"}, {"k": "unknown"})
    else:
        assert states == {}
    opened = await client._session().recorder().journal.opened()
    assert not opened.locks._waiting
    track = await client.generate("rain", idempotency_key="k")
    assert list(emulator.tracks) == [track.id]
    assert len(emulator.ledger) == 1
    assert journal.states() == {"k": "completed"}


async def test_closing_the_client_ends_keyed_creates_and_pays_none_twice() -> None:
    journal = MemoryJournal()
    emulator = short(creates_per_minute=1, latency=(0.2, 0.2))
    async with emulated(emulator, journal=journal) as (_, client):
        errors: list[Exception] = []

        async def create(key: str) -> None:
            try:
                await client.generations.create("rain", idempotency_key=key)
            except ClientClosedError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(create, f"k{number}")
            await anyio.sleep(1.5)
            await client.aclose()
        assert len(errors) == 2
        assert list(journal.states().values()) == ["accepted"]
        assert len(emulator.ledger) == 1
