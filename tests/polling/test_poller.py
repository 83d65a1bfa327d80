"""The reads of the poll loop: which are sent, when, and what they lead to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest

from tests._scripted_service import (
    FIRST_PAGE,
    refusal,
    scripted_service,
    wait_for_all,
)

if TYPE_CHECKING:
    import httpx


pytestmark = pytest.mark.sampled(2)


COMPLETED = f"{FIRST_PAGE}&status=completed"


async def test_one_track_is_read_by_its_own_get() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        await client.wait_for_completion("a")
        assert not service.pages
        assert set(service.singles) == {"a"}


async def test_many_waiters_of_one_track_share_each_read() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        states = await wait_for_all(client, *["a"] * 50)
        assert {state.status for state in states} == {"completed"}
        assert not service.pages
        assert len(service.singles) < 17


async def test_several_tracks_are_read_by_one_page() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(50)]
        await wait_for_all(client, *ids)
        assert len(service.singles) <= 1  # the first one waits alone
        assert set(service.pages) == {"/v1/generations?limit=99&offset=0"}
        assert len(service.pages) < 17


async def test_a_row_beyond_the_first_page_gets_its_own_get() -> None:
    async with scripted_service() as (service, client):
        service.add("deep", 20.0)
        for n in range(150):
            service.add(f"old{n}", 0.0)
        for n in range(5):
            service.add(f"t{n}", 20.0)
        states = await wait_for_all(client, "deep", *[f"t{n}" for n in range(5)])
        assert {state.status for state in states} == {"completed"}
        assert "deep" in service.singles
        assert set(service.pages) <= {FIRST_PAGE, COMPLETED}
        assert service.pages.count(COMPLETED) <= 1  # it does not go back so far


async def test_many_rows_on_the_second_page_are_read_by_that_page() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 30.0).id for n in range(150)]
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(service.singles) <= 2
        assert len(service.pages) < 24


async def test_a_row_that_is_missing_from_the_list_gets_its_own_get() -> None:
    async with scripted_service() as (service, client):
        service.add("hidden", 20.0, is_listed=False)
        ids = ["hidden", *[service.add(f"t{n}", 20.0).id for n in range(5)]]
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert "hidden" in service.singles


async def test_rows_shifted_by_new_tracks_are_found() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(20)]

        async def others() -> None:
            for n in range(200):
                service.add(f"new{n}", 1.0)
                await anyio.sleep(0.25)

        async with anyio.create_task_group() as group:
            group.start_soon(others)
            states = await wait_for_all(client, *ids)
            assert anyio.current_time() < 60.0 + 5.0
        assert {state.status for state in states} == {"completed"}


async def test_no_track_is_read_twice_in_one_round() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 60.0).id for n in range(30)]
        hidden = [service.add(f"h{n}", 60.0, is_listed=False).id for n in range(5)]
        with anyio.move_on_after(30):
            await wait_for_all(client, *ids, *hidden)
        rounds = max(Counter(service.singles).values())
        assert abs(len(service.pages) - rounds) <= 1
        assert all(abs(service.singles.count(name) - rounds) <= 1 for name in hidden)


async def test_a_failed_row_gets_one_get_for_its_message() -> None:
    async with scripted_service() as (service, client):
        for n in range(5):
            service.add(f"t{n}", 20.0, end="failed")
        states = await wait_for_all(client, *[f"t{n}" for n in range(5)])
        assert {state.error_message for state in states} == {"out of time"}
        reads = Counter(path for at, path in service.log if at > 20 and "?" not in path)
        assert set(reads.values()) == {1}
        assert len(reads) == 5


async def test_a_failed_row_whose_get_fails_is_delivered_as_it_is() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0, end="failed")
        service.add("b", 40.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            is_single = "limit" not in request.url.params
            is_down = anyio.current_time() > 20 and is_single
            return refusal(503, "INTERNAL_ERROR") if is_down else None

        service.intercept = intercept
        with anyio.move_on_after(30):
            a, _ = await wait_for_all(client, "a", "b", timeout=27)
        assert (a.status, a.error_message) == ("failed", None)


async def test_a_row_of_a_foreign_track_is_ignored() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        for n in range(3):
            service.add(f"other{n}", 5.0, end="failed")
        await client.wait_for_completion("a")
        assert set(service.singles) == {"a"}
