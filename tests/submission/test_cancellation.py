"""A create that is cancelled: at every step, at every stage, in every way.

It never sends two POSTs that count, and loses no id, no permit and no queue slot.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from finetuning_async import AsyncClient, Generation
from finetuning_async._http._concurrency import Slots
from finetuning_async.emulator import Emulator, Fault
from tests._cancellations import (
    CANCELLERS,
    STEP_CANCELLERS,
    Canceller,
    StepCanceller,
    cancel_at_step,
    run_loop,
)
from tests._emulated_client import Cookieless, emulated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

CREATE = "/v1/generations"
LATENCY = 0.25
"""Seconds each way: a create is sent at once and gets its response after twice this."""


class Log(logging.Handler):
    """What the package logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


@attrs.define(eq=False)
class Stage:
    """An emulator, a client of it, and its log."""

    emulator: Emulator
    client: AsyncClient
    log: Log
    reported: list[Generation] = attrs.field(factory=list)
    returned: list[Generation] = attrs.field(factory=list)
    posts_before: int = 0
    tracks_before: int = 0

    async def create(self, **options: Any) -> None:
        async def on_submitted(track: Generation) -> None:
            self.reported.append(track)
            await anyio.sleep(0.2)

        options.setdefault("tags", "a song")
        track = await self.client.generations.create(
            on_submitted=on_submitted, **options
        )
        self.returned.append(track)

    def emulators_own(self) -> set[asyncio.Task[Any]]:
        """The tasks that belong to the service."""
        return {t for t in asyncio.all_tasks() if "_handle" in t.get_name()}

    def begin(self) -> None:
        """Begin: what happened up to now was preparation."""
        self.posts_before = self._posts()
        self.tracks_before = len(self.emulator.tracks)

    def _posts(self) -> int:
        return sum(
            r.method == "POST" and r.path == CREATE and r.status != 429
            for r in self.emulator.requests
        )

    async def check(self) -> None:
        """Check: one POST at most, its track reported, and nothing lost."""
        await anyio.sleep(1)  # let what is on the wire arrive
        posts = self._posts() - self.posts_before
        created = list(self.emulator.tracks)[self.tracks_before :]
        assert posts <= 1
        assert len(created) <= 1
        assert len(self.emulator.ledger) == len(self.emulator.tracks)
        for track_id in created:
            assert self.named(track_id), self.log.text
        if "but its track was found" in self.log.text:
            assert self.reported, "found, but not reported to the caller"
        self.check_register()
        await self.check_the_rest()

    def named(self, track_id: str) -> bool:
        """Whether the id was reported and logged, or at least the doubt was."""
        ids = [track.id for track in self.reported + self.returned]
        if track_id in ids:
            return f"accepted music {track_id}" in self.log.text
        return "it may have been charged" in self.log.text

    def check_register(self) -> None:
        account = self.client._session().account
        assert account.inflight._capacity.pending == 0
        assert not account.inflight._waiting
        assert not account.inflight._seeds_in_flight
        assert not account.create_lock._waiting
        status = self.client.rate_limit_status()
        assert status.creates.waiting == status.reads.waiting == 0

    async def check_the_rest(self) -> None:
        """Check that all permits are back after a minute, and that a create works."""
        self.emulator.clear_faults()
        await anyio.sleep(200)
        free = self.client.rate_limit_status()
        assert free.creates.available == self.emulator.creates_per_minute
        with anyio.fail_after(130):
            again = await self.client.generations.create("after")
        assert again.id in self.emulator.tracks


@asynccontextmanager
async def stage(**settings: Any) -> AsyncGenerator[Stage]:
    log = Log()
    logger = logging.getLogger("finetuning_async")
    logger.addHandler(log)
    level = logger.level
    logger.setLevel(logging.INFO)
    settings.setdefault("latency", (LATENCY, LATENCY))
    try:
        async with (
            Emulator(generation_time=(30, 60), **settings) as emulator,
            Cookieless(transport=emulator.transport()) as http,
            AsyncClient(
                emulator.api_key,
                base_url=emulator.base_url,
                http_client=http,
                rate_limits=emulator.rate_limits,
            ) as client,
        ):
            yield Stage(emulator, client, log)
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)


async def nothing(_: Stage) -> None:
    """A create that does not have to wait."""


async def a_full_queue(at: Stage) -> None:
    """Waiting for a queue slot after QUEUE_FULL."""
    for number in range(2):
        await at.client.generations.create(f"before {number}")
    with anyio.move_on_after(2):
        await at.client.generations.create("one too many")


async def no_permit_left(at: Stage) -> None:
    """Waiting for a permit."""
    for number in range(2):
        await at.client.generations.create(f"before {number}")


async def a_lost_response(at: Stage) -> None:
    """Created, charged, and the response lost: looked up."""
    await at.client.me()
    at.emulator.add_fault(
        Fault("lost_after_commit", CREATE, method="POST", commit=False)
    )
    at.emulator.add_fault(Fault("slow_answer", CREATE, method="GET", seconds=1))


async def a_slow_response(at: Stage) -> None:
    """Created at once, the response comes after 3 s."""
    at.emulator.add_fault(Fault("slow_answer", CREATE, method="POST", seconds=3))


async def an_endless_response(at: Stage) -> None:
    """Created at once, the response comes long after the grace."""
    at.emulator.add_fault(Fault("slow_answer", CREATE, method="POST", seconds=25))


async def a_hanging_connection(at: Stage) -> None:
    """No byte leaves for 5 s, then the next attempt works."""
    at.emulator.add_fault(Fault("connect_hangs", CREATE, method="POST"))


STAGES: dict[str, tuple[Any, dict[str, Any], tuple[float, ...]]] = {
    "sending": (nothing, {}, (0.1, 0.3, 0.45, 0.55, 0.65)),
    "queue slot": (a_full_queue, {"queue_size": 2}, (0.5, 15.0, 40.0)),
    "permit": (no_permit_left, {"creates_per_minute": 2}, (0.5, 30.0, 65.0)),
    "recovery": (a_lost_response, {}, (0.3, 0.6, 0.9, 1.5, 2.1)),
    "slow response": (a_slow_response, {}, (0.3, 2.0, 3.4)),
    "endless response": (an_endless_response, {}, (0.3, 3.0)),
    "connecting": (a_hanging_connection, {}, (0.2, 3.0, 5.2)),
}
CELLS = [
    pytest.param(name, after, canceller, id=f"{name}-{after}-{canceller}")
    for name, (_, _, moments) in STAGES.items()
    for after in moments
    for canceller in CANCELLERS
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("name", "after", "canceller"), CELLS)
def test_a_create_cancelled_at_any_stage(
    name: str, after: float, canceller: Canceller
) -> None:
    prepare, settings, _ = STAGES[name]

    async def main() -> None:
        async with stage(**settings) as at:
            await prepare(at)
            at.begin()
            started = anyio.current_time()
            cancelled = await canceller.run(at.create, after)
            if cancelled:
                assert anyio.current_time() - started < after + 5.3
            await at.check()

    run_loop(canceller.loop, main)


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_a_create_that_waits_for_a_look_alike_is_cancelled_alone(
    canceller: Canceller,
) -> None:
    async def main() -> None:
        async with stage(creates_per_minute=10) as at:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: at.create(tags="look-alike", seed=7))
                await anyio.sleep(0.1)
                at.begin()
                assert await canceller.run(
                    lambda: at.create(tags="look-alike", seed=7), 0.2
                )
            assert len(at.emulator.tracks) == 1
            assert at.returned[0].id in at.emulator.tracks
            at.check_register()
            await at.check_the_rest()

    run_loop(canceller.loop, main)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("canceller", STEP_CANCELLERS)
@pytest.mark.parametrize("name", ["sending", "recovery", "permit", "queue slot"])
def test_a_create_cancelled_at_every_step(
    name: str, canceller: StepCanceller, pytestconfig: pytest.Config
) -> None:
    """Of the steps, the suite takes few; others in each way to cancel."""
    prepare, settings, _ = STAGES[name]
    stride, while_waiting = (1, 7) if pytestconfig.getoption("--long") else (7, 101)
    step, reached = -STEP_CANCELLERS.index(canceller) % stride, True
    while reached:
        waits = name in ("permit", "queue slot") and step >= 40
        step += while_waiting if waits else stride

        async def main(run_cancelled: Any) -> None:
            async with stage(**settings) as at:
                await prepare(at)
                at.begin()
                outcome = await run_cancelled(at.create)
                assert outcome.cancelled or at.returned
                await at.check()

        reached = cancel_at_step(canceller, step, main)
    assert step >= 8


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_a_cancelled_connection_sends_nothing_later(canceller: Canceller) -> None:
    """The caller is cancelled before the first byte; none is sent once it connects."""

    async def main() -> None:
        async with stage() as at:
            slow = _SlowConnection(at.client._pool.acquire().client)
            at.begin()
            assert await canceller.run(at.create, 1)
            await anyio.sleep(10)
            assert at._posts() == 0
            assert slow.connected == 1
            await at.check()

    run_loop(canceller.loop, main)


class _SlowConnection:
    """Makes an in-process transport take 3 s to connect its first request."""

    def __init__(self, client: Any) -> None:
        self.connected = 0
        transport = client._transport
        connect = transport._connect

        async def slowly(request: httpx.Request) -> None:
            if not self.connected:
                await anyio.sleep(3)
                self.connected += 1
            await connect(request)

        transport._connect = slowly


def test_closing_the_client_lets_a_create_on_the_wire_finish() -> None:
    async def main() -> None:
        async with stage() as at:
            async with anyio.create_task_group() as group:
                group.start_soon(at.create)
                await anyio.sleep(0.1)
                await at.client.aclose()
            assert [t.id for t in at.returned] == list(at.emulator.tracks)

    for loop in ("asyncio", "trio"):
        run_loop(loop, main)


def test_a_callback_may_close_the_client() -> None:
    async def main() -> None:
        async with stage() as at:
            started = anyio.current_time()

            async def close(_: Generation) -> None:
                await at.client.aclose()

            track = await at.client.generations.create("last", on_submitted=close)
            assert anyio.current_time() - started < 1
            assert list(at.emulator.tracks) == [track.id]

    for loop in ("asyncio", "trio"):
        run_loop(loop, main)


@pytest.mark.parametrize("after", [0.05, 0.1, 0.3, 0.45])
def test_all_tasks_of_the_loop_are_cancelled_as_by_asyncio_run(after: float) -> None:
    """The create's own child task is cancelled too; its id is looked up in time."""

    async def main() -> None:
        async with stage() as at:
            await at.client.me()
            at.begin()
            call = asyncio.ensure_future(at.create())
            mine = asyncio.all_tasks() - {call}
            await asyncio.sleep(after)
            for task in asyncio.all_tasks() - mine - at.emulators_own():
                task.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            await at.check()
            assert len(at.reported) == len(at.emulator.tracks) - 1

    run_loop("asyncio", main)


def test_no_task_is_left_afterwards() -> None:
    async def main() -> None:
        async with stage() as at:
            before = asyncio.all_tasks()
            for after in (0.0, 0.1, 0.3, 0.6):
                with anyio.move_on_after(after):
                    await at.create()
                assert asyncio.all_tasks() == before

    run_loop("asyncio", main)


async def test_a_create_that_waits_for_a_request_slot_is_cancelled_at_once() -> None:
    """While it waits for another request to end, no byte of it has left."""
    async with emulated() as (emulator, client):
        await client.generations.create("first")  # its headers allow a burst
        slots = client._session().account.concurrency.creates = Slots(1)
        emulator.add_fault(Fault("delay", method="POST", seconds=60))
        async with anyio.create_task_group() as group:
            group.start_soon(client.generations.create, "hangs")
            await anyio.sleep(1)
            async with anyio.create_task_group() as late:
                late.start_soon(client.generations.create, "late")
                await anyio.sleep(1)
                assert slots._waiting
                cancelled_at = anyio.current_time()
                late.cancel_scope.cancel()
            assert anyio.current_time() - cancelled_at < 0.1
            group.cancel_scope.cancel()
    assert "late" not in {track.prompt for track in emulator.tracks.values()}
