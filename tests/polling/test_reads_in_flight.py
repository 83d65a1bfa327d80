"""Reads that hang delay no waiter, and a slow service gets no flood of reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from finetuning_async import WaitTimeoutError
from finetuning_async._polling._reads_in_flight import (
    HANGS_AFTER,
    LAST_LOOK_HANGS_AFTER,
    MAX_IN_FLIGHT,
    ReadInFlight,
    ReadsInFlight,
)
from finetuning_async._polling._waiters import Watcher
from tests._scripted_service import assert_nothing_left, scripted_service, wait_for_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async import AsyncClient
    from tests._scripted_service import ScriptedService


def hang(
    service: ScriptedService, which: Callable[[int], bool], seconds: float = 40.0
) -> None:
    """Let the responses to requests, numbered from 1, come late or never."""
    calls = 0

    async def intercept(request: httpx.Request) -> httpx.Response | None:
        nonlocal calls
        calls += 1
        if which(calls):
            await anyio.sleep(seconds)
            raise httpx.ReadTimeout("no response")
        return None

    service.intercept = intercept


async def late(client: AsyncClient, service: ScriptedService, *ids: str) -> float:
    """Wait for tracks; return how late the end of the last one was noticed."""
    most = 0.0

    async def wait(track_id: str) -> None:
        nonlocal most
        await client.wait_for_completion(track_id)
        most = max(most, anyio.current_time() - service.tracks[track_id].ends_at)

    async with anyio.create_task_group() as group:
        for track_id in ids:
            group.start_soon(wait, track_id)
    return most


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("number", [1, 2, 7])
async def test_one_read_without_a_response_delays_no_waiter(
    number: int, count: int
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 12.0 + n).id for n in range(count)]
        hang(service, lambda call: call == number)
        assert await late(client, service, *ids) < HANGS_AFTER + 2
        assert_nothing_left(client)


@pytest.mark.parametrize("nth", [2, 4])
async def test_if_every_second_or_fourth_read_hangs_the_delay_is_ten_seconds_at_most(
    nth: int,
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 30.0 + 7 * n).id for n in range(6)]
        hang(service, lambda call: call % nth == 0, seconds=12.0)
        assert await late(client, service, *ids) < 2 * HANGS_AFTER


async def test_if_no_read_gets_a_response_few_are_sent() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 1000.0)
        hang(service, lambda _: True, seconds=30.0)
        with pytest.raises(WaitTimeoutError, match=r"no response for [12]?\d\.\d s"):
            await client.wait_for_completion("a", timeout=300)
        assert len(service.log) <= 33
        assert 300 < anyio.current_time() <= 301.01
        assert_nothing_left(client)


@pytest.mark.parametrize("seconds", [3.0, 8.0, 14.0])
async def test_slow_responses_count_and_cause_no_more_reads(seconds: float) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(5)]
        service.delay = seconds / 2
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert anyio.current_time() < 60 + 2 * seconds + HANGS_AFTER
        assert len(service.log) <= anyio.current_time() / min(seconds, HANGS_AFTER) + 6


async def test_the_response_to_an_earlier_read_does_not_replace_a_newer_state() -> None:
    async with scripted_service() as (service, client):
        track = service.add("a", 60.0, running="pending")
        seen: list[str] = []
        calls = 0

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            if calls == 2:
                old = service._respond(request)
                await anyio.sleep(8)
                return old
            if calls == 3:
                track.running = "processing"
            return None

        service.intercept = intercept
        seen.extend([state.status async for state in client.watch("a")])
        assert seen == ["pending", "processing", "completed"]


async def test_a_driver_that_leaves_cancels_its_hanging_reads_without_delay() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 500.0)
        hang(service, lambda call: call > 1)
        over: list[float] = []

        async def wait(timeout: float) -> None:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_completion("a", timeout=timeout)
            over.append(anyio.current_time() - timeout)

        async with anyio.create_task_group() as group:
            for timeout in (9.0, 10.0, 11.0, 12.0):
                group.start_soon(wait, timeout)
        assert max(over) <= 1.01
        assert_nothing_left(client)


def in_flight(sent_at: float | None = None) -> ReadInFlight:
    reader = Watcher.__new__(Watcher)
    made = ReadInFlight(reader)
    if sent_at is not None:
        made.sent_at = sent_at
    return made


def test_when_another_read_may_be_sent() -> None:
    flights = ReadsInFlight()
    assert flights.next_allowed_at(10.0, is_last_look=False) < 0
    flights.add(in_flight(7.0))
    assert flights.next_allowed_at(10.0, is_last_look=False) == 7.0 + HANGS_AFTER
    assert (
        flights.next_allowed_at(10.0, is_last_look=True) == 7.0 + LAST_LOOK_HANGS_AFTER
    )
    flights.add(in_flight())
    assert flights.next_allowed_at(10.0, is_last_look=False) == 10.0 + HANGS_AFTER
    for _ in range(MAX_IN_FLIGHT - 2):
        flights.add(in_flight(8.0))
    assert flights.next_allowed_at(10.0, is_last_look=False) == float("inf")
    assert (
        flights.next_allowed_at(10.0, is_last_look=True) == 10.0 + LAST_LOOK_HANGS_AFTER
    )
