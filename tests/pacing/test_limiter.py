"""Permits: order, cancellation at every point, gates, routes, event loops."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from math import inf
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._errors import RateLimitError
from finetuning_async._pacing._limiter import (
    Limiter,
    LimiterWithTerms,
    Permit,
    with_terms,
)
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async._pacing._queue_protocols import ANY_REQUEST
from finetuning_async._pacing._wait_queue import check_pause

if TYPE_CHECKING:
    from collections.abc import Callable

OK = ResponseFacts(status=200)
LIMITS = RateLimits(creates=RateLimit(2), reads=RateLimit(3))
LEASE = 60.05
"""Seconds from a response until its token is back: a period and its margin."""


def limiter_of(limits: RateLimits | None = LIMITS) -> Limiter:
    return Limiter(limits, rng=random.Random(7))


def refusal(code: str | None, retry_after: float | None) -> ResponseFacts:
    return ResponseFacts(status=429, code=code, retry_after=retry_after)


async def use_up(limiter: Limiter, route: str = "creates") -> int:
    """Use all permits that are free now; return how many there were."""
    count = 0
    while (permit := limiter.try_acquire(route)) is not None:
        permit.answered(OK)
        count += 1
    return count


def tokens(limiter: Limiter, budget: str) -> int:
    """Number of free tokens, whatever the other rules say."""
    rules = limiter._queues[budget].rate_budget._rules
    assert rules is not None
    return rules.bucket.free(anyio.current_time())


async def use_one(limiter: Limiter, log: list[object], name: object) -> None:
    permit = await limiter.acquire("creates")
    log.append(name)
    permit.answered(OK)


async def test_a_lease_runs_from_the_response_not_from_the_sending() -> None:
    limiter = limiter_of()
    first = await limiter.acquire("creates")
    await anyio.sleep(30)
    assert await use_up(limiter) == 1
    first.answered(OK)
    started = anyio.current_time()
    (await limiter.acquire("creates")).answered(OK)
    assert anyio.current_time() - started == pytest.approx(LEASE)


async def test_permits_are_granted_in_order_of_arrival() -> None:
    limiter = limiter_of()
    log: list[object] = []
    async with anyio.create_task_group() as group:
        for number in range(9):
            group.start_soon(use_one, limiter, log, number)
            await anyio.sleep(0.001)
    assert log == list(range(9))


async def test_a_newcomer_does_not_overtake_a_waiter() -> None:
    limiter = limiter_of()
    await use_up(limiter)
    log: list[object] = []
    async with anyio.create_task_group() as group:
        group.start_soon(use_one, limiter, log, "waits")
        await anyio.sleep(LEASE - 1e-4)
        group.start_soon(use_one, limiter, log, "newcomer")
        await anyio.lowlevel.checkpoint()
        assert limiter.try_acquire("creates") is None
    assert log == ["waits", "newcomer"]


async def test_retries_go_before_newcomers_and_in_order() -> None:
    limiter = limiter_of()
    await use_up(limiter)
    log: list[str] = []

    async def again(name: str, first: bool) -> None:
        (await limiter.acquire("creates", first=first)).answered(OK)
        log.append(name)

    async with anyio.create_task_group() as group:
        for name in ("new 1", "new 2"):
            group.start_soon(again, name, False)
            await anyio.sleep(0.1)
        for name in ("old 1", "old 2"):
            group.start_soon(again, name, True)
            await anyio.sleep(0.1)
    assert log == ["old 1", "old 2", "new 1", "new 2"]


async def test_an_unsent_request_returns_its_permit_at_once() -> None:
    limiter = limiter_of()
    permits = [await limiter.acquire("creates") for _ in range(2)]
    log: list[object] = []
    async with anyio.create_task_group() as group:
        group.start_soon(use_one, limiter, log, "next")
        await anyio.sleep(5)
        assert not log
        permits[0].unsent()
        assert limiter.try_acquire("creates") is None, "it is for the one that waits"
        await anyio.sleep(0.01)
        assert log == ["next"]


async def test_the_lease_of_an_abandoned_request_is_longer() -> None:
    limiter = Limiter(RateLimits(creates=RateLimit(1)), rng=random.Random(1))
    (await limiter.acquire("creates")).abandoned(linger=7)
    started = anyio.current_time()
    await limiter.acquire("creates")
    assert anyio.current_time() - started == pytest.approx(LEASE + 7)


async def test_a_permit_ends_once() -> None:
    limiter = limiter_of()
    permit = await limiter.acquire("creates")
    permit.answered(OK)
    permit.unsent()
    permit.abandoned()
    permit.answered(OK)
    assert await use_up(limiter) == 1
    assert "ended" in repr(permit)


async def test_waiters_cancelled_in_the_queue_block_no_other() -> None:
    limiter = limiter_of()
    await use_up(limiter)
    log: list[object] = []
    scopes = [anyio.CancelScope() for _ in range(4)]

    async def waiter(number: int) -> None:
        with scopes[number]:
            await use_one(limiter, log, number)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(waiter, number)
            await anyio.sleep(0.1)
        scopes[0].cancel()
        scopes[2].cancel()
    assert log == [1, 3]
    assert limiter.status().creates.waiting == 0


@pytest.mark.parametrize("offset", [-1e-3, -1e-6, 0.0, 1e-9, 1e-6, 1e-3])
async def test_a_waiter_cancelled_as_its_token_is_due_loses_no_token(
    offset: float,
) -> None:
    limiter = Limiter(RateLimits(creates=RateLimit(1)), rng=random.Random(1))
    (await limiter.acquire("creates")).answered(OK)
    started = anyio.current_time()
    log: list[object] = []

    async def waiter() -> None:
        with anyio.CancelScope(deadline=started + LEASE + offset):
            await hold(limiter, log)

    async with anyio.create_task_group() as group:
        group.start_soon(waiter)
        await anyio.sleep(1)
        group.start_soon(use_one, limiter, log, "next")
    assert log[-1] == "next"
    assert anyio.current_time() - started < LEASE * (2 if "held" in log else 1) + 0.1


async def hold(limiter: Limiter, log: list[object]) -> None:
    """Use a permit as the pipeline does: it is ended whatever happens."""
    permit = await limiter.acquire("creates")
    try:
        await anyio.lowlevel.checkpoint()
        log.append("held")
    except BaseException:
        permit.unsent()
        raise
    permit.answered(OK)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("moment", [5.0, LEASE - 1e-7, LEASE])
async def test_native_asyncio_cancellation_loses_no_token(
    moment: float, steps: int
) -> None:
    limiter = Limiter(RateLimits(creates=RateLimit(1)), rng=random.Random(1))
    (await limiter.acquire("creates")).answered(OK)
    started = anyio.current_time()
    log: list[object] = []
    first = asyncio.create_task(hold(limiter, log))
    await asyncio.sleep(0)
    second = asyncio.create_task(use_one(limiter, log, "next"))
    await anyio.sleep(moment)
    for _ in range(steps):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled() or "held" in log
    await second
    assert log[-1] == "next"
    assert anyio.current_time() - started < LEASE * (2 if "held" in log else 1) + 0.1


async def test_a_429_blocks_all_tasks_of_its_rate_budget_only() -> None:
    limiter = limiter_of(RateLimits())
    permit = await limiter.acquire("creates")
    permit.answered(refusal("GENERATION_RATE_LIMITED", 17.5))
    started = anyio.current_time()
    assert limiter.try_acquire("reads") is not None
    assert limiter.try_acquire("creates") is None
    times: list[float] = []

    async def waiter() -> None:
        permit = await limiter.acquire("creates")
        times.append(anyio.current_time() - started)
        left = 10 - len(times)
        permit.answered(ResponseFacts(status=200, limit=10, remaining=left))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(waiter)
    assert len(times) == 5
    assert min(times) >= 17.5
    assert max(times) <= 18.1


@pytest.mark.parametrize("code", ["QUEUE_FULL", "DAILY_LIMIT_REACHED"])
async def test_429s_with_other_codes_close_no_gate(code: str) -> None:
    limiter = limiter_of()
    (await limiter.acquire("creates")).answered(refusal(code, 30))
    assert limiter.gate_opens("creates") < anyio.current_time()
    assert limiter.try_acquire("creates") is not None


async def test_a_429_without_a_code_closes_the_gate_of_its_route() -> None:
    limiter = limiter_of()
    (await limiter.acquire("reads")).answered(refusal(None, 30))
    assert limiter.try_acquire("reads") is None
    assert limiter.try_acquire("creates") is not None


async def test_a_create_refused_with_the_code_of_reads_closes_both_gates() -> None:
    limiter = limiter_of()
    (await limiter.acquire("creates")).answered(refusal("RATE_LIMITED", 30))
    assert limiter.try_acquire("creates") is None
    assert limiter.try_acquire("reads") is None


async def test_a_route_of_unknown_budget_waits_for_the_later_gate() -> None:
    limiter = limiter_of()
    creates = await limiter.acquire("creates")
    (await limiter.acquire("reads")).answered(refusal("RATE_LIMITED", 10))
    creates.answered(refusal("GENERATION_RATE_LIMITED", 30))
    now = anyio.current_time()
    assert limiter.gate_opens("creates") - now >= 30
    assert limiter.gate_opens("playlists") - now >= 30
    assert 10 <= limiter.gate_opens("reads") - now < 30


async def test_429s_that_name_no_time_back_off_exponentially() -> None:
    limiter = limiter_of(RateLimits())
    pauses = []
    for _ in range(6):
        permit = await limiter.acquire("reads")
        permit.answered(refusal("RATE_LIMITED", None))
        pauses.append(limiter.gate_opens("reads") - anyio.current_time())
    for pause, expected in zip(pauses, (5, 10, 20, 40, 60, 60), strict=True):
        assert expected <= pause <= expected + 0.5
    permit = await limiter.acquire("reads")
    permit.answered(OK)
    (await limiter.acquire("reads")).answered(refusal("RATE_LIMITED", None))
    assert limiter.gate_opens("reads") - anyio.current_time() <= 5.5


async def test_timer_tolerance_skips_no_rule() -> None:
    limiter = Limiter(RateLimits(creates=RateLimit(1)), rng=random.Random(1))
    started = anyio.current_time()
    (await limiter.acquire("creates")).answered(OK)
    rules = limiter._queues["creates"].rate_budget._rules
    assert rules is not None
    rules.counter.is_on = True
    await anyio.sleep(LEASE - 5e-7)
    assert limiter.try_acquire("creates") is None
    await limiter.acquire("creates")
    assert anyio.current_time() - started > 119


async def test_a_pause_that_is_too_long_fails_a_call_far_back_in_the_queue() -> None:
    limiter = limiter_of()
    permit = await limiter.acquire("creates")
    failed = anyio.Event()

    async def waits_long() -> None:
        await limiter.acquire("creates")

    async def waits_a_while() -> None:
        with pytest.raises(RateLimitError):
            await limiter.acquire("creates", max_pause=300)
        failed.set()

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(waits_long)
        await anyio.sleep(1)
        group.start_soon(waits_a_while)
        await anyio.sleep(1)
        permit.answered(refusal("GENERATION_RATE_LIMITED", 3000.0))
        await anyio.sleep(0.1)
        assert failed.is_set()
        group.cancel_scope.cancel()


def test_a_pause_as_long_as_a_call_may_wait_is_waited_for() -> None:
    check_pause("creates", 10.0, 0.0, 10.0)
    with pytest.raises(RateLimitError, match=r"of 10 s, longer than the 9\.5 s"):
        check_pause("creates", 10.0, 0.0, 9.5)


async def test_a_pause_that_is_too_long_fails_waiting_and_new_calls() -> None:
    limiter = Limiter(RateLimits(), rng=random.Random(1), max_pause=300)
    permits = [await limiter.acquire("creates") for _ in range(10)]
    errors: list[RateLimitError] = []

    async def waiter(max_pause: float | None) -> None:
        try:
            await limiter.acquire("creates", max_pause=max_pause)
        except RateLimitError as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(waiter, None)
        group.start_soon(waiter, inf)
        await anyio.sleep(1)
        permits[0].answered(refusal("GENERATION_RATE_LIMITED", 3000.0))
        await anyio.sleep(0.1)
        assert len(errors) == 1
        assert errors[0].retry_after == pytest.approx(3000, abs=2)
        with pytest.raises(
            RateLimitError, match="asked for a wait of 3000 s, longer than the 300 s"
        ):
            await limiter.acquire("creates")
        group.cancel_scope.cancel()


async def test_an_endpoint_of_unknown_rate_budget_takes_from_both() -> None:
    limiter = limiter_of()
    first = await limiter.acquire("instrumental")
    assert limiter.try_acquire("creates") is None
    assert limiter.try_acquire("reads") is None
    assert (tokens(limiter, "creates"), tokens(limiter, "reads")) == (1, 2)
    first.answered(OK)
    second = await limiter.acquire("instrumental")
    assert (tokens(limiter, "creates"), tokens(limiter, "reads")) == (0, 1)
    second.unsent()
    assert (tokens(limiter, "creates"), tokens(limiter, "reads")) == (1, 2)


@pytest.mark.parametrize(
    ("facts", "budget"),
    [
        (ResponseFacts(status=202, limit=2), "creates"),
        (ResponseFacts(status=202, limit=3), "reads"),
        (refusal("GENERATION_RATE_LIMITED", 1), "creates"),
        (refusal("RATE_LIMITED", 1), "reads"),
        (ResponseFacts(status=429, retry_after=1, limit=3), "reads"),
    ],
)
async def test_a_response_shows_the_rate_budget_of_its_route_for_good(
    facts: ResponseFacts, budget: str
) -> None:
    limiter = limiter_of()
    other = "reads" if budget == "creates" else "creates"
    (await limiter.acquire("instrumental")).answered(facts)
    full = {"creates": 2, "reads": 3}
    assert tokens(limiter, budget) == full[budget] - 1, "that one has counted it"
    assert tokens(limiter, other) == full[other]
    await anyio.sleep(100)
    await limiter.acquire("instrumental")
    assert tokens(limiter, other) == full[other]
    assert tokens(limiter, budget) == min(full[budget], facts.limit or 99) - 1


@pytest.mark.parametrize("facts", [OK, ResponseFacts(status=202, limit=7)])
async def test_a_response_without_evidence_leaves_the_rate_budget_unknown(
    facts: ResponseFacts,
) -> None:
    limiter = limiter_of()
    (await limiter.acquire("health")).answered(facts)
    await anyio.sleep(100)
    await limiter.acquire("health")
    assert (tokens(limiter, "creates"), tokens(limiter, "reads")) == (1, 2)


async def test_a_request_cancelled_between_its_two_rate_budgets_keeps_no_token() -> (
    None
):
    limiter = limiter_of()
    await use_up(limiter, "reads")
    with anyio.move_on_after(5):
        await limiter.acquire("health")
    assert tokens(limiter, "creates") == 2


async def test_without_limits_only_a_429_blocks_requests() -> None:
    limiter = limiter_of(None)
    permits = [await limiter.acquire("creates") for _ in range(500)]
    permits[0].answered(refusal("GENERATION_RATE_LIMITED", 3))
    assert limiter.try_acquire("creates") is None
    started = anyio.current_time()
    await limiter.acquire("creates")
    assert 3 <= anyio.current_time() - started <= 3.5
    assert limiter.status().creates.limit is None


async def test_a_lower_limit_is_adopted_and_a_higher_one_shown() -> None:
    limiter = limiter_of()
    (await limiter.acquire("reads")).answered(ResponseFacts(status=200, limit=500))
    assert limiter.status().reads.service_limit == 500
    assert limiter.status().reads.limit == 3
    (await limiter.acquire("reads")).answered(ResponseFacts(status=200, limit=1))
    assert limiter.status().reads.limit == 1
    assert limiter.try_acquire("reads") is None


async def test_one_that_stops_watching_leaves_the_next_that_has_begun() -> None:
    limiter, changes = limiter_of(), list[float]()

    def note() -> None:
        changes.append(anyio.current_time())

    watched = LimiterWithTerms(limiter, ANY_REQUEST).watched
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(watched(note))
        second.enter_context(watched(note))
        first.close()
        (await limiter.acquire("creates")).answered(OK)
        assert len(changes) == 1
    (await limiter.acquire("creates")).answered(OK)
    assert len(changes) == 1


def test_a_limiter_that_replaces_how_permits_are_had_is_asked_itself() -> None:
    class Counted(Limiter):
        def try_acquire(self, route: str) -> Permit | None:
            return super().try_acquire(route)

    counted = Counted(LIMITS, rng=random.Random(7))
    assert with_terms(counted, ANY_REQUEST) is counted
    assert with_terms(limiter_of(), ANY_REQUEST) != counted


async def test_the_earliest_permit_accounts_for_waiters() -> None:
    limiter = limiter_of()
    started = anyio.current_time()
    assert limiter.earliest("creates") == pytest.approx(started, abs=0.001)
    await use_up(limiter)
    assert limiter.earliest("creates") - started == pytest.approx(LEASE)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(use_one, limiter, [], number)
        await anyio.sleep(0.5)
        assert limiter.earliest("creates") - started == pytest.approx(LEASE + 0.5)
        group.cancel_scope.cancel()


async def test_the_earliest_permit_of_an_unknown_rate_budget_is_the_later_one() -> None:
    limiter = limiter_of()
    await use_up(limiter)
    assert limiter.earliest("reads") < limiter.earliest("creates")
    assert limiter.earliest("instrumental") == limiter.earliest("creates")


@pytest.mark.long
async def test_ten_thousand_waiters_can_all_be_cancelled() -> None:
    limiter = limiter_of()
    await use_up(limiter)
    async with anyio.create_task_group() as group:
        for number in range(10_000):
            group.start_soon(use_one, limiter, [], number)
        await anyio.sleep(1)
        assert limiter.status().creates.waiting == 10_000
        group.cancel_scope.cancel()
    assert limiter.status().creates.waiting == 0
    assert limiter.earliest("creates") < anyio.current_time() + LEASE


def test_each_event_loop_starts_afresh(
    anyio_backend: tuple[str, dict[str, Callable[[], object]]],
) -> None:
    limiter = limiter_of()
    name, options = anyio_backend
    for _ in range(50):
        assert anyio.run(use_up, limiter, backend=name, backend_options=options) == 2


async def test_the_snapshot_shows_what_is_left() -> None:
    limiter = limiter_of()
    permit = await limiter.acquire("reads")
    await anyio.sleep(2)
    permit.answered(ResponseFacts(status=200, limit=3, remaining=2))
    await anyio.sleep(4)
    reads = limiter.status().reads
    assert (reads.limit, reads.per, reads.available) == (3, 60.0, 2)
    assert (reads.waiting, reads.closed_for, reads.next_free_in) == (0, 0.0, 0.0)
    assert (reads.service_limit, reads.service_remaining) == (3, 2)
    assert reads.service_spoke_ago == pytest.approx(4, abs=0.001)
    assert "0 in flight, 1 coming back" in repr(limiter)
