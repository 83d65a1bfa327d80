"""What failed reads, 404s and refusals mean for those that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    NotFoundError,
    PermissionDeniedError,
    WaitTimeoutError,
)
from finetuning_async._polling._waiters import OVERTIME
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated
from tests._scripted_service import (
    assert_nothing_left,
    refusal,
    reply,
    scripted_service,
    wait_for_all,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async import AsyncClient


pytestmark = pytest.mark.sampled(2)


KEY = "ft_live_" + "7" * 32


FAULTS: dict[str, Callable[[], Awaitable[httpx.Response]]] = {}


def fault(make: Callable[[], Awaitable[httpx.Response]]) -> None:
    FAULTS[make.__name__] = make


@fault
async def rate_limited() -> httpx.Response:
    return refusal(429, "RATE_LIMITED", {"Retry-After": "3"})


@fault
async def broken_service() -> httpx.Response:
    return refusal(500, "INTERNAL_ERROR")


@fault
async def reset() -> httpx.Response:
    raise httpx.ReadError("connection reset by peer")


@fault
async def html() -> httpx.Response:
    return httpx.Response(200, html="<h1>Bad gateway</h1>")


@fault
async def no_object() -> httpx.Response:
    return httpx.Response(200, json=[1, 2])


@fault
async def late() -> httpx.Response:
    await anyio.sleep(20)
    raise httpx.ReadTimeout("no response within 20 s")


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("count", [1, 5])
async def test_a_passing_failure_ends_no_wait(name: str, count: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 40.0).id for n in range(count)]
        calls = 0

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            nonlocal calls
            calls += 1
            return await FAULTS[name]() if calls % 3 else None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert_nothing_left(client)


@pytest.mark.parametrize("count", [1, 5])
async def test_an_outage_is_not_amplified(count: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 400.0).id for n in range(count)]

        async def intercept(request: httpx.Request) -> httpx.Response:
            return refusal(503, "INTERNAL_ERROR")

        service.intercept = intercept
        errors = await wait_for_all(client, *ids, timeout=300)
        assert {type(error) for error in errors} == {WaitTimeoutError}
        assert {error.generation for error in errors} == {None}
        assert anyio.current_time() == pytest.approx(300, abs=OVERTIME)
        assert len(service.log) < 35


async def test_one_track_that_cannot_be_read_does_not_hide_the_others() -> None:
    async with scripted_service() as (service, client):
        service.add("poison", 0.0, is_listed=False)
        ids = [service.add(f"h{n}", 30.0, is_listed=False).id for n in range(3)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if request.url.path.endswith("/poison"):
                return refusal(500, "INTERNAL_ERROR")
            return None

        service.intercept = intercept
        poison, *states = await wait_for_all(client, "poison", *ids, timeout=90)
        assert isinstance(poison, WaitTimeoutError)
        assert {state.status for state in states} == {"completed"}


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)]
)
async def test_an_invalid_key_ends_all_waits_at_once(
    status: int, kind: type[Exception]
) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 500.0).id for n in range(5)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            revoked = anyio.current_time() > 10
            return refusal(status, "INVALID_API_KEY") if revoked else None

        service.intercept = intercept
        errors = await wait_for_all(client, *ids)
        assert {type(error) for error in errors} == {kind}
        assert (
            len({id(error) for error in errors}) == 5
        )  # a copy each, since tracebacks grow
        assert anyio.current_time() < 13
        assert_nothing_left(client)


async def test_an_unknown_id_is_not_found() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 20.0)
        nothing, state = await wait_for_all(client, "nothing", "a")
        assert isinstance(nothing, NotFoundError)
        assert state.status == "completed"
        assert_nothing_left(client)


async def test_a_404_right_after_the_create_ends_nothing() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            lags = anyio.current_time() < 8
            return refusal(404, "NOT_FOUND") if lags else None

        service.intercept = intercept
        assert (await client.wait_for_completion(accepted)).status == "completed"


async def test_a_404_right_after_a_create_of_another_process_ends_nothing() -> None:
    service = Emulator(latency=(0.1, 0.1), generation_time=(20, 20))
    async with emulated(service) as (emulator, client):
        accepted = await client.generations.create("x")
        emulator.add_key(KEY, emulator.account)
        elsewhere = client.with_options(api_key=KEY)  # it shares only the pool
        emulator.add_fault(Fault("status", status=404, code="NOT_FOUND", times=3))
        done = await elsewhere.wait_for_completion(accepted)
        assert done.status == "completed"


async def test_a_404_of_the_track_and_of_every_list_ends_no_wait_early() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            return refusal(404, "NOT_FOUND")

        service.intercept = intercept
        with pytest.raises(WaitTimeoutError, match="no such track"):
            await client.wait_for_completion(accepted)
        assert anyio.current_time() == pytest.approx(300, abs=2)


async def test_a_track_that_is_deleted_meanwhile_is_not_found() -> None:
    async with scripted_service() as (service, client):
        accepted = await client.generations.create("x")

        async def delete() -> None:
            await anyio.sleep(5)
            service.tracks.clear()

        async with anyio.create_task_group() as group:
            group.start_soon(delete)
            with pytest.raises(NotFoundError):
                await client.wait_for_completion(accepted)
        assert 35 < anyio.current_time() < 40


async def test_an_id_that_is_refused_ends_its_own_wait() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(3)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            bad = request.url.path.endswith("/bad")
            return refusal(400, "VALIDATION_ERROR") if bad else None

        service.intercept = intercept
        bad, *states = await wait_for_all(client, "bad", *ids)
        assert isinstance(bad, BadRequestError)
        assert {state.status for state in states} == {"completed"}
        assert len(service.singles) < 4  # the list was not abandoned for it


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_refused_list_is_replaced_by_gets(status: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 20.0).id for n in range(4)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            is_page = "limit" in request.url.params
            return refusal(status, "INTERNAL_ERROR") if is_page else None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}
        assert len(service.pages) <= 3


async def test_an_invalid_row_does_not_hide_the_others() -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 30.0).id for n in range(4)]

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if "limit" in request.url.params:
                return reply({"generations": [{"id": None}, 7], "hasMore": False})
            return None

        service.intercept = intercept
        states = await wait_for_all(client, *ids)
        assert {state.status for state in states} == {"completed"}


async def test_closing_a_client_ends_only_its_own_waits() -> None:
    async with scripted_service() as (service, first):
        service.add("a", 30.0)
        async with scripted_service() as (other, second):
            other.tracks = service.tracks
            states: list[Any] = []

            async def wait(client: AsyncClient) -> None:
                states.extend(await wait_for_all(client, "a"))

            async with anyio.create_task_group() as group:
                group.start_soon(wait, first)
                await anyio.sleep(0.01)
                group.start_soon(wait, second)
                await anyio.sleep(1)
                first._pool.is_closed = True  # as if in the middle of `aclose`
        assert isinstance(states[0], ClientClosedError)
        assert states[1].status == "completed"
