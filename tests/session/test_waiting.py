"""A caller who waits can see why, how many go before him, and for how long."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import CreateWaiting, LocalRateLimiter, RateLimits
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from finetuning_async import Event


async def test_a_waiting_create_reports_its_place_and_its_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "finetuning_async")
    reports: list[CreateWaiting] = []
    async with emulated(short(queue_size=100)) as (_, client):
        async with anyio.create_task_group() as tasks:
            for _ in range(15):
                tasks.start_soon(client.generations.create, "before")
            await anyio.sleep(10)
            await client.generate("mine", on_waiting=reports.append)
        sent_at = reports[-1].expected_start
        assert {event.reason for event in reports} == {"rate_limit"}
        assert reports[0].position == 5
        assert reports[0].since == pytest.approx(reports[0].at, abs=0.01)
        assert all(abs(e.expected_start - sent_at) < 2 for e in reports)
        assert all(b.at - a.at > 0.999 for a, b in pairwise(reports))
        # The nearer its start, the sooner the next report.
        assert len(reports) > 9
        assert all(
            b.at - a.at < max(1.5, (sent_at - a.at) / 9) for a, b in pairwise(reports)
        )
    lines = [r.message for r in caplog.records if "a create waited" in r.message]
    assert len(lines) == 6, "one for each of the five before it, and its own"


async def test_a_create_that_waits_for_the_queue_says_so() -> None:
    events: list[Event] = []
    service = Emulator(queue_size=1, generation_time=(30, 30))
    limits = RateLimits(queue=1)
    async with emulated(service, rate_limits=limits, on_event=events.append) as (
        _,
        client,
    ):
        await client.generations.create("before")
        await client.generations.create("mine")
    waiting = [event for event in events if isinstance(event, CreateWaiting)]
    assert waiting[0].reason == "queue"
    assert waiting[0].kind == "music"


async def test_a_create_stopped_by_a_429_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "finetuning_async")
    reports: list[CreateWaiting] = []
    async with emulated() as (emulator, client):
        emulator.add_fault(
            Fault("status", status=429, code="RATE_LIMITED", retry_after=8)
        )
        await anyio.sleep(20)
        await client.generations.create("mine", on_waiting=reports.append)
    assert reports[0].reason == "retry_after"
    assert reports[0].expected_start - reports[0].at == pytest.approx(8, abs=1)
    assert "a create waited" not in caplog.text, "less than 10 s is not worth a line"


async def test_of_hundreds_that_wait_each_reports_its_own_place() -> None:
    places: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, CreateWaiting):
            places.append(event.position)

    async with emulated(short(queue_size=10**5), on_event=note) as (_, client):
        for _ in range(10):
            await client.generations.create("before")
        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(client.generations.create, "waits")
            await anyio.sleep(0.5)
            tasks.cancel_scope.cancel()
    assert sorted(places) == list(range(300))


async def test_a_create_that_goes_at_once_reports_nothing() -> None:
    reports: list[CreateWaiting] = []
    async with emulated() as (_, client):
        await client.generate("mine", on_waiting=reports.append)
    assert not reports


async def test_a_callback_that_fails_ends_no_wait() -> None:
    def fails(_: CreateWaiting) -> None:
        raise RuntimeError("of the caller")

    async with emulated(short(queue_size=100)) as (emulator, client):
        for _ in range(10):
            await client.generations.create("before")
        await client.generate("mine", on_waiting=fails)
        assert len(emulator.tracks) == 11


class Broken(LocalRateLimiter):
    def gate_opens(self, route: str) -> float:
        raise RuntimeError(f"of the limiter, for {route}")


async def test_a_limiter_that_fails_while_a_create_reports_ends_no_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = short(queue_size=100)
    async with emulated(service, rate_limiter=Broken()) as (emulator, client):
        for _ in range(10):
            await client.generations.create("before")
        await client.generations.create("mine", on_waiting=lambda _: None)
        assert len(emulator.tracks) == 11
    assert "reporting a create that waits" in caplog.text


async def test_a_create_cancelled_while_it_reports_loses_no_permit() -> None:
    async with emulated(short(queue_size=100)) as (_, client):
        for _ in range(9):
            await client.generations.create("before")
        for delay in (0.0, 1e-6, 1e-4):
            with anyio.move_on_after(delay):
                await client.generate("mine", on_waiting=lambda _: None)
        await anyio.sleep(200)
        assert client.rate_limit_status().creates.available == 10
