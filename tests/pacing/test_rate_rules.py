"""The rules beside the token bucket, each on its own, and the limits."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._errors import InvalidRequestError
from finetuning_async._pacing._foreign_usage import ForeignUsage
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async._pacing._remaining_credit import RemainingCredit
from finetuning_async._pacing._reservation import Reservation
from finetuning_async._pacing._retry_after_gate import RetryAfterGate
from finetuning_async._pacing._rule_set import RuleSet
from finetuning_async._pacing._sliding_window_counter import SlidingWindowCounter

PER = 60.0


def sent(
    rule: RemainingCredit | SlidingWindowCounter, number: int, now: float = 0.0
) -> Reservation:
    reservation = Reservation(number, now, rule._in_flight)
    rule.on_sent(reservation)
    return reservation


# the gate


@given(
    per=st.floats(0.1, 3600),
    asked=st.floats(1e-3, 1e6),
    seed=st.integers(0, 99),
)
def test_a_gate_never_opens_early_and_at_most_a_jitter_late(
    per: float, asked: float, seed: int
) -> None:
    gate = RetryAfterGate(per, random.Random(seed))
    gate.on_refused(100.0, asked)
    assert (
        100 + asked <= gate.earliest(100.0) <= 100 + asked + min(per / 120, asked / 10)
    )


def test_a_later_429_never_opens_a_gate_sooner() -> None:
    gate = RetryAfterGate(PER, random.Random(1))
    gate.on_refused(0.0, 50)
    gate.on_refused(1.0, 2)
    assert gate.earliest(2.0) >= 50


@pytest.mark.parametrize("asked", [None, 0.0])
def test_unnamed_pauses_double_up_to_a_period(asked: float | None) -> None:
    gate = RetryAfterGate(PER, random.Random(1))
    now, pauses = 0.0, []
    for _ in range(12):
        gate.on_refused(now, asked)
        pauses.append(gate.earliest(now) - now)
        now = gate.earliest(now)
    expected = [5.0, 10.0, 20.0, 40.0, *[60.0] * 8]
    assert pauses == pytest.approx(expected, abs=0.5)
    gate.reset_backoff()
    gate.on_refused(now, asked)
    assert gate.earliest(now) - now <= 5.5


# remaining credit


def test_without_credit_one_probe_goes_and_the_rest_wait() -> None:
    credit = RemainingCredit(PER)
    assert credit.earliest(0.0) == 0.0
    sent(credit, 1)
    assert credit.earliest(1.0) == 5.0
    assert credit.earliest(5.0) == 5.0
    sent(credit, 2, 5.0)
    assert credit.earliest(6.0) == 10.0


def test_credit_is_reduced_by_what_may_be_counted_after_the_response() -> None:
    credit = RemainingCredit(PER)
    first = sent(credit, 1)
    sent(credit, 2)
    third = sent(credit, 3)
    credit.on_response(first, 1.0, 9)
    assert credit.amount(1.0) == 7  # two were sent since
    credit.on_response(third, 1.0, 7)
    assert credit.amount(1.0) == 7  # two were in flight beside it: no better proof
    sent(credit, 4, 1.0)
    assert credit.amount(1.0) == 6


def test_the_last_request_that_is_known_to_fit_goes_at_once() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 1.0, 2)
    sent(credit, 2, 1.0)
    assert (credit.amount(1.0), credit.earliest(1.0)) == (1, 1.0)
    sent(credit, 3, 1.0)
    assert (credit.amount(1.0), credit.earliest(1.0)) == (0, 6.0)


def test_the_best_proof_holds_even_if_responses_overtake_each_other() -> None:
    credit = RemainingCredit(PER)
    first, second = sent(credit, 1), sent(credit, 2)
    credit.on_response(second, 1.0, 8)
    assert credit.amount(1.0) == 7
    credit.on_response(first, 1.5, 9)
    assert credit.amount(1.5) == 8


def test_credit_expires_a_period_after_its_request_was_sent() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 50.0, 9)
    assert credit.is_fresh(59.9)
    assert not credit.is_fresh(60.0)
    assert credit.amount(60.0) == 0


def test_expired_credit_is_not_kept_by_a_new_response() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 1.0, 9)
    credit.on_response(sent(credit, 2, 59.0), 60.0, 2)  # the moment when it expires
    assert credit.amount(60.0) == 2


def test_after_a_refusal_one_probe_goes_first() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 1.0, 9)
    credit.on_refused()
    assert credit.amount(1.0) == 0
    assert not credit.is_fresh(1.0)
    assert credit.earliest(1.0) == 1.0
    sent(credit, 2, 1.0)
    assert credit.earliest(1.0) > 1.0


def test_without_headers_four_requests_go_one_at_a_time() -> None:
    credit = RemainingCredit(PER)
    for number in range(1, 5):
        assert credit.amount(float(number)) == 0
        reservation = sent(credit, number, float(number))
        assert credit.earliest(number + 0.1) > number + 0.1
        credit.on_response(reservation, number + 0.4, None)
    assert credit.amount(4.4) == inf
    credit.on_refused()
    credit.on_response(sent(credit, 5, 9.0), 9.4, None)
    assert credit.amount(9.4) == 0


def test_going_singly_for_longer_needs_no_further_single_probes_later() -> None:
    credit = RemainingCredit(PER)
    for number in range(1, 8):
        reservation = sent(credit, number, float(number))
        credit.on_response(reservation, number + 0.4, None, one_at_a_time=True)
        assert credit.amount(number + 0.4) == 0
    credit.on_response(sent(credit, 8, 8.0), 8.4, None)
    assert credit.amount(8.4) == inf


def test_with_headers_going_singly_does_not_apply() -> None:
    credit = RemainingCredit(PER)
    assert not credit.has_headers
    credit.on_response(sent(credit, 1), 1.0, 9, one_at_a_time=True)
    assert credit.amount(1.0) == 9
    assert credit.has_headers


def test_a_header_that_misled_once_gives_no_more_credit() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 1.0, 9)
    misled = sent(credit, 2, 1.0)
    credit.on_refused(misled)
    credit.on_response(sent(credit, 3, 20.0), 21.0, 9)
    assert credit.amount(21.0) == 0
    assert credit.is_fresh(21.0)


def test_the_first_request_after_a_refusal_is_recognized() -> None:
    credit = RemainingCredit(PER)
    assert not credit.was_refused
    credit.on_refused()
    assert credit.was_refused
    sent(credit, 1)
    assert not credit.was_refused


def test_a_response_of_a_proxy_gives_no_credit() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 1.0, 1)
    credit.on_response(sent(credit, 2, 1.0), 2.0, None)
    assert credit.amount(2.0) == 0


@pytest.mark.parametrize("end", ["on_unsent", "on_abandoned"])
def test_a_probe_without_a_response_allows_the_next_probe(end: str) -> None:
    credit = RemainingCredit(PER)
    getattr(credit, end)(sent(credit, 1), 1.0)
    assert credit.earliest(1.0) == 1.0


# sliding counters


def heaviest(now: float, responses: list[float], per: float) -> float:
    """The largest estimate over windows that begin every 20 ms."""
    best = 0.0
    for step in range(int(per * 50)):
        begin = now - step / 50
        this = sum(t >= begin for t in responses)
        before = sum(begin - per <= t < begin for t in responses)
        best = max(best, this + before * (1 - (now - begin) / per))
    return best


@settings(max_examples=50, deadline=None)
@given(ages=st.lists(st.floats(0, 130), max_size=12), out=st.integers(0, 3))
def test_the_load_is_the_largest_estimate_over_all_windows(
    ages: list[float], out: int
) -> None:
    counter = SlidingWindowCounter(10, PER)
    responses = sorted(200 - age for age in ages)
    for number, time in enumerate(responses):
        counter.on_response(sent(counter, number), time)
    for number in range(out):
        sent(counter, 100 + number)
    found = counter.load(200.0) - out
    brute = heaviest(200.0, responses, PER)
    assert brute - 1e-6 <= found <= brute + 1.01 * (len(ages) > 0)
    assert found == pytest.approx(brute, abs=0.02 * max(len(ages), 1)) or found > brute


@settings(max_examples=50, deadline=None)
@given(ages=st.lists(st.floats(0, 130), min_size=1, max_size=12))
def test_the_earliest_time_is_the_first_that_passes_the_test(ages: list[float]) -> None:
    counter = SlidingWindowCounter(4, PER)
    for number, time in enumerate(sorted(200 - age for age in ages)):
        counter.on_response(sent(counter, number), time)
    earliest = counter.earliest(200.0)
    assert counter.load(earliest) <= 3 + 1e-5
    assert earliest == 200.0 or counter.load(earliest - 0.01) > 3


def test_with_a_full_limit_in_flight_the_next_waits_for_a_response() -> None:
    counter = SlidingWindowCounter(2, PER)
    reservations = [sent(counter, number) for number in range(2)]
    assert counter.earliest(10.0) == inf
    counter.on_unsent(reservations[0], 10.0)
    assert counter.earliest(10.0) == 10.0


def test_a_minute_later_ten_requests_still_weigh_nearly_ten() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(10):
        counter.on_response(sent(counter, number), 0.0)
    assert counter.load(61.0) == pytest.approx(10 * (1 - 1 / 60))
    assert counter.load(121.0) == 0
    assert counter.earliest(61.0) == pytest.approx(66, abs=0.01)
    assert counter.earliest(61.0, taken=1) == pytest.approx(72, abs=0.01)


def test_the_load_is_known_as_of_the_sending_of_a_request() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(4):
        counter.on_response(sent(counter, number), 0.0)
    counter.on_response(sent(counter, 5, 30.0), 31.0)
    beside = sent(counter, 6, 70.0)
    late = sent(counter, 7, 70.0)
    for reservation in (beside, late):
        counter.on_response(reservation, 75.0)
    assert (
        counter.max_counted_at(late) == 3
    )  # itself, the one in flight, and that of 31 s
    assert counter.load_at(late) == pytest.approx(2 + 5 * (1 - 10 / 60))


def test_old_responses_are_forgotten() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(1000):
        counter.on_response(sent(counter, number), number * 6.0)
    assert len(counter._responses) == 41  # those of four minutes


def test_an_abandoned_request_may_be_counted_as_long_as_it_may_arrive() -> None:
    counter = SlidingWindowCounter(10, PER)
    counter.on_abandoned(sent(counter, 1), 10.0, 5.0)
    assert counter.load(75.0) == 1
    assert counter.load(78.0) == pytest.approx(1 - 3 / 60)


def test_without_headers_trials_double_from_round_to_round() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(10):
        counter.on_response(sent(counter, number), 0.0)
    widths, number = [], 10
    for _ in range(4):
        batch: list[Reservation] = []
        while counter.allows_trial() and len(batch) < 20:
            batch.append(sent(counter, number, 61.0))
            number += 1
        widths.append(len(batch))
        for reservation in batch:
            counter.on_response(reservation, 61.5)
            counter.on_served(reservation)
    assert widths == [1, 2, 4, 8]
    counter.is_on = True
    assert not counter.allows_trial()


# foreign usage


def test_unexplained_usage_is_foreign_for_a_period() -> None:
    foreign = ForeignUsage(PER)
    foreign.observe(10.0, used=8, own_min=1, own_max=1)
    assert foreign.count(69.9) == 7
    assert foreign.count(70.0) == 0
    assert foreign.may_still_weigh(129.9), "on a sliding counter"


def test_a_response_that_rules_foreign_usage_out_frees_its_share() -> None:
    foreign = ForeignUsage(PER)
    foreign.observe(0.0, used=8, own_min=1, own_max=1)
    foreign.observe(5.0, used=4, own_min=3, own_max=4)
    assert foreign.count(5.0) == 1
    assert foreign.until == PER, "what is left was seen at first"
    foreign.observe(6.0, used=3, own_min=3, own_max=4)
    assert foreign.count(6.0) == 0


def test_a_vague_response_does_not_reduce_what_a_clear_one_showed() -> None:
    foreign = ForeignUsage(PER)
    foreign.observe(0.0, used=8, own_min=1, own_max=1)
    foreign.observe(1.0, used=9, own_min=1, own_max=8)
    assert foreign.count(1.0) == 7
    assert foreign.until == 61.0


def test_usage_that_is_all_ours_shows_nobody_else() -> None:
    foreign = ForeignUsage(PER)
    foreign.observe(0.0, used=1, own_min=1, own_max=1)
    assert not foreign.ever_seen
    assert not foreign.may_still_weigh(1.0)


@given(
    numbers=st.lists(
        st.tuples(st.integers(-(10**9), 10), st.integers(-5, 10), st.integers(1, 10)),
        max_size=20,
    )
)
def test_no_header_makes_foreign_usage_negative_or_exceed_the_limit(
    numbers: list[tuple[int, int, int]],
) -> None:
    foreign = ForeignUsage(PER)
    for now, (used, least, most) in enumerate(numbers):
        foreign.observe(float(now), used, min(least, most), most)
        assert 0 <= foreign.count(float(now)) <= 15


# the limits as a caller states them


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "10", None, float("nan")])
def test_a_limit_is_a_whole_number_of_at_least_one(limit: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"limit.*at least 1"):
        RateLimit(limit)


@pytest.mark.parametrize("per", [0, -1.0, True, "60", None, float("nan"), inf, 10**400])
def test_a_period_is_a_number_of_seconds(per: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"per.*above 0"):
        RateLimit(1, per=per)


def test_the_documented_limits_are_the_default() -> None:
    assert RateLimits() == RateLimits(
        creates=RateLimit(10, per=60), reads=RateLimit(60, per=60.0)
    )


def test_any_object_with_the_attributes_is_accepted() -> None:
    class Limit:
        def __init__(self, limit: int) -> None:
            self.limit, self.per = limit, 2

    class Limits:
        creates, reads = Limit(10), Limit(60)

    expected = RateLimits(creates=RateLimit(10, per=2), reads=RateLimit(60, per=2))
    assert RateLimits.of(Limits()) == expected
    assert RateLimits.of(expected) is expected


@pytest.mark.parametrize("value", [None, 10, "10 per minute", object()])
def test_other_objects_are_refused_with_the_missing_attributes(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"\.creates and \.reads"):
        RateLimits.of(value)
    with pytest.raises(InvalidRequestError, match=r"reads.*RateLimit"):
        RateLimits(reads=value)


def test_a_period_may_be_less_than_a_second() -> None:
    assert RateLimit(1, per=0.5).per == 0.5


def test_a_queue_may_hold_a_single_track() -> None:
    assert RateLimits(queue=1).queue == 1
    with pytest.raises(InvalidRequestError, match="queue must be"):
        RateLimits(queue=0)


# all rules of one limit


def refused_or_served(status: int, remaining: int) -> RuleSet:
    """Rules of ten a minute after one request, with what its response said."""
    rules = RuleSet(RateLimit(10, per=PER))
    reservation = Reservation(1, 0.0, 0)
    rules.on_sent(reservation)
    facts = ResponseFacts(status=status, limit=10, remaining=remaining)
    rules.on_response(reservation, 1.0, facts, 0)
    return rules


@pytest.mark.parametrize(
    ("status", "remaining", "foreign"), [(202, 9, 0), (202, 6, 3), (429, 0, 10)]
)
def test_a_header_counts_an_accepted_request_and_not_a_refused_one(
    status: int, remaining: int, foreign: int
) -> None:
    assert refused_or_served(status, remaining).foreign.count(1.0) == foreign


def test_tokens_that_other_clients_hold_are_back_a_period_later() -> None:
    rules = refused_or_served(202, 6)
    times = rules.token_times(1.0)
    assert len(times) == 10
    assert [at for at in times if at <= 1.0] == times[:6]
    assert times[6:9] == [rules.foreign.until] * 3
    assert times[9] == pytest.approx(rules.foreign.until)


def test_a_refusal_on_the_last_credit_shows_that_headers_promise_too_much() -> None:
    credit = RemainingCredit(PER)
    credit.on_response(sent(credit, 1), 1.0, 1)
    assert credit.amount(1.0) == 1
    credit.on_refused(sent(credit, 2, 1.0))
    credit.on_response(sent(credit, 3, 70.0), 71.0, 9)
    assert credit.amount(71.0) == 0


def test_a_refusal_without_headers_says_nothing_about_headers() -> None:
    credit = RemainingCredit(PER)
    for number in range(1, 5):
        credit.on_response(sent(credit, number, float(number)), number + 0.4, None)
    assert credit.amount(5.0) == inf
    refused = sent(credit, 5, 5.0)
    credit.on_response(refused, 5.4, None)
    credit.on_refused(refused)
    credit.on_response(sent(credit, 6, 70.0), 71.0, 9)
    assert credit.amount(71.0) == 9


def burst(rules: RuleSet, count: int) -> None:
    """Requests that were all sent at -1 and answered at 0."""
    for number in range(count):
        reservation = Reservation(number, -1.0, 0)
        rules.on_sent(reservation)
        rules.on_response(reservation, 0.0, ResponseFacts(status=202), 0)


def test_on_a_sliding_counter_the_requests_of_other_processes_weigh_as_well() -> None:
    rules = RuleSet(RateLimit(10, per=PER))
    rules.counter.is_on = True
    rules.cap_tokens(5)
    burst(rules, 5)
    assert rules.bucket.earliest(61.0, rules.withheld) == 61.0
    # Four of ours fit beside theirs: a fifth of the window before has to pass.
    assert rules.earliest(61.0) == pytest.approx(1.2 * rules.counter.per, abs=0.01)


@pytest.mark.parametrize(("status", "trials"), [(202, 2), (400, 1), (503, 1)])
def test_only_what_is_served_shows_that_no_sliding_counter_refuses(
    status: int, trials: int
) -> None:
    rules = RuleSet(RateLimit(10, per=PER))
    burst(rules, 10)
    reservation = Reservation(11, 61.0, 0)
    rules.on_sent(reservation)
    rules.on_response(reservation, 61.1, ResponseFacts(status=status), 0)
    for number in range(trials):
        assert rules.counter.allows_trial()
        rules.on_sent(Reservation(12 + number, 61.2, number))
    assert not rules.counter.allows_trial()


@pytest.mark.parametrize(("used", "is_counter", "foreign"), [(11, 1, 0), (12, 0, 11)])
def test_what_our_own_requests_may_weigh_is_nobody_elses(
    used: int, is_counter: int, foreign: int
) -> None:
    rules = RuleSet(RateLimit(20, per=PER))
    burst(rules, 10)
    reservation = Reservation(11, 61.0, 0)
    rules.on_sent(reservation)
    facts = ResponseFacts(status=202, limit=20, remaining=20 - used)
    rules.on_response(reservation, 61.1, facts, 0)
    # A minute later ten weigh 9.8, so that a sliding counter says 11 with this one.
    assert rules.counter.is_on == is_counter
    assert rules.foreign.count(61.1) == foreign


def test_a_request_goes_once_it_fits_beside_what_other_clients_hold() -> None:
    rules = RuleSet(RateLimit(10, per=PER))
    burst(rules, 6)
    reservation = Reservation(7, 50.0, 0)
    rules.on_sent(reservation)
    facts = ResponseFacts(status=202, limit=10, remaining=0)
    rules.on_response(reservation, 50.5, facts, 0)
    assert rules.foreign.count(65.0) == 3
    assert rules.earliest(51.0) == pytest.approx(60.05)
    assert rules.earliest(65.0) == 65.0


def test_a_service_is_undecided_until_it_has_shown_what_it_is() -> None:
    counter = SlidingWindowCounter(10, PER)
    assert counter.is_undecided
    counter.is_on = True
    assert not counter.is_undecided
