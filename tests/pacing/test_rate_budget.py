"""All rules together, without waiting: full runs against every kind of service."""

from __future__ import annotations

import heapq
import random
from math import floor, inf
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks.limiter.servers import (
    KINDS,
    Server,
    SlidingWindowCounter,
    Verdict,
    whole_seconds,
)
from finetuning_async._api._messages import ResponseFacts
from finetuning_async._pacing._limits import RateLimit
from finetuning_async._pacing._rate_budget import RateBudget

if TYPE_CHECKING:
    from finetuning_async._pacing._reservation import Reservation

PER = 60.0
START = 1000.0


def test_what_was_not_sent_or_will_not_be_read_is_in_flight_no_more() -> None:
    budget = RateBudget(RateLimit(10, per=PER), random.Random(1))
    unsent, abandoned, read = (budget.send(START) for _ in range(3))
    assert read.others_in_flight == 2
    budget.on_unsent(unsent, START)
    assert budget.send(START).others_in_flight == 2
    budget.on_abandoned(abandoned, START, 0.0)
    budget.on_response(read, START + 1, ResponseFacts(status=200))
    assert budget.send(START + 1).others_in_flight == 1


def test_a_budget_has_as_many_tokens_as_its_limit_and_none_without_one() -> None:
    budget = RateBudget(RateLimit(3, per=PER), random.Random(1))
    budget.on_response(budget.send(START), START + 1, ResponseFacts(status=202))
    assert budget.token_times(START + 2) == [START + 2] * 2 + [START + 1 + budget.lease]
    assert RateBudget(None, random.Random(1)).token_times(START) == []


def test_the_tokens_of_what_is_in_flight_are_counted() -> None:
    budget = RateBudget(RateLimit(3, per=PER), random.Random(1))
    unsent, _ = budget.send(START), budget.send(START)
    assert budget.charged(START) == 2
    budget.on_unsent(unsent, START)
    assert budget.charged(START) == 1
    assert RateBudget(None, random.Random(1)).charged(START) == 0


def test_the_requests_of_a_limit_that_go_out_evenly_have_a_gap() -> None:
    assert RateBudget(RateLimit(10, per=PER), random.Random(1)).gap == 6
    assert RateBudget(None, random.Random(1)).gap == 0


def test_the_state_of_a_process_without_limits_begins_the_rules_of_one_with_them() -> (
    None
):
    rng = random.Random(1)
    state = RateBudget(None, rng).to_state()
    budget = RateBudget.from_state(state, RateLimit(3, per=PER), rng)
    assert budget.token_times(START) == [START] * 3
    state = budget.to_state()
    assert RateBudget.from_state(state, None, rng).token_times(START) == []


def test_a_service_that_has_said_nothing_did_not_say_it_long_ago() -> None:
    budget = RateBudget(RateLimit(3, per=PER), random.Random(1))
    assert budget.status(START, 0).service_spoke_ago is None
    facts = ResponseFacts(status=202, remaining=2)
    budget.on_response(budget.send(START), START, facts)
    assert budget.status(START + 4, 0).service_spoke_ago == 4


@attrs.define(eq=False)
class Run:
    """One client that always wants to send, against one server; delays are random.

    Attributes:
        budget: Under test.
        server: How the service counts.
        limit: The limit in its headers; `None` for no headers.
        longest: Longest delay each way, in seconds.
        lies: Values of ``X-RateLimit-Remaining`` instead of the true one.
    """

    budget: RateBudget
    server: Server
    rng: random.Random
    limit: int | None
    longest: float = 3.0
    lies: list[int] | None = None
    spans: list[tuple[float, float]] = attrs.Factory(list)
    refused: list[float] = attrs.Factory(list)
    _events: list[tuple[float, int, Reservation, ResponseFacts | None]] = attrs.Factory(
        list
    )
    _now: float = START

    def until_served(self, count: int) -> float:
        """Run until `count` requests are served; return how long it took."""
        served, number = 0, 0
        while served < count:
            out = len(self._events)
            earliest = self.budget.earliest(self._now)
            if earliest <= self._now and served + out < count:
                number += 1
                reservation = self.budget.send(self._now)
                arrives = self._now + self.rng.uniform(0, self.longest)
                heapq.heappush(self._events, (arrives, number, reservation, None))
                continue
            next_event = self._events[0][0] if self._events else inf
            self._now = min(next_event, earliest if served + out < count else inf)
            assert self._now < inf, "no event is left"
            if self._now == next_event:
                served += self._take(*heapq.heappop(self._events))
        return self._now - START

    def _take(
        self,
        now: float,
        number: int,
        reservation: Reservation,
        facts: ResponseFacts | None,
    ) -> bool:
        if facts is None:
            arrives = now + self.rng.uniform(0, self.longest)
            event = (arrives, number, reservation, self._ask(now))
            heapq.heappush(self._events, event)
            return False
        self.spans.append((reservation.sent_at, now))
        self.budget.on_response(reservation, now, facts)
        if facts.status == 429:
            self.budget.on_refused(now, facts.retry_after, reservation)
        return facts.status != 429

    def _ask(self, now: float) -> ResponseFacts:
        verdict = self.server.receive(now)
        if not verdict.accepted:
            self.refused.append(now)
        remaining = self.rng.choice(self.lies) if self.lies else verdict.remaining
        return ResponseFacts(
            status=202 if verdict.accepted else 429,
            limit=self.limit,
            remaining=None if self.limit is None else remaining,
            retry_after=None if verdict.accepted else whole_seconds(verdict),
        )


def run_of(
    kind: str, seed: int, *, limit: int = 10, headers: bool = True, longest: float = 3.0
) -> Run:
    rng = random.Random(seed)
    return Run(
        RateBudget(RateLimit(limit, per=PER), rng),
        KINDS[kind](limit, PER, rng.uniform(0, PER)),
        rng,
        limit if headers else None,
        longest,
    )


def max_in_any_window(spans: list[tuple[float, float]]) -> int:
    return max(
        sum(first <= end and last >= end - PER for first, last in spans)
        for end, _ in spans
    )


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["fixed", "first", "log", "log+rejects", "bucket"]),
    seed=st.integers(0, 10**6),
    limit=st.integers(1, 12),
    count=st.integers(1, 50),
    headers=st.booleans(),
    longest=st.sampled_from([0.0, 0.4, 3.0, 40.0]),
)
def test_windows_logs_and_buckets_refuse_nothing(
    kind: str, seed: int, limit: int, count: int, headers: bool, longest: float
) -> None:
    run = run_of(kind, seed, limit=limit, headers=headers, longest=longest)
    took = run.until_served(count)
    assert not run.refused
    assert max_in_any_window(run.spans) <= limit
    # Each round takes a period, its margin, and at most a probe and the responses.
    rounds = (count - 1) // limit + 1
    assert (
        took <= rounds * (PER + 0.05 + 6 * longest) + (4 + 6 * (not headers)) * longest
    )


@given(
    kind=st.sampled_from(["counter", "counter, rounded"]),
    seed=st.integers(0, 10**6),
    limit=st.integers(2, 12),
)
def test_a_sliding_counter_is_detected_by_its_headers_or_by_one_refusal(
    kind: str, seed: int, limit: int
) -> None:
    run = run_of(kind, seed, limit=limit)
    run.until_served(5 * limit)
    assert len(run.refused) <= 2


@given(
    kind=st.sampled_from(["counter", "counter, rounded"]),
    seed=st.integers(0, 10**6),
    limit=st.integers(2, 12),
    headers=st.booleans(),
)
def test_once_known_a_sliding_counter_refuses_nothing(
    kind: str, seed: int, limit: int, headers: bool
) -> None:
    run = run_of(kind, seed, limit=limit, headers=headers)
    assert run.budget._rules is not None
    run.budget._rules.counter.is_on = True
    run.until_served(5 * limit)
    assert not run.refused


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", ["counter", "counter, rounded"])
@pytest.mark.parametrize("seed", range(20))
def test_without_headers_a_sliding_counter_is_detected_by_a_few_refusals(
    kind: str, seed: int
) -> None:
    run = run_of(kind, seed, headers=False)
    run.until_served(60)
    assert len(run.refused) <= 6
    assert max(run.refused) - min(run.refused) < PER if run.refused else True


@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 10**6),
    counted=st.integers(0, 10),
)
def test_a_restart_in_a_used_up_minute_earns_one_refusal_per_window(
    kind: str, seed: int, counted: int
) -> None:
    run = run_of(kind, seed, longest=0.4)
    for _ in range(counted):
        run.server.receive(START - 0.5)
    run.until_served(30)
    for time in run.refused:
        assert sum(time <= other < time + PER for other in run.refused) <= 1


@given(
    lies=st.lists(
        st.one_of(st.integers(0, 12), st.integers(0, 10**400)), min_size=1, max_size=5
    ),
    seed=st.integers(0, 10**6),
    limit=st.one_of(st.integers(1, 20), st.just(10**400)),
)
def test_headers_that_lie_cause_neither_a_burst_nor_a_hang(
    lies: list[int], seed: int, limit: int
) -> None:
    run = run_of("log", seed)
    run.lies, run.limit = lies, limit
    took = run.until_served(20)
    assert max_in_any_window(run.spans) <= 10
    assert took <= 20 * 130
    assert repr(run.budget)


class ReportsCurrentWindow(SlidingWindowCounter):
    """A sliding counter whose header reports the current window only."""

    def receive(self, now: float) -> Verdict:
        verdict = super().receive(now)
        window = floor((now - self.phase) / self.per)
        left = self.limit - self.counts.get(window, 0)
        return verdict._replace(remaining=left) if verdict.accepted else verdict


@pytest.mark.parametrize("seed", range(6))
def test_a_header_that_counts_something_else_misleads_once(seed: int) -> None:
    run = run_of("counter", seed, longest=0.4)
    run.server = ReportsCurrentWindow(10, PER, random.Random(seed).uniform(0, PER))
    run.until_served(100)
    assert len(run.refused) <= 10


def test_a_foreign_client_that_uses_half_leaves_us_the_other_half() -> None:
    run = run_of("log", 5, longest=0.4)
    log = run.server
    taken: list[float] = []

    class Shared:
        """The same log, of which another program uses one request every 12 s."""

        def receive(self, now: float) -> Verdict:
            while not taken or taken[-1] + 12 <= now:
                taken.append(taken[-1] + 12 if taken else START - 60)
                log.receive(taken[-1])
            return log.receive(now)

    run.server = Shared()
    run.until_served(60)
    assert len(run.refused) <= 2


def test_a_refusal_of_the_first_request_shows_foreign_usage_not_a_sliding_counter() -> (
    None
):
    budget = RateBudget(RateLimit(10), random.Random(1))
    reservation = budget.send(0.0)
    facts = ResponseFacts(status=429, limit=10, remaining=0, retry_after=30.0)
    budget.on_response(reservation, 0.4, facts)
    budget.on_refused(0.4, 30.0, reservation)
    assert budget._rules is not None
    assert not budget._rules.counter.is_on
    assert 30.4 <= budget.earliest(1.0) <= 31
    assert budget._rules.foreign.count(1.0) == 10


def test_after_a_gate_one_probe_goes_first_even_without_headers() -> None:
    budget = RateBudget(RateLimit(10), random.Random(1))
    budget.on_response(budget.send(0.0), 0.4, ResponseFacts(status=200))
    reservation = budget.send(0.4)
    facts = ResponseFacts(status=429, retry_after=9.0)
    budget.on_response(reservation, 1.0, facts)
    budget.on_refused(1.0, 9.0, reservation)
    assert budget.earliest(11.0) == 11.0
    probe = budget.send(11.0)
    assert budget.earliest(11.1) == 61.05  # when the foreign usage has expired
    budget.on_response(probe, 11.4, ResponseFacts(status=200))
    assert budget.earliest(11.5) == 61.05
    assert budget.earliest(61.05) == 61.05
    budget.send(61.05)
    assert budget.earliest(61.1) > 66


def serve_one(budget: RateBudget, now: float) -> None:
    assert budget.earliest(now) == now
    reservation = budget.send(now)
    assert budget.earliest(now + 0.1) > now + 0.1
    budget.on_response(reservation, now + 0.2, ResponseFacts(status=200))


def test_after_foreign_usage_requests_go_singly_until_no_counter_is_possible() -> None:
    budget = RateBudget(RateLimit(10), random.Random(1))
    reservation = budget.send(0.0)
    budget.on_response(reservation, 0.4, ResponseFacts(status=429, retry_after=1.0))
    budget.on_refused(0.4, 1.0, reservation)
    for number in range(40):  # a sliding counter could refuse 30 of them
        serve_one(budget, 60.5 + 60.3 * (number // 10) + number % 10 * 0.3)
    assert budget._rules is not None
    assert not budget._rules.counter.is_undecided
    budget.send(302.0)
    assert budget.earliest(302.1) == 302.1


def test_a_trial_without_a_response_is_followed_by_the_next_after_5_s() -> None:
    budget = RateBudget(RateLimit(10), random.Random(1))
    for number in range(10):
        sent_at = 30.0 * (number == 9)
        reservation = budget.send(sent_at)
        budget.on_response(reservation, sent_at + 0.1, ResponseFacts(status=200))
    assert budget.earliest(61.0) == 61.0
    budget.send(61.0)
    assert budget.earliest(61.1) == 66.0


def test_a_429_without_a_reservation_only_closes_the_gate() -> None:
    budget = RateBudget(RateLimit(10), random.Random(1))
    budget.on_refused(1.0, 5.0)
    assert budget.earliest(1.0) >= 6
    assert budget._rules is not None
    assert not budget._rules.counter.is_on


def test_leases_scale_with_the_period() -> None:
    budget = RateBudget(RateLimit(1, per=2.0), random.Random(1))
    budget.on_response(budget.send(0.0), 0.1, ResponseFacts(status=200))
    assert 2.1 < budget.earliest(0.1) <= 2.106


def test_what_other_clients_hold_is_not_available() -> None:
    budget = RateBudget(RateLimit(10), random.Random(1))
    reservation = budget.send(0.0)
    facts = ResponseFacts(status=200, limit=10, remaining=5)
    budget.on_response(reservation, 1.0, facts)
    assert budget.status(1.0, waiting=0).available == 5
