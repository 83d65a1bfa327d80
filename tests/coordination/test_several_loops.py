"""Event loops of one process that wait for the same permits, step by step."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from finetuning_async import RateLimit, RateLimits
from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination._process_limiter import (
    PATIENCE,
    RECHECK,
    ProcessLimiter,
    ProcessWaitQueue,
)
from finetuning_async._pacing._dealer import RANKS
from finetuning_async._pacing._limiter import with_terms
from finetuning_async._pacing._queue_protocols import QueueGate, Terms

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from finetuning_async._coordination._process_memory import AccountKey
    from finetuning_async._pacing._limiter import Permit

LIMIT = 24
ROOM = ResponseFacts(status=202, limit=LIMIT, remaining=LIMIT)
numbers = count()


def limiter_of(key: AccountKey, limit: int = LIMIT) -> ProcessLimiter:
    limits = RateLimits(creates=RateLimit(limit))
    return ProcessLimiter(limits, rng=random.Random(1), key=key)


class Loop:
    """An event loop that runs only while a test lets it."""

    def __init__(self, key: AccountKey, sent: list[str], limit: int = LIMIT) -> None:
        self.loop = asyncio.new_event_loop()
        self.limiter = limiter_of(key, limit)
        self.sent = sent
        self.tasks: list[asyncio.Task[None]] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def start(
        self,
        name: str,
        *,
        count: int = 1,
        share: str | None = None,
        first: bool = False,
        gate: QueueGate | None = None,
    ) -> None:
        """Let creates wait; their name is their priority, if it is one."""
        terms = Terms(RANKS.get(name, RANKS["normal"]), share, gate)
        for _ in range(count):
            work = self._create(name, terms, first)
            self.tasks.append(self.loop.create_task(work))
        self.go_on()

    async def _create(self, name: str, terms: Terms, first: bool) -> None:
        limiter = with_terms(self.limiter, terms)
        permit = await limiter.acquire("creates", first=first)
        self.sent.append(name)
        permit.answered(ROOM)

    def go_on(self) -> None:
        """Run until nothing more happens without another loop."""
        self.run(_steps(8))

    def take_all(self) -> list[Permit]:
        """Take all permits, once a response has shown how many there are."""
        return self.run(self._take_all())  # type: ignore[no-any-return]  # of `run`

    async def take_one(self) -> None:
        (await self.limiter.acquire("creates")).answered(ROOM)

    def waiting(self) -> int:
        async def work() -> int:
            return self.limiter.status().creates.waiting

        return self.run(work())  # type: ignore[no-any-return]  # of `run`

    def looks_again_in(self) -> float:
        """Let its first request look; return in how many seconds it does so again."""

        async def work() -> float:
            queue, _ = self.limiter._all_queues()
            assert isinstance(queue, ProcessWaitQueue)
            head, now = queue.head(), anyio.current_time()
            assert head is not None
            reservation, at = queue._take_if_first(head, now)
            assert reservation is None
            return at - now

        return self.run(work())  # type: ignore[no-any-return]  # of `run`

    async def _take_all(self) -> list[Permit]:
        await self.take_one()
        return [await self.limiter.acquire("creates") for _ in range(LIMIT - 1)]

    def answer(self, permit: Permit) -> None:
        async def work() -> None:
            permit.answered(ResponseFacts(status=202))

        self.run(work())

    def return_all(self, permits: list[Permit]) -> None:
        async def work() -> None:
            for permit in permits:
                permit.unsent()

        self.run(work())

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.go_on()
        self.loop.close()


async def _steps(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
def loops(request: pytest.FixtureRequest) -> Iterator[tuple[Loop, Loop]]:
    """Two event loops of one account."""
    limit = getattr(request, "param", LIMIT)
    key = (f"https://{next(numbers)}.loops.example", "hash", False)
    sent: list[str] = []
    pair = Loop(key, sent, limit), Loop(key, sent, limit)
    yield pair
    for each in pair:
        each.close()


def alternate(loops: tuple[Loop, Loop]) -> None:
    """Run both until nothing happens any more."""
    before = -1
    while before < len(loops[0].sent):
        before = len(loops[0].sent)
        for loop in loops:
            loop.go_on()


def test_priorities_hold_over_all_loops(loops: tuple[Loop, Loop]) -> None:
    one, other = loops
    permits = one.take_all()
    other.start("high", count=12)
    other.start("normal", count=2)
    one.start("low", count=2)
    assert not one.sent
    one.return_all(permits)
    alternate(loops)
    expected = ["high"] * 8 + ["normal", "low"] + ["high"] * 4 + ["normal", "low"]
    assert one.sent == expected


def test_shares_take_turns_over_all_loops(loops: tuple[Loop, Loop]) -> None:
    one, other = loops
    permits = one.take_all()
    one.start("a", count=3, share="a")
    other.start("b", count=2, share="b")
    one.return_all(permits)
    alternate(loops)
    assert one.sent == ["a", "b", "a", "b", "a"]


def test_a_repetition_goes_before_its_own_share_in_whichever_loop_it_waits(
    loops: tuple[Loop, Loop],
) -> None:
    one, other = loops
    permits = one.take_all()
    one.start("a", count=2, share="a")
    other.start("a again", share="a", first=True)
    one.return_all(permits)
    alternate(loops)
    assert one.sent == ["a again", "a", "a"]


@pytest.mark.parametrize(
    ("share", "first", "goes"), [("a", True, 1), ("b", True, 0), ("a", False, 0)]
)
def test_only_a_repetition_goes_before_its_own_share_in_another_loop(
    loops: tuple[Loop, Loop], share: str, first: bool, goes: int
) -> None:
    one, other = loops
    permits = one.take_all()
    one.start("waits", share="a")
    other.return_all(permits)  # they are free, and the first loop has not looked yet
    other.start("newcomer", share=share, first=first)
    assert other.sent == ["newcomer"] * goes


def test_low_creates_are_spaced_over_all_loops(loops: tuple[Loop, Loop]) -> None:
    one, _ = loops
    permits = one.take_all()
    for loop in loops:
        loop.start("low", count=LIMIT // 2 + 1)
    one.return_all(permits)
    alternate(loops)
    assert one.sent == ["low"]


@pytest.mark.parametrize("loops", [1], indirect=True)
def test_only_beside_other_loops_a_request_looks_whether_one_has_ended(
    loops: tuple[Loop, Loop],
) -> None:
    one, other = loops
    permit = one.run(one.limiter.acquire("creates"))
    one.start("first")
    assert one.looks_again_in() == inf, "its own loop would read the responses"
    other.start("second")
    assert one.looks_again_in() == pytest.approx(RECHECK, abs=0.1)
    assert other.looks_again_in() == pytest.approx(RECHECK + PATIENCE, abs=0.1)
    one.answer(permit)
    assert one.looks_again_in() > 50, "nothing else can let it go before"
    assert other.looks_again_in() == pytest.approx(RECHECK + PATIENCE, abs=0.1)


def test_a_free_token_waits_a_while_for_a_loop_that_is_late(
    loops: tuple[Loop, Loop],
) -> None:
    one, other = loops
    permits = one.take_all()
    one.start("late")
    other.start("second")
    other.return_all(permits)
    for _ in range(2):  # however often it looks
        assert other.looks_again_in() == pytest.approx(PATIENCE, abs=0.1)
    alternate(loops)
    assert one.sent == ["late", "second"]


class OpensAt:
    """The service's queue, which takes one more at a time of the loop's clock."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.waited = 0.0

    def opens_at(self) -> float:
        return self.at

    def take(self) -> None:
        pass

    async def wait(self, until: float) -> None:
        assert until >= self.at - 0.01, "it would look again all the time"
        await anyio.sleep_until(until)

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


class Full(OpensAt):
    """The service's queue while nothing in it ends."""

    def __init__(self) -> None:
        super().__init__(inf)
        self.woken = anyio.Event()

    async def wait(self, until: float) -> None:
        self.woken = anyio.Event()
        with anyio.CancelScope(deadline=until):
            await self.woken.wait()

    def wake(self) -> None:
        self.woken.set()


def test_the_services_queue_opens_by_the_clock_of_its_loop() -> None:
    async def main() -> float:  # trio's clock begins somewhere
        limiter = limiter_of(("https://gate.example", str(next(numbers)), False))
        (await limiter.acquire("creates")).answered(ROOM)
        begun = anyio.current_time()
        terms = Terms(gate=OpensAt(begun + 0.02))
        with anyio.fail_after(5):
            await with_terms(limiter, terms).acquire("creates")
        return anyio.current_time() - begun

    assert 0.02 <= trio.run(main) < 1


def test_a_loop_whose_tracks_fill_the_queue_lets_another_go(
    loops: tuple[Loop, Loop],
) -> None:
    one, other = loops
    permits = one.take_all()
    one.start("parked", gate=Full())
    other.start("other")
    one.return_all(permits)
    alternate(loops)
    assert one.sent == ["other"]


def test_a_create_that_waits_for_the_queue_alone_is_shown_to_all(
    loops: tuple[Loop, Loop],
) -> None:
    one, other = loops
    one.run(one.take_one())
    one.start("parked", gate=Full())
    assert one.waiting() == other.waiting() == 1


def test_each_loop_knows_how_many_wait_in_all(loops: tuple[Loop, Loop]) -> None:
    one, other = loops
    permits = one.take_all()
    one.start("a", count=3)
    other.start("b", count=2)
    assert one.waiting() == other.waiting() == 5
    one.return_all(permits)
    alternate(loops)
    assert one.waiting() == other.waiting() == 0


def test_what_a_loop_is_told_is_in_the_time_of_its_clock() -> None:
    async def main() -> tuple[float, float]:  # trio's clock begins somewhere
        limiter = limiter_of(("https://clock.example", str(next(numbers)), False))
        permit = await limiter.acquire("creates")
        facts = ResponseFacts(status=202, limit=1, remaining=0)
        permit.answered(facts)
        earliest = limiter.earliest("creates") - anyio.current_time()
        refused = ResponseFacts(status=429, code="RATE_LIMITED", retry_after=30.0)
        (await limiter.acquire("reads")).answered(refused)
        return earliest, limiter.gate_opens("reads") - anyio.current_time()

    earliest, gate = trio.run(main)
    assert earliest == pytest.approx(60.05, abs=0.5)
    assert gate == pytest.approx(30.2, abs=0.5)
