"""A create that waits is refused as soon as it is known that it would wait too long."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async import CapacityError, RateLimits
from finetuning_async.emulator import Emulator, Fault
from tests._emulated_client import emulated, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from finetuning_async import AsyncClient

CREATES = "/v1/generations"


@attrs.define(eq=False)
class Waiting:
    """Creates of one client that may wait only so long, and what became of them."""

    emulator: Emulator
    client: AsyncClient
    tasks: TaskGroup
    refused: dict[str, tuple[float, CapacityError]] = attrs.Factory(dict)

    async def start(self, *names: str, **options: Any) -> None:
        for name in names:
            self.tasks.start_soon(partial(self._create, name, **options))
            await anyio.sleep(0.01)

    async def _create(self, name: str, **options: Any) -> None:
        began = anyio.current_time()
        try:
            await self.client.generations.create(name, **options)
        except CapacityError as error:
            self.refused[name] = anyio.current_time() - began, error

    def sent(self) -> set[str]:
        return {track.prompt for track in self.emulator.tracks.values()}


@asynccontextmanager
async def waiting(
    service: Emulator | None = None, used: int = 10, **options: Any
) -> AsyncGenerator[Waiting]:
    """A client of which the first creates have used permits."""
    service = service or short(queue_size=1000)
    async with emulated(service, **options) as (emulator, client):
        for _ in range(used):
            await client.generations.create("before")
        async with anyio.create_task_group() as tasks:
            yield Waiting(emulator, client, tasks)
            tasks.cancel_scope.cancel()


async def test_one_that_is_overtaken_is_refused_at_once() -> None:
    async with waiting() as at:
        # Of ten permits one goes to those of lower priority: to this one.
        await at.start("before mine")
        await at.start("mine", max_wait=70)
        await anyio.sleep(20)
        assert not at.refused
        await at.start(*(f"first {n}" for n in range(30)), priority="high")
        await anyio.sleep(0.1)
        waited, error = at.refused["mine"]
        assert waited == pytest.approx(20, abs=0.5)
        assert "it waited 20" in str(error)
        assert "expected to go out in 100.2 s" in str(error)
        assert "nothing was sent" in str(error)
        assert error.safe_to_retry
        await anyio.sleep(error.retry_after or 0)
        await at.start("again", max_wait=70)
        await anyio.sleep(70)
        assert "again" in at.sent()


async def test_each_that_is_refused_lets_those_behind_it_stay() -> None:
    async with waiting() as at:
        await at.start(*(f"mine {n}" for n in range(10)), max_wait=65)
        await at.start("first", priority="high")
        await anyio.sleep(0.1)
        assert set(at.refused) == {"mine 9"}
        await at.start("later", max_wait=180)
        await at.start(*(f"first {n}" for n in range(7)), priority="high")
        await anyio.sleep(0.1)
        # Of ten permits at least one goes to lower ones, here to the first of them.
        assert len(at.refused) == 8
        assert "later" not in at.refused
        await anyio.sleep(130)
        assert {"mine 0", "mine 1", "later"} <= at.sent()


async def test_a_429_that_stops_all_refuses_those_that_will_not_wait_so_long() -> None:
    async with waiting(used=9) as at:
        at.emulator.add_fault(
            Fault("status", CREATES, status=429, code="RATE_LIMITED", retry_after=120)
        )
        await at.start("refused by the service")
        await at.start("mine", max_wait=80)
        await at.start("patient", max_wait=300)
        await anyio.sleep(1)
        assert set(at.refused) == {"mine"}
        _, error = at.refused["mine"]
        assert error.retry_after == pytest.approx(40, abs=3)


async def test_many_that_are_refused_in_one_moment_let_those_behind_them_stay() -> None:
    async with waiting() as at:
        await at.start(*(f"mine {n}" for n in range(20)), max_wait=150)
        await at.start("patient", max_wait=200)
        at.emulator.add_fault(
            Fault(
                "status",
                CREATES,
                method="POST",
                status=429,
                code="RATE_LIMITED",
                retry_after=120,
            )
        )
        await anyio.sleep(100)
        # The first was sent after a minute, and met the 429.
        assert set(at.refused) == {f"mine {n}" for n in range(20)}
        await anyio.sleep(85)
        assert "patient" in at.sent()


async def test_only_its_waits_count_however_long_the_client_has_been_open() -> None:
    async with waiting(used=0) as at:
        await anyio.sleep(1000)
        at.emulator.add_fault(
            Fault(
                "status",
                CREATES,
                status=429,
                code="RATE_LIMITED",
                retry_after=10,
                times=2,
            )
        )
        await at.start("mine", max_wait=30)
        await anyio.sleep(25)
        assert not at.refused
        assert at.sent() == {"mine"}


async def test_waits_of_one_create_count_together() -> None:
    async with waiting(used=0) as at:
        fault: dict[str, Any] = {"status": 429, "code": "RATE_LIMITED"}
        at.emulator.add_fault(
            Fault("status", CREATES, times=2, retry_after=20, **fault)
        )
        await at.start("mine", max_wait=30)
        await anyio.sleep(60)
        waited, _ = at.refused["mine"]
        assert waited == pytest.approx(20, abs=1)
        assert not at.sent()


async def test_a_full_queue_refuses_those_that_will_not_wait_for_a_track() -> None:
    service = Emulator(queue_size=3, generation_time=(100, 100))
    async with waiting(service, used=0) as at:
        await at.start(*(f"first {n}" for n in range(3)))
        await anyio.sleep(1)
        # Nothing is known of the queue yet, so it is let in.
        await at.start("mine", max_wait=10)
        await anyio.sleep(1)
        waited, error = at.refused["mine"]
        assert waited < 1
        assert "nothing was accepted" in str(error)


async def test_tracks_that_take_longer_than_expected_count() -> None:
    service = Emulator(queue_size=2, generation_time=(20, 20))
    limits = RateLimits(queue=2)
    async with waiting(service, used=0, rate_limits=limits) as at:
        for _ in range(4):
            await at.client.generate("before")
        at.emulator.add_fault(Fault("stick", CREATES, times=None))
        await at.start("long", "long too")
        await anyio.sleep(1)
        await at.start("mine", "mine too", max_wait=60)
        await anyio.sleep(30)
        assert not at.refused
        await anyio.sleep(31)
        assert set(at.refused) == {"mine", "mine too"}
        assert all(waited <= 60.1 for waited, _ in at.refused.values())


async def test_when_the_first_leaves_another_goes_on_looking() -> None:
    async with waiting() as at:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as own:
                create = partial(at.client.generations.create, "gone", max_wait=90)
                own.start_soon(create)
                await anyio.sleep(0.1)
                await at.start("before mine")
                await at.start("mine", max_wait=70)
                scope.cancel()
        await anyio.sleep(1)
        await at.start(*(f"first {n}" for n in range(30)), priority="high")
        await anyio.sleep(0.1)
        assert set(at.refused) == {"mine"}
        await anyio.sleep(300)
        assert at.client.rate_limit_status().creates.available == 10


@pytest.mark.parametrize("priority", ["normal", "low"])
@pytest.mark.parametrize("listens", [False, True])
async def test_one_that_need_not_wait_may_have_no_patience(
    priority: Any, listens: bool
) -> None:
    on_event = (lambda _: None) if listens else None
    async with emulated(on_event=on_event) as (emulator, client):
        await client.generations.create("now", max_wait=0, priority=priority)
        assert len(emulator.tracks) == 1


async def test_those_that_share_a_client_with_views_are_looked_at_together() -> None:
    async with waiting() as at:
        view = at.client.with_options(share="visitor", max_wait=70)
        errors: list[CapacityError] = []

        async def visit() -> None:
            try:
                await view.generate("mine")
            except CapacityError as error:
                errors.append(error)

        await at.start("before mine")
        for _ in range(3):
            at.tasks.start_soon(visit)
        await anyio.sleep(1)
        await at.start(*(f"first {n}" for n in range(30)), priority="high")
        await anyio.sleep(0.1)
        assert len(errors) == 3
