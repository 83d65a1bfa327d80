"""A client in its event loop: open calls, timeouts, and closing."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from finetuning_async import (
    APITimeoutError,
    ClientClosedError,
    FinetuningError,
    Generation,
)
from finetuning_async._http._http_clients import ClientPool
from finetuning_async._session import OpenCalls
from finetuning_async.emulator import Emulator, Fault
from tests._cancellations import CANCELLERS, Canceller, run_loop
from tests._emulated_client import emulated


async def test_closing_ends_calls_that_wait_for_the_rate_limit() -> None:
    async with emulated(Emulator(creates_per_minute=1)) as (emulator, client):
        await client.generations.create("first")
        errors: list[ClientClosedError] = []

        async def create() -> None:
            with pytest.raises(ClientClosedError) as caught:
                await client.generations.create("second")
            errors.append(caught.value)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(create)
            await anyio.sleep(1)
            await client.aclose()
        assert len(errors) == 3
        assert len(emulator.tracks) == 1
        with pytest.raises(ClientClosedError):
            await client.me()
        await client.aclose()


async def test_closing_waits_for_a_create_in_flight_but_not_for_ever() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("slow_answer", "/v1/generations", seconds=20))
        async with anyio.create_task_group() as group:

            async def create() -> None:
                with pytest.raises(FinetuningError, match="may have been charged"):
                    await client.generations.create("x")

            group.start_soon(create)
            await anyio.sleep(1)
            await client.aclose()
            assert 5.9 < anyio.current_time() < 7.1


async def test_the_timeout_of_a_read_names_the_call() -> None:
    async with emulated() as (emulator, client):
        emulator.add_fault(Fault("slow_answer", "/v1/me", seconds=20, times=None))
        with pytest.raises(APITimeoutError, match="GET /v1/me") as caught:
            await client.me(timeout=3)
        assert caught.value.safe_to_retry
        assert 2.9 < anyio.current_time() < 3.1


async def test_closing_does_not_wait_for_a_call_that_has_ended() -> None:
    calls = OpenCalls()
    with calls.scope():
        pass
    await calls.close(ClientPool(None))
    with pytest.raises(ClientClosedError), calls.scope():
        pass


async def test_closing_from_within_a_call_does_not_wait_for_itself() -> None:
    calls = OpenCalls()
    with calls.scope() as scope:
        await calls.close(ClientPool(None))
        assert scope.cancel_called
    assert anyio.current_time() < 0.1


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_closing_runs_to_completion_however_it_is_cancelled(
    canceller: Canceller,
) -> None:
    async def main() -> None:
        async with emulated() as (emulator, client):
            emulator.add_fault(Fault("slow_answer", "/v1/generations", seconds=3))
            created: list[Generation] = []

            async def create() -> None:
                created.append(await client.generations.create("x"))

            async with anyio.create_task_group() as group:
                group.start_soon(create)
                await anyio.sleep(1)
                assert await canceller.run(client.aclose, 0.5)
            assert [track.id for track in created] == list(emulator.tracks)
            assert client._pool.is_closed

    run_loop(canceller.loop, main)


async def test_closing_twice_at_once_is_closing_once() -> None:
    async with emulated() as (_, client):
        async with anyio.create_task_group() as group:
            group.start_soon(client.aclose)
            group.start_soon(client.aclose)
    assert client.is_closed


def test_a_client_bound_to_a_live_loop_is_refused_in_another() -> None:
    async def main() -> None:
        async with emulated() as (_, client):
            await client.me()
            caught: list[BaseException] = []

            def elsewhere() -> None:
                try:
                    asyncio.run(client.me())
                except FinetuningError as error:
                    caught.append(error)

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert "another event loop" in str(caught[0])

    run_loop("asyncio", main)


async def test_a_second_rate_limiter_for_one_account_is_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulated() as (_, client):
        await client.health()
        late = client.with_options(rate_limiter="shared")
        await late.health()
        assert "rate_limiter=SharedRateLimiter is ignored" in caplog.text
