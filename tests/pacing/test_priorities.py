"""Permits by priority, in turn to the shares, evenly where nobody waits for them."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest

from finetuning_async import RateLimits
from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._process_limiter import ProcessLimiter
from finetuning_async._pacing._dealer import RANKS
from finetuning_async._pacing._limiter import Limiter, LimiterWithTerms, with_terms
from finetuning_async._pacing._queue_protocols import Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from finetuning_async._types import Priority

OK = ResponseFacts(status=202)
GAP = 6.0
LEASE = 60.05


def local() -> Limiter:
    return Limiter(RateLimits(), rng=random.Random(1))


def of_the_process() -> Limiter:
    key = ("https://service.example", str(random.random()), False)
    return ProcessLimiter(RateLimits(), rng=random.Random(1), key=key)


@pytest.fixture(params=[local, of_the_process])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    make: Callable[[], Limiter] = request.param
    return make()


class Log:
    """Creates through a limiter, and when each went out."""

    def __init__(self, limiter: Limiter, tasks: TaskGroup) -> None:
        self.limiter = limiter
        self.tasks = tasks
        self.sent: list[tuple[str, float]] = []

    def start(
        self,
        name: str,
        priority: Priority = "normal",
        share: str | None = None,
        *,
        first: bool = False,
        count: int = 1,
    ) -> None:
        for _ in range(count):
            self.tasks.start_soon(self._create, name, priority, share, first)

    async def _create(
        self, name: str, priority: Priority, share: str | None, first: bool
    ) -> None:
        terms = Terms(RANKS[priority], share)
        permit = await with_terms(self.limiter, terms).acquire("creates", first=first)
        self.sent.append((name, anyio.current_time()))
        await anyio.sleep(0.1)
        permit.answered(OK)

    def names(self) -> list[str]:
        return [name for name, _ in self.sent]

    def times(self, name: str) -> list[float]:
        return [at for each, at in self.sent if each == name]


async def test_a_high_create_goes_before_all_that_wait(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("before", count=10)
        await anyio.sleep(1)
        log.start("normal", count=5)
        log.start("low", "low", count=3)
        await anyio.sleep(1)
        log.start("high", "high", count=2)
    assert log.names()[10:] == ["high"] * 2 + ["normal"] * 5 + ["low"] * 3


async def test_of_ten_permits_one_goes_to_each_lower_priority(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        for priority in ("high", "normal", "low"):
            log.start(priority, priority, count=60)
        await anyio.sleep(5 * 61)
        tasks.cancel_scope.cancel()
    for start in range(10, 40, 10):
        ten = Counter(log.names()[start : start + 10])
        assert ten == {"high": 8, "normal": 1, "low": 1}


async def test_shares_have_their_turns_one_after_another(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("before", count=10)
        await anyio.sleep(1)
        log.start("many", share="many", count=12)
        await anyio.sleep(1)
        log.start("few", share="few", count=3)
    assert log.names()[10:16] == ["many", "few"] * 3


async def test_a_repetition_does_not_overtake_another_share(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("before", count=10)
        await anyio.sleep(1)
        for name in ("a", "b", "b"):
            log.start(name, share=name)
            await anyio.sleep(0.1)
        log.start("b again", share="b", first=True)
    assert log.names()[10:] == ["a", "b again", "b", "b"]


async def test_a_low_create_alone_goes_at_once(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("low", "low", count=10)
    # One after another until the service is known to serve them.
    assert max(log.times("low")) < 1


async def test_more_low_creates_than_a_burst_holds_go_evenly(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("low", "low", count=40)
    times = log.times("low")
    gaps = [b - a for a, b in pairwise(times)]
    # All but the last ten, of which no more wait than a burst holds.
    assert min(gaps[:-10]) == pytest.approx(GAP, abs=0.01)
    assert max(gaps) < GAP + 0.3
    in_bursts = 3 * (LEASE + 0.1)
    assert times[-1] < in_bursts + 60


async def test_a_batch_goes_evenly_although_there_is_room_for_a_burst() -> None:
    limiter = local()
    answered = ResponseFacts(status=202, limit=10, remaining=9)
    first = with_terms(limiter, Terms()).try_acquire("creates")
    assert first is not None, "what is no batch takes a free permit at once"
    first.answered(answered)
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("low", "low", count=40)
        await anyio.sleep(5)
        assert len(log.sent) == 1
        tasks.cancel_scope.cancel()


async def test_a_person_waits_seconds_behind_a_batch(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("low", "low", count=200)
        await anyio.sleep(200)
        waits = []
        for number in range(10):
            await anyio.sleep(37.3)
            began = anyio.current_time()
            log.start(f"person {number}", "high")
            await anyio.sleep(7)
            waits.append(log.times(f"person {number}")[0] - began)
        tasks.cancel_scope.cancel()
    assert max(waits) < GAP + 0.3


async def test_what_waits_between_higher_ones_is_not_spaced(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("high", "high", count=30)
        log.start("low", "low", count=30)
        await anyio.sleep(1)
        assert len(log.sent) == 10, "a free permit waits for nobody"
        tasks.cancel_scope.cancel()


async def test_a_cancelled_head_leaves_its_turn_to_the_next(limiter: Limiter) -> None:
    async with anyio.create_task_group() as tasks:
        log = Log(limiter, tasks)
        log.start("before", count=10)
        await anyio.sleep(1)
        log.start("normal")
        async with anyio.create_task_group() as others:
            Log(limiter, others).start("high", "high")
            await anyio.sleep(1)
            others.cancel_scope.cancel()
        started = anyio.current_time()
    assert log.names()[-1] == "normal"
    assert log.sent[-1][1] < started + LEASE + 1


class Room:
    """The service's queue, in which a test makes room."""

    def __init__(self) -> None:
        self.places = 0
        self.gates: list[Gate] = []

    def add_place(self) -> None:
        self.places += 1
        for gate in self.gates:
            gate.wake()


class Gate:
    """It, as one create meets it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.waited = 0.0
        self.event = anyio.Event()
        self.is_watched = False
        room.gates.append(self)

    def opens_at(self) -> float:
        return -inf if self.room.places else inf

    def take(self) -> None:
        self.room.places -= 1

    async def wait(self, until: float) -> None:
        self.event = anyio.Event()
        self.is_watched = True
        with anyio.CancelScope(deadline=until):
            await self.event.wait()
        self.is_watched = False

    def wake(self) -> None:
        self.event.set()

    def close(self) -> None:
        pass


async def test_a_create_takes_its_place_only_with_its_permit(limiter: Limiter) -> None:
    room = Room()
    sent: list[str] = []

    async def create(priority: Priority) -> None:
        terms = Terms(RANKS[priority], None, Gate(room))
        permit = await with_terms(limiter, terms).acquire("creates")
        sent.append(priority)
        permit.answered(OK)

    async with anyio.create_task_group() as tasks:
        for priority in ("low", "normal", "high"):
            tasks.start_soon(create, priority)
            await anyio.sleep(1)
        assert not sent
        for count in (1, 2, 3):
            room.add_place()
            await anyio.sleep(0.1)
            assert len(sent) == count
    assert sent == ["high", "normal", "low"]
    assert room.places == 0


async def test_the_first_in_line_watches_the_tracks_and_each_knows_its_place(
    limiter: Limiter,
) -> None:
    room = Room()
    room.places = 3
    async with anyio.create_task_group() as tasks:
        Log(limiter, tasks).start("before", count=10)
        await anyio.sleep(1)
        gates = [Gate(room) for _ in range(3)]
        for gate in gates:
            terms = Terms(gate=gate)
            tasks.start_soon(with_terms(limiter, terms).acquire, "creates")
            await anyio.sleep(0.1)
        line = with_terms(limiter, Terms())
        assert isinstance(line, LimiterWithTerms)
        tasks.start_soon(line.acquire, "creates")  # it has no queue to watch
        await anyio.sleep(0.1)
        assert line.places() == {gate: place for place, gate in enumerate(gates)}
        # It waits for a permit, and tracks end meanwhile whose callers look away.
        assert [gate.is_watched for gate in gates] == [True, False, False]
        tasks.cancel_scope.cancel()


async def test_the_time_for_which_only_the_queue_was_full_is_known(
    limiter: Limiter,
) -> None:
    room = Room()
    gate = Gate(room)
    await anyio.sleep(3)
    async with anyio.create_task_group() as tasks:
        line = with_terms(limiter, Terms(gate=gate))
        tasks.start_soon(line.acquire, "creates")
        await anyio.sleep(5)
        room.add_place()
    assert gate.waited == pytest.approx(5, abs=0.01)
    assert room.places == 0
