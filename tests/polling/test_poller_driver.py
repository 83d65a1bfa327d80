"""The driver of the poll loop: another is promoted however and whenever it leaves."""

from __future__ import annotations

import asyncio
import random
from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest
import sniffio

from finetuning_async import WaitTimeoutError
from finetuning_async._polling._waiters import Watcher
from tests._scripted_service import assert_nothing_left, poller_of, scripted_service

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from finetuning_async import AsyncClient
    from tests._scripted_service import ScriptedService


class Waits:
    """Waits that can be cancelled one by one, natively or by anyio."""

    def __init__(self, client: AsyncClient, *, native: bool) -> None:
        self._client = client
        self._native = native
        self._cancels: dict[int, Callable[[], object]] = {}
        self.ended: dict[int, float] = {}

    async def run(self, number: int, track_id: str) -> None:
        """Wait; a cancellation ends it without an error."""
        if self._native:
            task = asyncio.ensure_future(self._wait(number, track_id))
            self._cancels[number] = task.cancel
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
            return
        with anyio.CancelScope() as scope:
            self._cancels[number] = scope.cancel
            await self._wait(number, track_id)

    async def _wait(self, number: int, track_id: str) -> None:
        await self._client.wait_for_completion(track_id, timeout=None)
        self.ended[number] = anyio.current_time()

    def cancel(self, number: int) -> None:
        """Cancel a wait, unless it has not begun."""
        if number in self._cancels:
            self._cancels[number]()


def skip_native_on_trio(*, native: bool) -> None:
    if native and sniffio.current_async_library() != "asyncio":
        pytest.skip("trio has no cancellation but its scopes")


def tune(service: ScriptedService) -> None:
    """Tracks that need their own reads, so that drivers differ in what they read."""
    for number in range(8):
        service.add(f"t{number}", 60.0 + 10 * number, is_listed=number % 2 == 0)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("seed", "native"), [(seed, seed % 2 == 1) for seed in range(12)]
)
async def test_whichever_waiter_is_cancelled_the_others_are_served(
    seed: int, *, native: bool
) -> None:
    skip_native_on_trio(native=native)
    rng = random.Random(seed)
    async with scripted_service() as (service, client):
        tune(service)
        service.delay = rng.choice([0.0, 0.05, 0.7])
        waits = Waits(client, native=native)
        survivors = set(range(0, 80, 10))
        async with anyio.create_task_group() as group:
            for number in range(80):
                group.start_soon(waits.run, number, f"t{number % 8}")
            for number in rng.sample(range(80), 80):
                await anyio.sleep(rng.choice([0.0, rng.expovariate(2.0)]))
                if number not in survivors:
                    waits.cancel(number)
        for number in survivors:
            end = service.tracks[f"t{number % 8}"].ends_at
            # Four tracks need a read each, after the page: five slots and a round trip.
            assert waits.ended[number] - end < 5 * 1.43 + 3 * service.delay + 0.1
        assert_nothing_left(client)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("native", [False, True], ids=["scope", "task.cancel"])
@pytest.mark.parametrize("cancelled", [(0, 1), (1, 0), (0, 1, 2), (2, 1, 0)], ids=str)
async def test_the_role_is_not_lost_if_the_promoted_waiter_is_cancelled(
    cancelled: tuple[int, ...], *, native: bool
) -> None:
    skip_native_on_trio(native=native)
    async with scripted_service() as (service, client):
        service.add("a", 30.0)
        waits = Waits(client, native=native)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(waits.run, number, "a")
                await anyio.sleep(0.3)
            await anyio.sleep(5)
            for (
                number
            ) in cancelled:  # all in one step: the driver, and the one to be promoted
                waits.cancel(number)
        assert set(waits.ended) == set(range(4)) - set(cancelled)
        assert max(waits.ended.values()) < 32.0


async def test_what_a_driver_that_leaves_has_sent_for_another_still_arrives() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 99.0, is_listed=False)
        service.add("b", 8.0, is_listed=False)
        reads_of_b: list[float] = []

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            if request.url.path.endswith("b") and anyio.current_time() > 8:
                reads_of_b.append(anyio.current_time())
                await anyio.sleep_until(11.6)
            return None

        async def drive() -> None:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_completion("a", timeout=11)

        service.intercept = intercept
        async with anyio.create_task_group() as group:
            group.start_soon(drive)
            await anyio.sleep(0.1)
            group.start_soon(client.wait_for_completion, "b")
        assert anyio.current_time() == pytest.approx(11.65, abs=0.01)
        assert len(reads_of_b) == 1
        assert_nothing_left(client)


async def test_a_track_that_is_not_watched_any_more_is_no_reason_to_read() -> None:
    async with scripted_service() as (_, client):
        poller = poller_of(client)
        watcher = Watcher(client._session().pipeline, "a", None)
        poller.watch(watcher, "music")
        due_at = poller._watch_list.next_look()
        assert poller._next_read_at(due_at) == due_at
        poller.unwatch(watcher)
        assert poller._next_read_at(due_at) == inf


async def test_the_age_of_a_track_is_known_while_it_is_watched() -> None:
    async with scripted_service() as (_, client):
        await anyio.sleep(10)
        created, poller = await client.generations.create("x"), poller_of(client)
        accepted_at = anyio.current_time()
        pipeline = client._session().pipeline
        assert poller.age(created.id) is None
        poller.watch(Watcher(pipeline, created.id, None), "music")
        poller.watch(Watcher(pipeline, "elsewhere", None), "music")
        await anyio.sleep(5)
        age = anyio.current_time() - accepted_at
        assert poller.age(created.id) == pytest.approx(age, abs=0.2)
        assert poller.age("elsewhere") is None
        for watcher in list(poller._watch_list.watchers()):
            poller.unwatch(watcher)


async def cancelled_drivers(count: int, *, native: bool) -> tuple[int, float]:
    """Reads in 25 minutes in which `count` drivers were cancelled in mid-read."""
    # An account of its own, which has not learned yet how long tracks take.
    base_url = f"https://service-{count}.test"
    async with scripted_service(base_url=base_url) as (service, client):
        for number in range(20):
            service.add(f"t{number}", 1500.0)
        waits = Waits(client, native=native)
        numbers = iter(range(20, 20 + count))

        async with anyio.create_task_group() as group:

            async def intercept(request: httpx.Request) -> httpx.Response | None:
                number = next(numbers, None)
                if number is not None:
                    driver = poller_of(client)._driver
                    assert isinstance(driver, Watcher)
                    waits.cancel(running[driver.track_id])
                    running[driver.track_id] = number
                    group.start_soon(waits.run, number, driver.track_id)
                return None

            running = {f"t{number}": number for number in range(20)}
            service.intercept = intercept
            for track_id, number in running.items():
                group.start_soon(waits.run, number, track_id)
        assert next(numbers, None) is None
        assert len(waits.ended) == 20
        assert_nothing_left(client)
        late = max(waits.ended.values()) - service.tracks["t0"].ends_at
        return len(service.log), late


@pytest.mark.long
@pytest.mark.parametrize("native", [False, True], ids=["scope", "task.cancel"])
async def test_hundreds_of_drivers_cancelled_in_mid_read_waste_no_reads(
    *, native: bool
) -> None:
    skip_native_on_trio(native=native)
    without, _ = await cancelled_drivers(0, native=native)
    with_them, late = await cancelled_drivers(400, native=native)
    assert with_them <= 1.1 * without
    assert late < 2.0


@pytest.mark.parametrize("how", ["timeout", "wait_for", "task group"])
async def test_each_cancellation_of_asyncio_promotes_another_driver(how: str) -> None:
    skip_native_on_trio(native=True)
    async with scripted_service() as (service, client):
        service.add("a", 30.0)

        async def give_up() -> None:
            if how == "timeout":
                async with asyncio.timeout(10.03):  # the request is on its way
                    await client.wait_for_completion("a")
            elif how == "wait_for":
                await asyncio.wait_for(client.wait_for_completion("a"), 10.03)
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(client.wait_for_completion("a"))
                    await asyncio.sleep(10.03)
                    raise TimeoutError

        first = asyncio.ensure_future(give_up())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(client.wait_for_completion("a"))
        assert (await second).status == "completed"
        assert anyio.current_time() < 32.0
        with pytest.raises((TimeoutError, BaseExceptionGroup)):
            await first
        assert_nothing_left(client)


async def test_a_read_that_hangs_is_abandoned_soon_after_its_last_waiter_left() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 30.0)

        async def intercept(request: httpx.Request) -> httpx.Response | None:
            await anyio.sleep_forever()
            return None

        service.intercept = intercept
        with anyio.move_on_after(5):
            await client.wait_for_completion("a")
        assert anyio.current_time() == pytest.approx(7.0, abs=0.001)
        assert_nothing_left(client)


async def test_a_wait_for_a_permit_is_cancelled_at_once_and_sends_nothing() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 300.0)
        for _ in range(60):
            await client.generations.get("a")
        began, sent = anyio.current_time(), len(service.log)
        with anyio.move_on_after(5):
            await client.wait_for_completion("a")
        assert anyio.current_time() == pytest.approx(began + 5, abs=0.001)
        assert len(service.log) == sent
        assert_nothing_left(client)


async def test_a_wait_cancelled_before_it_begins_sends_nothing() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 300.0)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.wait_for_completion("a")
        assert service.log == []
        assert client.rate_limit_status().reads.available == 60
        assert_nothing_left(client)


async def test_the_role_is_not_held_while_the_caller_s_code_runs() -> None:
    async with scripted_service() as (service, client):
        service.add("a", 30.0)
        poller = poller_of(client)
        async for state in client.watch("a"):
            assert poller._driver is None, state

        async def on_update(_: object) -> None:
            assert poller._driver is None

        service.add("b", 30.0)
        await client.wait_for_completion("b", on_update=on_update)


@pytest.mark.parametrize("count", [1, 3])
async def test_after_the_last_waiter_no_loop_is_left(count: int) -> None:
    async with scripted_service() as (service, client):
        ids = [service.add(f"t{n}", 500.0).id for n in range(3)]
        with anyio.move_on_after(30):
            async with anyio.create_task_group() as group:
                for track_id in ids[:count]:
                    group.start_soon(client.wait_for_completion, track_id)
        assert_nothing_left(client)
        sent = len(service.log)
        await anyio.sleep(600)
        assert len(service.log) == sent


async def test_a_person_who_waits_no_more_costs_no_reads() -> None:
    reads = []
    for hurries in (False, True):
        async with scripted_service() as (service, client):
            if hurries:
                with poller_of(client).hurry():
                    await anyio.sleep(1)
            service.add("a", 60.0)
            await client.wait_for_completion("a")
            reads.append(len(service.log))
    assert reads[0] == reads[1]
