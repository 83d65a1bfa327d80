"""The leased token bucket, against every window that a service may count."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from finetuning_async._pacing._reservation import Reservation
from finetuning_async._pacing._token_bucket import TokenBucket

PER = 60.0


def sent_at(now: float) -> Reservation:
    return Reservation(1, now, 0)


class TokenBucketMachine(RuleBasedStateMachine):
    """Requests are sent, answered and lost in any order, and counted at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.bucket = TokenBucket(3, PER)
        self.out: list[float] = []
        self.spans: list[tuple[float, float]] = []  # each may be counted between these

    @rule(seconds=st.one_of(st.floats(0, 90), st.sampled_from([0.0, PER])))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def until_the_next_token(self) -> None:
        earliest = self.bucket.earliest(self.now)
        if earliest < inf:
            self.now = earliest

    @precondition(lambda self: self.bucket.earliest(self.now) <= self.now)
    @rule()
    def send(self) -> None:
        self.bucket.on_sent(sent_at(self.now))
        self.out.append(self.now)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 2))
    def respond(self, which: int) -> None:
        sent = self.out.pop(which % len(self.out))
        self.bucket.on_response(sent_at(sent), self.now)
        self.spans.append((sent, self.now))

    @precondition(lambda self: self.out)
    @rule(linger=st.floats(0, 10))
    def abandon(self, linger: float) -> None:
        sent = self.out.pop()
        self.bucket.on_abandoned(sent_at(sent), self.now, linger)
        self.spans.append((sent, self.now + linger))

    @precondition(lambda self: self.out)
    @rule()
    def not_sent_after_all(self) -> None:
        self.bucket.on_unsent(sent_at(self.out.pop()), self.now)

    @invariant()
    def no_window_of_the_service_holds_more_than_the_limit(self) -> None:
        spans = [*self.spans, *((sent, inf) for sent in self.out)]
        for end, _ in spans:
            begin = end - PER + 1e-6
            held = sum(first <= end and last >= begin for first, last in spans)
            assert held <= 3

    @invariant()
    def there_is_a_token_exactly_when_it_says_so(self) -> None:
        free = self.bucket.free(self.now)
        assert (free > 0) == (self.bucket.earliest(self.now) <= self.now)
        assert free >= 0


TestLeases = TokenBucketMachine.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_token_comes_back_a_period_after_the_response() -> None:
    bucket = TokenBucket(1, PER)
    bucket.on_sent(sent_at(0))
    assert bucket.earliest(1) == inf
    bucket.on_response(sent_at(0), 8.0)
    assert bucket.earliest(9) == 68.0
    assert bucket.earliest(68) == 68.0


def test_a_token_that_is_out_is_back_a_period_after_a_response_that_comes_now() -> None:
    bucket = TokenBucket(3, PER)
    bucket.on_sent(sent_at(0))
    bucket.on_sent(sent_at(0))
    bucket.on_response(sent_at(0), 2.0)
    assert bucket.token_times(5) == [5, 62, 65]


def test_a_shorter_lease_that_began_later_ends_first() -> None:
    bucket = TokenBucket(2, PER)
    for _ in range(2):
        bucket.on_sent(sent_at(0))
    bucket.on_abandoned(sent_at(0), 1.0, 30.0)
    bucket.on_response(sent_at(0), 2.0)
    assert bucket.earliest(2) == 62.0
    assert bucket.earliest_behind(2, ahead=1) == 91.0


def test_after_the_limit_is_lowered_enough_tokens_must_come_back() -> None:
    bucket = TokenBucket(3, PER)
    for second in range(3):
        bucket.on_sent(sent_at(0))
        bucket.on_response(sent_at(0), float(second))
    bucket.limit = 1
    assert bucket.free(2) == -2
    assert bucket.earliest(2) == 62.0


def test_tokens_that_others_hold_are_not_free() -> None:
    bucket = TokenBucket(3, PER)
    bucket.on_sent(sent_at(0))
    bucket.on_response(sent_at(0), 5.0)
    assert bucket.earliest(6, taken=1) == 6
    assert bucket.earliest(6, taken=2) == 65.0
    assert bucket.earliest(6, taken=3) == inf


@given(limit=st.integers(1, 9), used=st.integers(0, 9), ahead=st.integers(0, 60))
def test_each_full_limit_of_requests_ahead_takes_a_period(
    limit: int, used: int, ahead: int
) -> None:
    bucket = TokenBucket(limit, PER)
    for _ in range(min(used, limit)):
        bucket.on_sent(sent_at(0))
        bucket.on_response(sent_at(0), 0.0)
    free = limit - min(used, limit)
    turns = [10.0] * free + [PER] * (limit - free)
    expected = turns[ahead] if ahead < limit else 10.0 + PER * (ahead // limit)
    assert bucket.earliest_behind(10.0, ahead) == pytest.approx(expected)
