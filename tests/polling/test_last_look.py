"""The look at a deadline: that there is one, what it costs, and what is said of it."""

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
from tests._scripted_service import assert_nothing_left, open_studio, poller_of, refusal

if TYPE_CHECKING:
    from finetuning_async import AsyncClient
    from finetuning_async._coordination._poll_messages import PollReport


def jump(seconds: float) -> None:
    """Let the clock go on, as after a sleep of the machine."""
    if sniffio.current_async_library() == "asyncio":
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingEventLoop)
        loop._jumping_selector.now += seconds
        return
    import trio

    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    clock.jump(seconds)


async def said(client: AsyncClient, timeout: float) -> str:
    with pytest.raises(WaitTimeoutError) as caught:
        await client.wait_for_completion("a", timeout=timeout)
    return str(caught.value)


@pytest.mark.parametrize("before", [0.0, 0.001, 0.05, 0.25, 0.5, 0.9])
async def test_what_ended_before_the_deadline_is_returned(before: float) -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 30.0 - before)
        done = await client.wait_for_completion("a", timeout=30)
        assert done.status == "completed"
        assert_nothing_left(client)


@pytest.mark.parametrize("during_a_read", [False, True])
@pytest.mark.parametrize("slept", [25.0, 4000.0])
async def test_after_a_sleep_past_the_deadline_there_is_one_look(
    slept: float, *, during_a_read: bool
) -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 21.0)
        slept_at = 20.02 if during_a_read else 20.7

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            if during_a_read and slept_at - 1 < anyio.current_time() < slept_at + 1:
                await anyio.sleep(30)  # its connection did not outlive the sleep
                raise httpx.ReadError("reset")
            return None

        async def sleep() -> None:
            await anyio.sleep_until(slept_at)
            jump(slept)

        studio.meddle = meddle
        async with anyio.create_task_group() as group:
            group.start_soon(sleep)
            done = await client.wait_for_completion("a", timeout=30)
        assert done.status == "completed"
        assert anyio.current_time() < slept_at + slept + 1.1


@pytest.mark.parametrize(("timeout", "heard"), [(0, True), (0.3, False)])
async def test_a_slow_answer_is_waited_for_if_it_is_the_only_look(
    timeout: float, *, heard: bool
) -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 0.0)
        studio.delay = 2.0
        if heard:
            assert (await client.wait_for_completion("a", timeout=timeout)).is_final
            assert anyio.current_time() == pytest.approx(4.0, abs=0.01)
        else:
            assert "no answer came" in await said(client, timeout)
            assert anyio.current_time() == pytest.approx(1.3, abs=0.01)


async def test_twelve_short_waits_in_a_row_look_each() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 1000.0)
        for number in range(12):
            assert "still runs" in await said(client, 0.3)
            assert len(studio.log) > number
        assert anyio.current_time() < 12 * 0.5
        assert client.rate_limit_status().reads.available is not None


async def test_waits_without_time_take_their_turn_when_they_are_very_many() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 1000.0)
        for _ in range(100):
            assert "still runs" in await said(client, 0)
        moments = [at for at, _ in studio.log]
        assert len(moments) == 100
        assert max(sum(at <= x < at + 60 for x in moments) for at in moments) <= 60


async def test_with_no_read_left_it_ends_at_once_and_says_when_there_is_one() -> None:
    limits = RateLimits(reads=RateLimit(5, per=300.0))
    async with open_studio(rate_limits=limits) as (studio, client):
        studio.add("a", 1000.0)
        for _ in range(5):
            await client.generations.get("a")
        began = anyio.current_time()
        with pytest.raises(WaitTimeoutError, match="reads are used up") as caught:
            await client.wait_for_completion("a", timeout=0)
        assert anyio.current_time() - began < 0.01
        assert "still runs" not in str(caught.value)
        assert caught.value.retry_after == pytest.approx(300, abs=2)


async def test_it_says_how_long_ago_it_was_seen_and_why_not_since() -> None:
    async with open_studio() as (studio, client):
        studio.add("a", 1000.0)

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            down = anyio.current_time() > 10
            return refusal(503, "INTERNAL_ERROR") if down else None

        studio.meddle = meddle
        text = await said(client, 30)
        assert "still runs" not in text
        assert "it was 'processing' 2" in text
        assert "503" in text


async def test_the_state_that_the_caller_brought_is_not_taken_for_a_look() -> None:
    async with open_studio() as (studio, client):
        track = await client.generations.create("x")

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            return refusal(503, "INTERNAL_ERROR")

        studio.meddle = meddle
        with pytest.raises(WaitTimeoutError, match="could not be read") as caught:
            await client.wait_for_completion(track, timeout=5)
        assert "still runs" not in str(caught.value)
        assert caught.value.generation == track


class Follower:
    """Where another process leads, and tells nothing."""

    async def sync(self, report: PollReport) -> PollUpdate:
        del report
        return PollUpdate(leads_for=0.0)


async def test_who_lets_another_process_read_looks_itself_at_a_deadline() -> None:
    async with open_studio() as (studio, client):
        poller_of(client).share(Follower())
        studio.add("a", 25.0)
        assert "still runs" in await said(client, 20)
        assert len(studio.log) == 1
        await anyio.sleep(10)
        assert (await client.wait_for_completion("a", timeout=0)).is_final
        assert_nothing_left(client)


async def test_many_that_could_not_be_looked_at_are_told_why_each() -> None:
    async with open_studio() as (studio, client):
        for name in ("a", "b", "c"):
            studio.add(name, 1000.0)

        async def meddle(request: httpx.Request) -> httpx.Response | None:
            return refusal(503, "INTERNAL_ERROR")

        async def wait(name: str) -> None:
            with pytest.raises(WaitTimeoutError, match=r"last look failed.*503"):
                await client.wait_for_completion(name, timeout=5)

        studio.meddle = meddle
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(wait, name)
