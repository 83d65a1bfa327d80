"""More tracks than a page holds: one page of the completed list for all of them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from finetuning_async import RateLimit, RateLimits
from finetuning_async._polling._schedule import SHOWN_EVERY, SHOWN_SOONER
from finetuning_async.emulator import Emulator
from tests._emulated_client import emulated
from tests._scripted_service import (
    assert_nothing_left,
    refusal,
    reply,
    scripted_service,
)

if TYPE_CHECKING:
    import httpx

    from finetuning_async import AsyncClient
    from tests._scripted_service import ScriptedService

pytestmark = pytest.mark.sampled(2)

FIRST_PAGE = "/v1/generations?limit=99&offset=0"
COMPLETED = f"{FIRST_PAGE}&status=completed"
INTERVAL = 60 / 42
LIMITS = RateLimits(creates=RateLimit(100_000), reads=RateLimit(60))


class Crowd:
    """Creates tracks one after another, and waits for each in a task.

    Attributes:
        late: Seconds from the end of each track until it was noticed.
        states: The final states, by id.
    """

    def __init__(self, service: ScriptedService, client: AsyncClient) -> None:
        self.service = service
        self.client = client
        self.late: dict[str, float] = {}
        self.states: dict[str, Any] = {}

    async def wait(self, seconds: float, **more: Any) -> None:
        """Create a track, and wait for it."""
        created = await self.client.generations.create("x")
        track = self.service.tracks[created.id]
        track.ends_at = track.created_at + seconds
        for name, value in more.items():
            setattr(track, name, value)
        state = await self.client.wait_for_completion(created, timeout=None)
        self.late[created.id] = anyio.current_time() - track.ends_at
        self.states[created.id] = state

    async def gather(self, *odd: dict[str, Any], seconds: float = 60.0) -> None:
        """Create 130 tracks in 65 s, some of them unusual, and wait for all."""
        async with anyio.create_task_group() as group:
            for n in range(130):
                options = odd[n - 70] if 0 <= n - 70 < len(odd) else {}
                seconds_of_it = options.pop("seconds", seconds + n % 7)
                group.start_soon(lambda s, o: self.wait(s, **o), seconds_of_it, options)
                await anyio.sleep(0.5)


def reads(service: ScriptedService, first: float, last: float) -> list[str]:
    """The reads between two times."""
    made = [path for at, path in service.log if first <= at <= last]
    return [path for path in made if not path.endswith("/v1/generations")]


async def test_many_ends_are_noticed_by_the_completed_list() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        crowd = Crowd(service, client)
        await crowd.gather()
        assert {state.status for state in crowd.states.values()} == {"completed"}
        assert statistics.mean(crowd.late.values()) < 1.2
        crowded = reads(service, 60, 100)
        assert crowded.count(COMPLETED) > 0.8 * len(crowded)
        assert_nothing_left(client)


async def test_a_service_that_does_not_filter_is_tried_once() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        service.filters = False
        crowd = Crowd(service, client)
        await crowd.gather()
        assert {state.status for state in crowd.states.values()} == {"completed"}
        assert service.pages.count(COMPLETED) == 1
        assert max(crowd.late.values()) < 8


async def test_a_service_that_refuses_to_filter_is_tried_once() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            is_filtered = "status" in request.url.params
            return refusal(400, "VALIDATION_ERROR") if is_filtered else None

        service.intercept = intercept
        crowd = Crowd(service, client)
        await crowd.gather()
        assert len(crowd.states) == 130
        assert service.pages.count(COMPLETED) == 1
        assert service.pages.count(FIRST_PAGE) > 20  # the whole list is still read


async def test_a_list_that_hides_completed_tracks_is_abandoned() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if "status" not in request.url.params:
                return None
            return reply({"generations": [], "hasMore": False, "nextOffset": 0})

        service.intercept = intercept
        crowd = Crowd(service, client)
        await crowd.gather()
        assert len(crowd.states) == 130
        assert max(crowd.late.values()) < SHOWN_EVERY + 5
        last = max(at for at, path in service.log if path == COMPLETED)
        assert last < 60 + SHOWN_EVERY + 5


async def test_pages_without_dates_prove_no_reach() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        for n in range(150):
            service.add(f"old{n}", 0.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if "status" not in request.url.params:
                return None
            rows = [{"id": f"old{n}", "status": "completed"} for n in range(99)]
            return reply({"generations": rows, "hasMore": True, "nextOffset": 99})

        service.intercept = intercept
        crowd = Crowd(service, client)
        await crowd.gather()
        assert max(crowd.late.values()) < 8
        assert service.pages.count(COMPLETED) == 1


async def test_failures_among_many_tracks_are_noticed_and_then_sooner() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        crowd = Crowd(service, client)
        fails = ({"end": "failed", "seconds": 30.0 + 5 * n} for n in range(12))
        await crowd.gather(*fails)
        late = [crowd.late[k] for k, s in crowd.states.items() if s.status == "failed"]
        assert len(late) == 12
        assert max(late) < SHOWN_EVERY + 4 * INTERVAL  # each has its own read as well
        assert statistics.mean(late[6:]) < SHOWN_SOONER + 2 * INTERVAL
        messages = {s.error_message for s in crowd.states.values()}
        assert messages == {"out of time", None}


async def test_an_end_that_the_completed_list_never_shows_is_found() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        crowd = Crowd(service, client)
        await crowd.gather(
            {"is_listed": False},
            {"running": "queued"},
            {"running": "something new"},
            {"seconds": 200.0},
        )
        assert {state.status for state in crowd.states.values()} == {"completed"}
        assert max(crowd.late.values()) < SHOWN_EVERY + 2 * INTERVAL


async def test_a_last_look_among_many_tracks_shows_a_failure() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        crowd = Crowd(service, client)
        async with anyio.create_task_group() as group:
            group.start_soon(crowd.gather)
            await anyio.sleep(40)
            created = await client.generations.create("x")
            track = service.tracks[created.id]
            track.end, track.ends_at = "failed", anyio.current_time() + 48
            state = await client.wait_for_completion(created, timeout=50)
            assert COMPLETED in reads(service, track.ends_at, track.ends_at + 2)
        assert state.status == "failed"


async def test_a_hint_among_many_tracks_leads_to_a_read_that_shows_a_failure() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        crowd = Crowd(service, client)

        async with anyio.create_task_group() as group:
            group.start_soon(crowd.gather)
            await anyio.sleep(64)
            track = service.tracks["track-60"]
            track.end, track.ends_at = "failed", anyio.current_time()
            client.mark_changed(track.id)
        assert crowd.states[track.id].status == "failed"
        assert crowd.late[track.id] < 3 * INTERVAL


async def test_a_wait_after_a_page_of_the_completed_list_gets_no_old_state() -> None:
    async with scripted_service(rate_limits=LIMITS) as (service, client):
        crowd = Crowd(service, client)
        async with anyio.create_task_group() as group:
            group.start_soon(crowd.gather)
            await anyio.sleep(64)
            seen = anyio.Event()

            async def intercept(request: httpx.Request) -> None:
                if "status" in request.url.params:
                    seen.set()

            service.intercept = intercept
            await seen.wait()
            await anyio.sleep(0.2)
            track = service.tracks["track-20"]
            track.end, track.ends_at = "failed", anyio.current_time()
            state = await client.wait_for_completion(track.id, timeout=0.0)
        assert state.status == "failed"


async def test_99_tracks_in_flight_are_noticed_within_about_a_second() -> None:
    emulator = Emulator(
        seed=3,
        latency=(0.02, 0.2),
        generation_time=(20.0, 120.0),
        creates_per_minute=100_000,
        queue_size=1000,
        credits=1_000_000,
    )
    late: list[float] = []
    async with emulated(emulator, rate_limits=LIMITS) as (_, client):

        async def keep(first: float) -> None:
            await anyio.sleep_until(first)
            while True:
                track = await client.generate("x", duration=30, wait_timeout=None)
                ended = emulator.tracks[track.id].ends_at
                late.append(anyio.current_time() - ended)

        with anyio.move_on_after(180):
            async with anyio.create_task_group() as group:
                for n in range(99):
                    group.start_soon(keep, n * 0.6)
    assert len(late) > 80
    # A short sample varies; `python -m benchmarks polling` holds 1.0 over half an hour.
    assert statistics.mean(late) <= 1.2
    assert sorted(late)[int(len(late) * 0.95)] <= 2.5
    assert emulator.count(status=429) == 0
