"""What an account sends in one event loop counts in all others of the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import operator
import os
import random
import threading
import time
import weakref
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import trio

from finetuning_async import (
    AsyncClient,
    LocalRateLimiter,
    RateLimit,
    RateLimitError,
    RateLimits,
)
from finetuning_async._api._messages import ResponseFacts
from finetuning_async._coordination import _process_memory
from finetuning_async._coordination._process_limiter import ProcessLimiter
from finetuning_async._coordination._process_memory import LOCK, ProcessBudget
from finetuning_async._pacing._rate_budget import RateBudget
from finetuning_async._runtime._loop_handle import LoopHandle
from finetuning_async._runtime._machine_clock import machine_now
from finetuning_async.testing import jumping_backend
from tests.runtime.test_machine_clock import SetForward, StartsNow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._coordination._process_memory import AccountKey
    from finetuning_async._pacing._limiter import Permit

KEY = "ft_live_" + "0" * 32
LIMITS = RateLimits(creates=RateLimit(3), reads=RateLimit(60))
REFUSED = ResponseFacts(status=429, code="GENERATION_RATE_LIMITED", retry_after=3000)
numbers = count()


@pytest.fixture
def key() -> AccountKey:
    """An account that no other test uses."""
    return (f"https://{next(numbers)}.example", "hash", False)


def limiter_of(key: AccountKey, limits: RateLimits | None = LIMITS) -> ProcessLimiter:
    return ProcessLimiter(limits, rng=random.Random(1), key=key)


def served(limiter: ProcessLimiter, times: int = 1) -> None:
    for _ in range(times):
        permit = limiter.try_acquire("creates")
        assert permit is not None
        permit.answered(ResponseFacts(status=200, limit=3, remaining=3))


def left(key: AccountKey, limits: RateLimits | None = LIMITS) -> int | None:
    """Return how many creates another loop could send now."""
    return asyncio.run(_left(key, limits))


async def _left(key: AccountKey, limits: RateLimits | None = LIMITS) -> int | None:
    return limiter_of(key, limits).status().creates.available


def use(key: AccountKey, times: int = 1, limits: RateLimits = LIMITS) -> None:
    async def main() -> None:
        served(limiter_of(key, limits), times)

    asyncio.run(main())


def test_a_later_loop_counts_what_an_earlier_one_sent(key: AccountKey) -> None:
    use(key, 2)
    assert left(key) == 1
    use(key)
    assert left(key) == 0
    assert trio.run(_left, key) == 0


def test_a_loop_that_begins_at_the_same_reading_of_the_clock_counts_it_too(
    key: AccountKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = machine_now()  # a clock may stand still for 15 ms
    monkeypatch.setattr(_process_memory, "machine_now", lambda: now)
    use(key, 2)
    assert left(key) == 1


def test_a_gate_closed_in_one_loop_holds_in_the_others(key: AccountKey) -> None:
    async def refused() -> None:
        permit = limiter_of(key).try_acquire("creates")
        assert permit is not None
        permit.answered(REFUSED)

    async def opens_in() -> float:
        limiter = limiter_of(key)
        with pytest.raises(RateLimitError):
            await limiter.acquire("creates", max_pause=60)
        return limiter.gate_opens("creates") - anyio.current_time()

    trio.run(refused)
    assert asyncio.run(opens_in()) == pytest.approx(3000, abs=1)
    assert trio.run(opens_in) == pytest.approx(3000, abs=1)


def test_all_loops_know_the_budget_that_a_response_told(
    key: AccountKey,
) -> None:
    async def learn() -> None:
        permit = limiter_of(key).try_acquire("instrumental")
        assert permit is not None
        permit.answered(ResponseFacts(status=200, limit=3, remaining=2))

    async def taken() -> int | None:
        limiter = limiter_of(key)
        limiter.try_acquire("instrumental")
        return limiter.status().reads.available

    asyncio.run(learn())
    assert asyncio.run(taken()) == 60  # it takes from the creates alone


def test_accounts_and_clients_without_pacing_are_separate(key: AccountKey) -> None:
    use(key, 3)
    assert left((key[0], "another hash", False)) == 3
    assert left(("http://elsewhere.example", key[1], False)) == 3
    assert left((key[0], key[1], True), None) is None


def test_of_two_limits_the_first_holds_and_the_other_is_logged(
    key: AccountKey, caplog: pytest.LogCaptureFixture
) -> None:
    use(key)
    assert left(key) == 2
    assert not caplog.records
    more = RateLimits(creates=RateLimit(50))
    assert left(key, more) == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is ignored: another client" in caplog.text


# Clocks that are not the machine's.


def jumping(main: Callable[[], Awaitable[Any]], backend: Any) -> Any:
    name, options = jumping_backend(backend)
    return anyio.run(main, backend=name, backend_options=options)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_with_a_test_clock_inherits_and_leaves_nothing(
    key: AccountKey, backend: str
) -> None:
    async def main() -> int | None:
        limiter = limiter_of(key)
        before = limiter.status().creates.available
        for _ in range(7):
            (await limiter.acquire("creates")).answered(ResponseFacts(status=200))
        permit = await limiter.acquire("creates")
        permit.answered(REFUSED)
        return before

    use(key)
    assert jumping(main, backend) == 3
    assert left(key) == 2


def sent_within_a_minute(times: list[float]) -> int:
    return max(sum(t - 60 <= each <= t for each in times) for t in times)


@pytest.mark.parametrize("used", [0, 1])
def test_a_loop_whose_clock_jumps_later_continues_alone_and_leaves_nothing(
    key: AccountKey, used: int
) -> None:
    times: list[float] = []

    async def main() -> None:
        limiter = limiter_of(key)
        for _ in range(10):
            permit = await limiter.acquire("creates")
            times.append(anyio.current_time())
            permit.answered(ResponseFacts(status=200))
        (await limiter.acquire("creates")).answered(REFUSED)
        await anyio.sleep(1)
        assert limiter.gate_opens("creates") > anyio.current_time() + 2900

    use(key, used)
    with asyncio.Runner(loop_factory=StartsNow) as runner:
        runner.run(main())
    assert sent_within_a_minute(times) == 3
    assert left(key) == 3 - used


def test_a_loop_whose_clock_jumped_unnoticed_leaves_nothing(key: AccountKey) -> None:
    async def main() -> None:
        limiter = limiter_of(key)
        served(limiter, 2)
        permit = limiter.try_acquire("creates")
        assert permit is not None
        permit.answered(REFUSED)
        await anyio.sleep(3600)

    with asyncio.Runner(loop_factory=StartsNow) as runner:
        runner.run(main())
    assert left(key) == 3


def test_a_loop_whose_clock_jumped_before_it_had_a_limiter_is_alone(
    key: AccountKey,
) -> None:
    async def main() -> int | None:
        LoopHandle.current()
        await anyio.sleep(3600)
        return limiter_of(key).status().creates.available

    use(key)
    with asyncio.Runner(loop_factory=StartsNow) as runner:
        assert runner.run(main()) == 3


def test_a_loop_that_jumps_beside_a_real_one_takes_back_what_is_in_flight(
    key: AccountKey,
) -> None:
    async def main() -> None:
        limiter = limiter_of(key)
        served(limiter)
        permit = limiter.try_acquire("creates")
        assert permit is not None
        await anyio.to_thread.run_sync(use, key)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SetForward)
        loop.skipped += 100
        assert limiter.status().creates.available == 3  # its own from now on
        permit.answered(REFUSED)  # from an earlier time; it closes no gate

    with asyncio.Runner(loop_factory=SetForward) as runner:
        runner.run(main())
    assert left(key) == 1


def test_a_client_with_the_callers_http_client_inherits_nothing() -> None:
    async def left_of(**options: Any) -> int | None:
        url = "https://service.example"
        async with AsyncClient(KEY, base_url=url, rate_limits=LIMITS, **options) as c:
            permit = c._session().account.limiter.try_acquire("creates")
            assert permit is not None
            permit.answered(ResponseFacts(status=200, limit=3, remaining=3))
            return c.rate_limit_status().creates.available

    async def with_a_client() -> int | None:
        async with httpx.AsyncClient() as http:
            return await left_of(http_client=http)

    assert asyncio.run(left_of()) == 2
    assert asyncio.run(left_of()) == 1
    assert asyncio.run(with_a_client()) == 2
    assert asyncio.run(left_of(rate_limiter=LocalRateLimiter(LIMITS))) == 2
    assert asyncio.run(left_of()) == 0


# Loops that end or stop running.


def test_requests_in_flight_of_an_ended_loop_are_abandoned_and_count(
    key: AccountKey,
) -> None:
    async def main() -> None:
        assert limiter_of(key).try_acquire("creates") is not None

    async def then() -> tuple[float, int | None]:
        status = limiter_of(key).status().creates
        return status.next_free_in, status.available

    asyncio.run(main())
    free_in, available = asyncio.run(then())
    assert free_in == 0  # no probe is in flight any more
    assert available == 2


def test_a_request_that_was_abandoned_is_waited_for_in_no_loop(
    key: AccountKey,
) -> None:
    async def main() -> None:
        permit = limiter_of(key).try_acquire("creates")
        assert permit is not None
        permit.abandoned()
        status = limiter_of(key).status().creates
        assert (status.next_free_in, status.available) == (0, 2)

    asyncio.run(main())


def test_a_request_that_waits_for_an_ended_loop_continues(
    key: AccountKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process_memory, "LINGER", 0.2)
    one = RateLimits(creates=RateLimit(1, per=0.3))
    waits = threading.Event()
    done: list[float] = []

    async def ends() -> None:
        assert limiter_of(key, one).try_acquire("creates") is not None
        thread.start()
        await anyio.to_thread.run_sync(waits.wait)

    async def other() -> None:
        limiter = limiter_of(key, one)
        begun = anyio.current_time()
        asyncio.get_running_loop().call_later(0.05, waits.set)
        with anyio.fail_after(5):
            (await limiter.acquire("creates")).unsent()
        done.append(anyio.current_time() - begun)

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    asyncio.run(ends())
    thread.join()
    assert 0.5 < done[0] < 3


def test_a_loop_that_stopped_running_is_passed_over(key: AccountKey) -> None:
    one = RateLimits(creates=RateLimit(1, per=0.3))
    loop = asyncio.new_event_loop()

    async def wait_for_permit() -> asyncio.Task[Permit]:
        limiter = limiter_of(key, one)
        permit = limiter.try_acquire("creates")
        assert permit is not None
        permit.answered(ResponseFacts(status=200))
        task = loop.create_task(limiter.acquire("creates"))
        await asyncio.sleep(0.01)
        return task

    async def other() -> None:
        limiter = limiter_of(key, one)
        await anyio.sleep(0.4)
        assert limiter.status().creates.next_free_in == 0
        assert limiter.try_acquire("creates") is None  # another request is ahead
        with anyio.fail_after(3):
            (await limiter.acquire("creates")).unsent()

    async def let_it_end(task: asyncio.Task[Permit]) -> None:
        with anyio.fail_after(3):
            (await task).unsent()

    task = loop.run_until_complete(wait_for_permit())
    asyncio.run(other())
    loop.run_until_complete(let_it_end(task))
    loop.close()


def test_a_loop_that_counted_as_ended_and_goes_on_counts_again(
    key: AccountKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begin() -> ProcessLimiter:
        limiter = limiter_of(key)
        served(limiter)
        return limiter

    async def go_on(limiter: ProcessLimiter) -> None:
        assert limiter.try_acquire("creates") is None
        assert limiter.status().creates.available == 0

    with asyncio.Runner() as runner:
        limiter = runner.run(begin())
        later = partial(operator.add, 1000)
        monkeypatch.setattr(
            _process_memory, "machine_now", lambda: later(machine_now())
        )
        left(("https://other.example", "", False))
        assert key not in _process_memory._accounts
        use(key, 3)
        runner.run(go_on(limiter))


def test_a_loop_that_ended_beside_a_jumping_clock_stays_abandoned(
    key: AccountKey,
) -> None:
    one = RateLimits(creates=RateLimit(1))

    async def take() -> None:
        assert limiter_of(key, one).try_acquire("creates") is not None

    async def main() -> None:
        limiter = limiter_of(key, one)
        limiter.status()
        ends.close()
        await anyio.to_thread.run_sync(left, ("https://other.example", "", False))
        await anyio.sleep(100)
        limiter.status()

    async def then() -> float:
        return limiter_of(key, one).status().creates.next_free_in

    ends = asyncio.new_event_loop()
    ends.run_until_complete(take())
    with asyncio.Runner(loop_factory=StartsNow) as runner:
        runner.run(main())
    assert 50 < asyncio.run(then()) < 70


def test_a_busy_loop_is_waited_for_once(key: AccountKey) -> None:
    one = RateLimits(creates=RateLimit(1, per=0.1))
    is_waiting, may_continue = threading.Event(), threading.Event()

    async def waits(limiter: ProcessLimiter) -> None:
        (await limiter.acquire("creates")).unsent()

    async def busy() -> None:
        limiter = limiter_of(key, one)
        permit = limiter.try_acquire("creates")
        assert permit is not None
        permit.answered(ResponseFacts(status=200))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waits, limiter)
            await anyio.wait_all_tasks_blocked()
            is_waiting.set()
            may_continue.wait(5)  # it blocks the loop

    async def other() -> float:
        limiter, begun = limiter_of(key, one), anyio.current_time()
        for _ in range(5):
            (await limiter.acquire("creates")).answered(ResponseFacts(status=200))
        return anyio.current_time() - begun

    thread = threading.Thread(target=lambda: anyio.run(busy))
    thread.start()
    is_waiting.wait(5)
    took = asyncio.run(other())
    may_continue.set()
    thread.join(5)
    assert not thread.is_alive()
    assert 0.6 < took < 1.2  # five periods and a quarter of a second


def test_first_come_first_served_holds_over_all_loops(key: AccountKey) -> None:
    one = RateLimits(creates=RateLimit(1, per=0.05))
    order: list[int] = []

    async def main(number: int, came: threading.Event) -> None:
        LoopHandle.current().call_soon(came.set)
        permit = await limiter_of(key, one).acquire("creates")
        order.append(number)
        permit.answered(ResponseFacts(status=200))

    async def holds() -> None:
        permit = limiter_of(key, one).try_acquire("creates")
        assert permit is not None
        for number in range(6):
            came = threading.Event()
            backend = ("asyncio", "trio")[number % 2]
            work = partial(anyio.run, main, number, came, backend=backend)
            threads.append(threading.Thread(target=work))
            threads[-1].start()
            await anyio.to_thread.run_sync(came.wait)
        permit.answered(ResponseFacts(status=200))

    threads: list[threading.Thread] = []
    asyncio.run(holds())
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_429_in_one_loop_ends_waits_in_another_that_will_not_wait_that_long(
    key: AccountKey, backend: str
) -> None:
    came = threading.Event()
    raised: list[BaseException] = []

    async def waits(limiter: ProcessLimiter, max_pause: float) -> None:
        try:
            with anyio.fail_after(0.5):
                await limiter.acquire("creates", max_pause=max_pause)
        except (RateLimitError, TimeoutError) as error:
            raised.append(error)

    async def other() -> None:
        limiter = limiter_of(key)
        async with anyio.create_task_group() as tasks:
            for max_pause in [5000.0] * 16 + [100.0]:  # not woken with the head
                tasks.start_soon(waits, limiter, max_pause)
            await anyio.wait_all_tasks_blocked()
            came.set()

    async def main() -> None:
        limiter = limiter_of(key)
        permits = [limiter.try_acquire("creates")]
        assert permits[0] is not None
        thread.start()
        await anyio.to_thread.run_sync(came.wait)
        permits[0].answered(REFUSED)

    thread = threading.Thread(target=lambda: anyio.run(other, backend=backend))
    asyncio.run(main())
    thread.join()
    kinds = [type(error) for error in raised]
    assert kinds == [RateLimitError] + [TimeoutError] * 16


# Memory.


def test_loops_and_accounts_leave_nothing_behind(key: AccountKey) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    quick = RateLimits(creates=RateLimit(3, per=0.01), reads=RateLimit(3, per=0.01))

    async def main(number: int) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        async with AsyncClient(KEY, base_url=key[0]) as client:
            client.rate_limit_status()
        limiter_of((str(number), "", False), quick).try_acquire("creates")

    linger, _process_memory.LINGER = _process_memory.LINGER, 0.0  # type: ignore[misc]
    try:
        for number in range(200):
            asyncio.run(main(number))
        time.sleep(0.3)  # even on a fast machine, what those sent no longer counts
        for number in range(200, 220):
            asyncio.run(main(number))
    finally:
        _process_memory.LINGER = linger  # type: ignore[misc]
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 30
    assert len(_process_memory._accounts) <= 30
    assert all(
        len(account.loops) <= 1 for account in _process_memory._accounts.values()
    )


def test_an_account_is_kept_as_long_as_it_is_needed(
    key: AccountKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(key)
    past = machine_now()
    monkeypatch.setattr(_process_memory, "machine_now", lambda: past + 110)
    assert left(key) == 3
    assert _process_memory._accounts[key].used_at > past
    monkeypatch.setattr(_process_memory, "machine_now", lambda: past + 400)
    left(("http://other.example", "", False))
    assert key not in _process_memory._accounts


@pytest.mark.parametrize("budget", ["creates", "reads"])
def test_an_account_is_kept_for_the_longer_of_two_periods(
    key: AccountKey, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    longer: dict[str, Any] = {budget: RateLimit(3, per=600)}
    use(key, limits=RateLimits(**longer))
    past = machine_now()
    for later, is_kept in [(1200, True), (1300, False)]:
        now = past + later
        monkeypatch.setattr(_process_memory, "machine_now", lambda now=now: now)
        left(("http://other.example", "", False))
        assert (key in _process_memory._accounts) == is_kept


# Forks.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_what_was_sent_and_has_no_waiters(
    key: AccountKey,
) -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with LOCK:
                pass

    async def main() -> int:
        limiter = limiter_of(key)
        served(limiter)
        permits = [limiter.try_acquire("creates") for _ in range(2)]
        child = os.fork()
        if child == 0:
            os._exit(in_child(key))
        for permit in permits:
            assert permit is not None
            permit.unsent()
        return child

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        status = os.waitpid(asyncio.run(main()), 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        thread.join()
    assert left(key) == 2


def in_child(key: AccountKey) -> int:
    """Return 0 if a child that was forked inside a loop counts correctly."""
    found: list[Any] = []

    async def look() -> None:
        status = limiter_of(key).status().creates
        found.append((status.available, status.waiting, status.next_free_in))

    def main() -> None:
        asyncio.run(look())
        _process_memory.machine_now = partial(_in_200_s, machine_now)  # type: ignore[attr-defined]
        asyncio.run(look())

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    thread.join(5)
    (available, waiting, free_in), later = found
    is_right = available == 0 and waiting == 0 and 50 < free_in < 70
    return 0 if is_right and later == (3, 0, 0) else 1


def _in_200_s(clock: Callable[[], float]) -> float:
    return clock() + 200


def test_turns_are_forgotten_of_the_priorities_of_which_nothing_waits() -> None:
    budget = ProcessBudget(RateBudget(RateLimit(3), random.Random(1)))
    high, _, low = range(3)
    for rank in (high, low):
        budget.dealer.on_dealt(rank, "a", [rank])
    waiting: Any = SimpleNamespace(waiting=SimpleNamespace(ranks=(low,)))
    budget.queues.append(waiting)
    budget.forget_turns()
    assert budget.dealer.turn_of(high, "a") == 0
    assert budget.dealer.turn_of(low, "a") == 1
