"""The look at a deadline: that there is one, what it costs, what the error says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
import sniffio

from finetuning_async import RateLimit, RateLimits, WaitTimeoutError
from finetuning_async._coordination._poll_messages import PollUpdate
from finetuning_async.testing import JumpingEventLoop
from tests._scripted_service import (
    assert_nothing_left,
    poller_of,
    refusal,
    scripted_service,
)

if TYPE_CHECKING:
    from finetuning_async import AsyncClient
    from finetuning_async._coordination._poll_messages import PollReport


def jump(seconds: float) -> None:
    """Advance the clock, as after a sleep of the machine."""
    if sniffio.current_async_library() == "asyncio":
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingEventLoop)
        loop._jumping_selector.now += seconds
        return
    import trio

    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    clock.jump(seconds)


async def timeout_text(client: AsyncClient, timeout: float) -> str:
    with pytest.raises(WaitTimeoutError) as caught:
        await client.wait_for_completion("a", timeout=timeout)
    return str(caught.value)


@pytest.mark.parametrize("before", [0.0, 0.001, 0.05, 0.25, 0.5, 0.9])
async def test_a_track_that_ended_before_the_deadline_is_returned(
    before: float,
) -> None:
    async with scripted_service() as (service, client):
        service.add("a", 30.0 - before)
        done = await client.wait_for_completion("a", timeout=30)
        assert done.status == "completed"
        assert_nothing_left(client)


@pytest.mark.parametrize("during_a_read", [False, True])
@pytest.mark.parametrize("slept", [25.0, 4000.0])
async def test_after_a_sleep_past_the_deadline_there_is_one_look(
    slept: float, *, during_a_read: bool
) -> None:
    async with scripted_service() as (service, client):
        service.add("a", 21.0)
        slept_at = 20.02 if during_a_read else 20.7

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if during_a_read and slept_at - 1 < anyio.current_time() < slept_at + 1:
                await anyio.sleep(30)  # its connection did not outlive the sleep
                raise httpx.ReadError("reset")
            return None

        async def sleep() -> None:
            await anyio.sleep_until(slept_at)
            jump(slept)

        service.intercept = intercept
        async with anyio.create_task_group() as group:
            group.start_soon(sleep)
            done = await client.wait_for_completion("a", timeout=30)
        assert done.status == "completed"
        assert anyio.current_time() < slept_at + slept + 1.1


@pytest.mark.parametrize(("timeout", "gets_response"), [(0, True), (0.3, False)])
async def test_a_slow_response_is_waited_for_if_it_is_the_only_look(
    timeout: float, *, gets_response: bool
) -> None:
    async with scripted_service() as (service, client):
        service.add("a", 0.0)
        service.delay = 2.0
        if gets_response:
            assert (await client.wait_for_completion("a", timeout=timeout)).is_final
            assert anyio.current_time() == pytest.approx(4.0, abs=0.01)
        else:
            assert "has had no response" in await timeout_text(client, timeout)
            assert anyio.current_time() == pytest.approx(1.3, abs=0.01)


async def test_twelve_short_waits_in_a_row_get_a_look_each() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)
        for number in range(12):
            assert "still in progress" in await timeout_text(client, 0.3)
            assert len(service.log) > number
        assert anyio.current_time() < 12 * 0.5
        assert client.rate_limit_status().reads.available is not None


async def test_very_many_waits_with_a_timeout_of_0_keep_to_the_budget() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)
        for _ in range(100):
            assert "still in progress" in await timeout_text(client, 0)
        moments = [at for at, _ in service.log]
        assert len(moments) == 100
        assert max(sum(at <= x < at + 60 for x in moments) for at in moments) <= 60


async def test_with_no_permit_left_it_ends_at_once_and_says_when_there_is_one() -> None:
    limits = RateLimits(reads=RateLimit(5, per=300.0))
    async with scripted_service(rate_limits=limits) as (service, client):
        service.add("a", 1000.0)
        for _ in range(5):
            await client.generations.get("a")
        began = anyio.current_time()
        with pytest.raises(
            WaitTimeoutError, match="rate limit allows the next read"
        ) as caught:
            await client.wait_for_completion("a", timeout=0)
        assert anyio.current_time() - began < 0.01
        assert "still in progress" not in str(caught.value)
        assert caught.value.retry_after == pytest.approx(300, abs=2)


async def test_the_error_says_how_old_the_last_state_is_and_why() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            down = anyio.current_time() > 10
            return refusal(503, "INTERNAL_ERROR") if down else None

        service.intercept = intercept
        text = await timeout_text(client, 30)
        assert "still in progress" not in text
        assert "it was 'processing' 2" in text
        assert "503" in text


async def test_the_state_that_the_caller_passed_does_not_count_as_a_look() -> None:
    async with scripted_service() as (service, client):
        track = await client.generations.create("x")

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return refusal(503, "INTERNAL_ERROR")

        service.intercept = intercept
        with pytest.raises(WaitTimeoutError, match="could not be read") as caught:
            await client.wait_for_completion(track, timeout=5)
        assert "still in progress" not in str(caught.value)
        assert caught.value.generation == track


class Follower:
    """Polling in which another process leads and reports nothing."""

    async def sync(self, report: PollReport) -> PollUpdate:
        del report
        return PollUpdate(leads_for=0.0)


async def test_a_process_that_does_not_lead_reads_at_a_deadline() -> None:
    async with scripted_service() as (service, client):
        poller_of(client).share(Follower())
        service.add("a", 25.0)
        assert "still in progress" in await timeout_text(client, 20)
        assert len(service.log) == 1
        await anyio.sleep(10)
        assert (await client.wait_for_completion("a", timeout=0)).is_final
        assert_nothing_left(client)


async def test_each_of_many_waits_without_a_look_says_why() -> None:
    async with scripted_service() as (service, client):
        for name in ("a", "b", "c"):
            service.add(name, 1000.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return refusal(503, "INTERNAL_ERROR")

        async def wait(name: str) -> None:
            with pytest.raises(WaitTimeoutError, match=r"last read failed.*503"):
                await client.wait_for_completion(name, timeout=5)

        service.intercept = intercept
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(wait, name)
