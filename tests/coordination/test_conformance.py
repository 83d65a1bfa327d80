"""One suite for all stores of permits; a new store is added to `conftest.STORES`.

Time is the jumping loop's: each store uses it as its clock. A limiter stands for a
process; to kill one is to stop using it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio
import attrs
import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._errors import RateLimitError
from finetuning_async._pacing._limits import RateLimit, RateLimits
from tests.coordination._store_setups import TIMEOUT

if TYPE_CHECKING:
    from finetuning_async._pacing._protocols import RateLimiter
    from tests.coordination._store_setups import Processes, Shop

pytestmark = pytest.mark.sampled(3)

OK = ResponseFacts(status=200)
QUEUE_FULL = ResponseFacts(status=429, code="QUEUE_FULL")
PER = 60.0
LEASE = 60.05
"""Seconds from a response until its token is back: a period and its margin."""

SOON = 2.5
"""Seconds within which a process notices what another one did."""


@attrs.define(eq=False)
class Service:
    """The service, with a count of its own.

    Attributes:
        limit: Requests in any `PER` seconds.
        headers: Whether its responses have rate-limit headers.
        false_remaining: What it claims is left, at random; the truth if empty.
        counted: When each request was counted.
        refused: Requests above the limit.
    """

    limit: int = 4
    headers: bool = True
    false_remaining: list[int] = attrs.Factory(list)
    counted: list[float] = attrs.Factory(list)
    refused: int = 0

    def respond(self, rng: random.Random) -> ResponseFacts:
        """Count a request and respond."""
        now = anyio.current_time()
        used = self.in_window(now)
        if used >= self.limit:
            self.refused += 1
            code = "GENERATION_RATE_LIMITED"
            return ResponseFacts(status=429, code=code, retry_after=PER)
        self.counted.append(now)
        left = (
            rng.choice(self.false_remaining)
            if self.false_remaining
            else self.limit - used - 1
        )
        if not self.headers:
            return OK
        return ResponseFacts(status=200, limit=self.limit, remaining=left)

    def in_window(self, now: float) -> int:
        return sum(now - PER < at <= now for at in self.counted)

    def worst_window(self) -> int:
        return max(map(self.in_window, self.counted), default=0)


async def request(
    limiter: RateLimiter, service: Service, rng: random.Random, longest: float = 1.0
) -> None:
    """Send one create, and retry it until it is served."""
    refused = False
    while True:
        permit = await limiter.acquire("creates", first=refused)
        await anyio.sleep(rng.uniform(0, longest))
        facts = service.respond(rng)
        await anyio.sleep(rng.uniform(0, longest))
        permit.answered(facts)
        await limiter.flush()
        refused = facts.status == 429
        if not refused:
            return


async def use_up(limiter: RateLimiter, count: int, route: str = "creates") -> None:
    """Send `count` requests, one after another; responses say what is left."""
    for number in range(count):
        left = max(3 - number, 0)
        facts = ResponseFacts(status=200, limit=4, remaining=left)
        (await limiter.acquire(route)).answered(facts if route == "creates" else OK)
    await limiter.flush()


async def served(limiter: RateLimiter, facts: ResponseFacts) -> None:
    """Send one create that takes 0.1 s."""
    permit = await limiter.acquire("creates")
    await anyio.sleep(0.1)
    permit.answered(facts)
    await limiter.flush()


async def acquired_after(limiter: RateLimiter, route: str = "creates") -> float:
    """Return how long a permit takes; it is returned unsent."""
    started = anyio.current_time()
    permit = await limiter.acquire(route)
    permit.unsent()
    await limiter.flush()
    return anyio.current_time() - started


@pytest.mark.parametrize("headers", [True, False])
async def test_no_window_ever_holds_more_than_the_limit(
    shop: Shop, headers: bool
) -> None:
    rng, service = random.Random(2), Service(headers=headers)
    limiters = [shop.process() for _ in range(3)]
    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(request, limiters[number % 3], service, rng)
    assert len(service.counted) == 12
    assert (service.refused, service.worst_window()) == (0, 4)
    assert anyio.current_time() - started < 2 * LEASE + 30


async def test_permits_are_granted_first_come_first_served(shop: Shop) -> None:
    limiters = [shop.process() for _ in range(3)]
    log: list[int] = []

    async def one(number: int) -> None:
        permit = await limiters[number % 3].acquire("creates")
        log.append(number)
        await anyio.sleep(1)
        permit.answered(OK)
        await limiters[number % 3].flush()

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(one, number)
            await anyio.sleep(3)
    assert log == sorted(log)


async def test_a_retry_goes_before_new_requests(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    await use_up(first, 4)
    log: list[str] = []

    async def one(limiter: RateLimiter, name: str, again: bool) -> None:
        permit = await limiter.acquire("creates", first=again)
        log.append(name)
        permit.answered(OK)
        await limiter.flush()

    async with anyio.create_task_group() as group:
        group.start_soon(one, first, "new", False)
        await anyio.sleep(5)
        group.start_soon(one, second, "again", True)
    assert log == ["again", "new"]


async def test_a_request_cancelled_while_it_waits_loses_no_token(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    await use_up(first, 4)
    with anyio.move_on_after(30):
        await first.acquire("creates")
    for _ in range(4):
        assert await acquired_after(second) < 31 + SOON


async def test_a_request_cancelled_as_it_is_granted_loses_no_token(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    for early in (-1e-6, 0.0, 0.01):
        await use_up(first, 4)
        with anyio.move_on_after(LEASE + early):
            (await first.acquire("creates")).unsent()
        await first.flush()
        assert await acquired_after(second) < SOON
        await anyio.sleep(LEASE)
        permits = [await second.acquire("creates")]
        permits[0].answered(OK)
        for _ in range(3):
            with anyio.fail_after(10):
                permits.append(await second.acquire("creates"))
                permits[-1].answered(OK)
        await anyio.sleep(LEASE)


async def test_an_unsent_token_is_free_at_once_for_another_process(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    await use_up(first, 3)
    permit = await first.acquire("creates")
    waited: list[float] = []

    async def wait() -> None:
        waited.append(await acquired_after(second))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(5)
        permit.unsent()
        await first.flush()
    assert 5 <= waited[0] <= 5 + SOON


async def test_an_abandoned_token_comes_back_later(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    await use_up(first, 3)
    permit = await first.acquire("creates")
    permit.abandoned()
    await first.flush()
    await anyio.sleep(LEASE)
    await use_up(second, 3)
    assert 5 - SOON <= await acquired_after(second) <= 5 + SOON


async def test_a_429_closes_the_gate_for_all_processes(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    waited: list[float] = []

    async def wait() -> None:
        waited.append(await acquired_after(second))

    await use_up(first, 3)
    refused = await first.acquire("creates")
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        code = "GENERATION_RATE_LIMITED"
        refused.answered(ResponseFacts(status=429, code=code, retry_after=90))
        await first.flush()
        await anyio.sleep(SOON)
        assert second.gate_opens("creates") > anyio.current_time() + 80
        with pytest.raises(RateLimitError, match="longer than the 30 s") as caught:
            await second.acquire("creates", max_pause=30)
        assert caught.value.code == code
        assert await acquired_after(second, "reads") < SOON
    assert 90 <= waited[0] <= 92 + SOON


async def test_a_huge_retry_after_and_a_limit_of_zero_are_bounded(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    await served(first, ResponseFacts(status=200, limit=0))
    assert await acquired_after(second) < 5
    code = "GENERATION_RATE_LIMITED"
    await served(first, ResponseFacts(status=429, code=code, retry_after=1e12))
    with pytest.raises(RateLimitError) as caught:
        await second.acquire("creates", max_pause=30)
    assert caught.value.retry_after == pytest.approx(3600, abs=1)


async def test_wrong_headers_cause_neither_a_hang_nor_a_burst(shop: Shop) -> None:
    rng, service = random.Random(5), Service(false_remaining=[0, 1, 3, 4, 9, 10**12])
    limiters = [shop.process() for _ in range(2)]
    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(request, limiters[number % 2], service, rng)
    assert service.refused == 0
    assert anyio.current_time() < 10 * LEASE


async def test_a_lower_limit_of_the_service_holds_for_all_processes(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    low = ResponseFacts(status=200, limit=2, remaining=1)
    await served(first, low)
    await served(second, attrs.evolve(low, remaining=0))
    assert await acquired_after(first) > LEASE - 1
    assert first.status().creates.limit == 2


async def test_all_processes_leave_another_client_what_it_used(shop: Shop) -> None:
    first, second = shop.process(), shop.process()
    facts = ResponseFacts(status=200, limit=4, remaining=0)
    await served(first, facts)
    assert await acquired_after(second) > LEASE - 1


async def test_an_endpoint_of_unknown_budget_takes_from_both_budgets(
    shop: Shop,
) -> None:
    first, second = shop.process(), shop.process()
    permits = [await first.acquire("health") for _ in range(3)]
    for permit in permits:
        permit.answered(OK)
    await first.flush()
    await use_up(second, 1)
    assert await acquired_after(second) > LEASE - 10


async def test_a_429_of_a_budget_that_a_request_took_nothing_from_closes_its_gate(
    shop: Shop,
) -> None:
    first, second = shop.process(), shop.process()
    (await first.acquire("reads")).answered(
        ResponseFacts(status=429, code="GENERATION_RATE_LIMITED", retry_after=20)
    )
    await first.flush()
    assert 20 - SOON <= await acquired_after(second) <= 20 + SOON


async def test_without_limits_only_gates_hold(shop: Shop) -> None:
    first, second = shop.process(limits=None), shop.process(limits=None)
    await use_up(first, 50)
    await use_up(second, 50)
    (await first.acquire("reads")).answered(
        ResponseFacts(status=429, code="RATE_LIMITED", retry_after=20)
    )
    await first.flush()
    assert 20 - SOON <= await acquired_after(second, "reads") <= 20 + SOON


async def test_tokens_of_a_dead_process_come_back(processes: Processes) -> None:
    dead, alive = processes.process(), processes.process()
    await served(dead, ResponseFacts(status=200, limit=4, remaining=3))
    permits = [await dead.acquire("creates") for _ in range(3)]
    assert len(permits) == 3
    died = anyio.current_time()
    async with anyio.create_task_group() as group:
        taken: list[float] = []

        async def take() -> None:
            permit = await alive.acquire("creates")
            taken.append(anyio.current_time() - died)
            permit.answered(OK)
            await alive.flush()

        for _ in range(3):
            group.start_soon(take)
    assert LEASE - 1 <= taken[0] <= LEASE + SOON
    assert min(taken[1:]) >= TIMEOUT + PER - 1
    assert max(taken[1:]) <= TIMEOUT + LEASE + SOON


async def test_a_process_that_died_while_waiting_delays_no_other(
    processes: Processes,
) -> None:
    dead, alive = processes.process(), processes.process()
    await use_up(alive, 4)
    async with anyio.create_task_group() as group:
        group.start_soon(dead.acquire, "creates")
        await anyio.sleep(10)
        assert dead._store_client is not None
        dead._store_client._leave = lambda waiter: None  # type: ignore[method-assign]  # killed: it reports nothing more
        group.cancel_scope.cancel()
    assert await acquired_after(alive) <= LEASE - 10 + 2 * SOON


async def test_the_capacity_of_the_service_queue_is_shared(
    processes: Processes,
) -> None:
    limits = RateLimits(creates=RateLimit(40), reads=RateLimit(60))
    tracks = [0, 0]
    first = processes.process(limits, under_way=lambda: tracks[0])
    second = processes.process(limits, under_way=lambda: tracks[1])
    for _ in range(3):
        permit = await first.acquire("creates")
        tracks[0] += 1
        permit.answered(ResponseFacts(status=201, limit=40, remaining=30))
        await first.flush()
    (await first.acquire("creates")).answered(QUEUE_FULL)
    await first.flush()
    with anyio.move_on_after(60) as scope:
        (await second.acquire("creates")).unsent()
    assert scope.cancelled_caught, "the queue is full of another process's tracks"
    tracks[0] -= 1
    await use_up(first, 1, "reads")
    assert await acquired_after(second) < SOON


async def test_creates_refused_together_by_a_full_queue_count_as_one_refusal(
    processes: Processes,
) -> None:
    """As in one process: the first retry comes after 5 s, with no track of ours."""
    first, second = processes.process(), processes.process()
    permits = [await limiter.acquire("creates") for limiter in (first, second, first)]
    await anyio.sleep(0.5)
    for permit in permits:
        permit.answered(QUEUE_FULL)
    await first.flush()
    await second.flush()
    assert 5 - SOON < await acquired_after(second) < 5 + SOON


async def test_tracks_of_a_dead_process_stop_filling_the_queue(
    processes: Processes,
) -> None:
    dead = processes.process(under_way=lambda: 1)
    alive = processes.process()
    (await dead.acquire("creates")).answered(QUEUE_FULL)
    await dead.flush()
    assert await acquired_after(alive) < 130


async def test_all_processes_get_equal_shares(processes: Processes) -> None:
    rng, service = random.Random(9), Service()
    limiters = [processes.process() for _ in range(2)]
    served = [0, 0]

    async def keep_creating(number: int) -> None:
        while True:
            await request(limiters[number], service, rng, longest=0.2)
            served[number] += 1

    with anyio.move_on_after(4 * LEASE):
        async with anyio.create_task_group() as group:
            for number in range(2):
                for _ in range(4):
                    group.start_soon(keep_creating, number)
    assert min(served) >= 0.8 * max(served)
    assert sum(served) >= 0.95 * 4 * 4
