"""The rules beside the bucket, each alone."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async._errors import InvalidRequestError
from finetuning_async._pacing._foreign_usage import ForeignUsage
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async._pacing._remaining_credit import RemainingCredit
from finetuning_async._pacing._reservation import Reservation
from finetuning_async._pacing._retry_after_gate import RetryAfterGate
from finetuning_async._pacing._sliding_window_counter import SlidingWindowCounter

PER = 60.0


def sent(
    rule: RemainingCredit | SlidingWindowCounter, number: int, now: float = 0.0
) -> Reservation:
    ticket = Reservation(number, now, rule._in_flight)
    rule.sent(ticket)
    return ticket


# the gate


@given(
    per=st.floats(0.1, 3600),
    asked=st.floats(1e-3, 1e6),
    seed=st.integers(0, 99),
)
def test_a_gate_opens_never_early_and_little_later(
    per: float, asked: float, seed: int
) -> None:
    gate = RetryAfterGate(per, random.Random(seed))
    gate.refused(100.0, asked)
    assert (
        100 + asked <= gate.earliest(100.0) <= 100 + asked + min(per / 120, asked / 10)
    )


def test_a_later_429_never_opens_a_gate_sooner() -> None:
    gate = RetryAfterGate(PER, random.Random(1))
    gate.refused(0.0, 50)
    gate.refused(1.0, 2)
    assert gate.earliest(2.0) >= 50


@pytest.mark.parametrize("asked", [None, 0.0])
def test_unnamed_pauses_double_up_to_a_period(asked: float | None) -> None:
    gate = RetryAfterGate(PER, random.Random(1))
    now, pauses = 0.0, []
    for _ in range(12):
        gate.refused(now, asked)
        pauses.append(gate.earliest(now) - now)
        now = gate.earliest(now)
    expected = [5.0, 10.0, 20.0, 40.0, *[60.0] * 8]
    assert pauses == pytest.approx(expected, abs=0.5)
    gate.let_through()
    gate.refused(now, asked)
    assert gate.earliest(now) - now <= 5.5


# first news


def test_without_news_one_goes_and_the_rest_wait() -> None:
    news = RemainingCredit(PER)
    assert news.earliest(0.0) == 0.0
    sent(news, 1)
    assert news.earliest(1.0) == 5.0
    assert news.earliest(5.0) == 5.0
    sent(news, 2, 5.0)
    assert news.earliest(6.0) == 10.0


def test_credit_counts_only_what_could_have_been_counted_after_it() -> None:
    news = RemainingCredit(PER)
    first = sent(news, 1)
    sent(news, 2)
    third = sent(news, 3)
    news.answered(first, 1.0, 9)
    assert news.credit(1.0) == 7  # two were sent since
    news.answered(third, 1.0, 7)
    assert news.credit(1.0) == 7  # two were out beside it: no better proof
    sent(news, 4, 1.0)
    assert news.credit(1.0) == 6


def test_the_best_proof_holds_though_answers_overtake_each_other() -> None:
    news = RemainingCredit(PER)
    first, second = sent(news, 1), sent(news, 2)
    news.answered(second, 1.0, 8)
    assert news.credit(1.0) == 7
    news.answered(first, 1.5, 9)
    assert news.credit(1.5) == 8


def test_news_is_as_old_as_its_request() -> None:
    news = RemainingCredit(PER)
    news.answered(sent(news, 1), 50.0, 9)
    assert news.is_fresh(59.9)
    assert not news.is_fresh(60.0)
    assert news.credit(60.0) == 0


def test_stale_credit_does_not_help_new_news() -> None:
    news = RemainingCredit(PER)
    news.answered(sent(news, 1), 1.0, 9)
    news.answered(sent(news, 2, 100.0), 101.0, 2)
    assert news.credit(101.0) == 2


def test_after_a_refusal_one_asks_again() -> None:
    news = RemainingCredit(PER)
    news.answered(sent(news, 1), 1.0, 9)
    news.refused()
    assert news.credit(1.0) == 0
    assert not news.is_fresh(1.0)
    assert news.earliest(1.0) == 1.0
    sent(news, 2, 1.0)
    assert news.earliest(1.0) > 1.0


def test_without_headers_four_go_one_by_one() -> None:
    news = RemainingCredit(PER)
    for number in range(1, 5):
        assert news.credit(float(number)) == 0
        ticket = sent(news, number, float(number))
        assert news.earliest(number + 0.1) > number + 0.1
        news.answered(ticket, number + 0.4, None)
    assert news.credit(4.4) == inf
    news.refused()
    news.answered(sent(news, 5, 9.0), 9.4, None)
    assert news.credit(9.4) == 0


def test_who_is_wary_sends_one_by_one_and_then_no_more_than_others_had_to() -> None:
    news = RemainingCredit(PER)
    for number in range(1, 8):
        ticket = sent(news, number, float(number))
        news.answered(ticket, number + 0.4, None, wary=True)
        assert news.credit(number + 0.4) == 0
    news.answered(sent(news, 8, 8.0), 8.4, None)
    assert news.credit(8.4) == inf


def test_who_hears_need_not_be_wary() -> None:
    news = RemainingCredit(PER)
    assert not news.has_headers
    news.answered(sent(news, 1), 1.0, 9, wary=True)
    assert news.credit(1.0) == 9
    assert news.has_headers


def test_a_header_that_misled_once_gives_no_more_credit() -> None:
    news = RemainingCredit(PER)
    news.answered(sent(news, 1), 1.0, 9)
    misled = sent(news, 2, 1.0)
    news.refused(misled)
    news.answered(sent(news, 3, 20.0), 21.0, 9)
    assert news.credit(21.0) == 0
    assert news.is_fresh(21.0)


def test_what_goes_first_after_a_refusal_is_told() -> None:
    news = RemainingCredit(PER)
    assert not news.was_refused
    news.refused()
    assert news.was_refused
    sent(news, 1)
    assert not news.was_refused


def test_an_answer_from_in_front_of_the_service_is_no_news() -> None:
    news = RemainingCredit(PER)
    news.answered(sent(news, 1), 1.0, 1)
    news.answered(sent(news, 2, 1.0), 2.0, None)
    assert news.credit(2.0) == 0


@pytest.mark.parametrize("end", ["unsent", "abandoned"])
def test_a_probe_without_an_answer_lets_the_next_ask(end: str) -> None:
    news = RemainingCredit(PER)
    getattr(news, end)(sent(news, 1), 1.0)
    assert news.earliest(1.0) == 1.0


# sliding counters


def heaviest(now: float, answers: list[float], per: float) -> float:
    """The largest estimate over windows that begin every 20 ms."""
    best = 0.0
    for step in range(int(per * 50)):
        begin = now - step / 50
        this = sum(t >= begin for t in answers)
        before = sum(begin - per <= t < begin for t in answers)
        best = max(best, this + before * (1 - (now - begin) / per))
    return best


@settings(max_examples=50, deadline=None)
@given(ages=st.lists(st.floats(0, 130), max_size=12), out=st.integers(0, 3))
def test_the_load_is_the_largest_estimate_over_all_windows(
    ages: list[float], out: int
) -> None:
    counter = SlidingWindowCounter(10, PER)
    answers = sorted(200 - age for age in ages)
    for number, time in enumerate(answers):
        counter.answered(sent(counter, number), time)
    for number in range(out):
        sent(counter, 100 + number)
    found = counter.load(200.0) - out
    brute = heaviest(200.0, answers, PER)
    assert brute - 1e-6 <= found <= brute + 1.01 * (len(ages) > 0)
    assert found == pytest.approx(brute, abs=0.02 * max(len(ages), 1)) or found > brute


@settings(max_examples=50, deadline=None)
@given(ages=st.lists(st.floats(0, 130), min_size=1, max_size=12))
def test_the_next_turn_is_the_first_that_passes_the_test(ages: list[float]) -> None:
    counter = SlidingWindowCounter(4, PER)
    for number, time in enumerate(sorted(200 - age for age in ages)):
        counter.answered(sent(counter, number), time)
    turn = counter.earliest(200.0)
    assert counter.load(turn) <= 3 + 1e-5
    assert turn == 200.0 or counter.load(turn - 0.01) > 3


def test_as_many_unanswered_as_the_limit_wait_for_an_answer() -> None:
    counter = SlidingWindowCounter(2, PER)
    tickets = [sent(counter, number) for number in range(2)]
    assert counter.earliest(10.0) == inf
    counter.unsent(tickets[0], 10.0)
    assert counter.earliest(10.0) == 10.0


def test_a_minute_later_ten_requests_still_weigh_nearly_ten() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(10):
        counter.answered(sent(counter, number), 0.0)
    assert counter.load(61.0) == pytest.approx(10 * (1 - 1 / 60))
    assert counter.load(121.0) == 0
    assert counter.earliest(61.0) == pytest.approx(66, abs=0.01)
    assert counter.earliest(61.0, taken=1) == pytest.approx(72, abs=0.01)


def test_what_it_could_hold_is_told_for_the_moment_of_sending() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(4):
        counter.answered(sent(counter, number), 0.0)
    counter.answered(sent(counter, 5, 30.0), 31.0)
    beside = sent(counter, 6, 70.0)
    late = sent(counter, 7, 70.0)
    for ticket in (beside, late):
        counter.answered(ticket, 75.0)
    assert counter.leased_at(late) == 3  # itself, the one beside it, that of 31 s
    assert counter.load_at(late) == pytest.approx(2 + 5 * (1 - 10 / 60))


def test_long_past_answers_are_forgotten() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(1000):
        counter.answered(sent(counter, number), number * 6.0)
    assert len(counter._answers) <= 90


def test_where_no_header_tells_it_is_tried_one_then_two_then_four() -> None:
    counter = SlidingWindowCounter(10, PER)
    for number in range(10):
        counter.answered(sent(counter, number), 0.0)
    widths, number = [], 10
    for _ in range(4):
        batch: list[Reservation] = []
        while counter.may_be_tried() and len(batch) < 20:
            batch.append(sent(counter, number, 61.0))
            number += 1
        widths.append(len(batch))
        for ticket in batch:
            counter.answered(ticket, 61.5)
            counter.served(ticket)
    assert widths == [1, 2, 4, 8]
    counter.is_on = True
    assert not counter.may_be_tried()


# somebody else


def test_what_we_cannot_explain_is_somebody_elses_for_a_period() -> None:
    others = ForeignUsage(PER)
    others.seen(10.0, used=8, least=1, most=1)
    assert others.taken(69.9) == 7
    assert others.taken(70.0) == 0


def test_an_answer_that_rules_them_out_frees_their_share() -> None:
    others = ForeignUsage(PER)
    others.seen(0.0, used=8, least=1, most=1)
    others.seen(5.0, used=4, least=3, most=4)
    assert others.taken(5.0) == 1
    others.seen(6.0, used=3, least=3, most=4)
    assert others.taken(6.0) == 0


def test_a_vague_answer_does_not_shrink_what_a_clear_one_showed() -> None:
    others = ForeignUsage(PER)
    others.seen(0.0, used=8, least=1, most=1)
    others.seen(1.0, used=9, least=1, most=8)
    assert others.taken(1.0) == 7
    assert others.until == 61.0


@given(
    numbers=st.lists(
        st.tuples(st.integers(-(10**9), 10), st.integers(-5, 10), st.integers(1, 10)),
        max_size=20,
    )
)
def test_no_header_makes_it_negative_or_more_than_the_limit(
    numbers: list[tuple[int, int, int]],
) -> None:
    others = ForeignUsage(PER)
    for now, (used, least, most) in enumerate(numbers):
        others.seen(float(now), used, min(least, most), most)
        assert 0 <= others.taken(float(now)) <= 15


# the limits as a caller states them


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "10", None, float("nan")])
def test_a_limit_is_a_whole_number_of_at_least_one(limit: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"limit must be .*at least 1"):
        RateLimit(limit)


@pytest.mark.parametrize("per", [0, -1.0, True, "60", None, float("nan"), inf, 10**400])
def test_a_period_is_a_number_of_seconds(per: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"per must be .*above 0 and finite"):
        RateLimit(1, per=per)


def test_the_documented_limits_are_the_default() -> None:
    assert RateLimits() == RateLimits(
        creates=RateLimit(10, per=60), reads=RateLimit(60, per=60.0)
    )


def test_any_object_of_that_shape_will_do() -> None:
    class Limit:
        def __init__(self, limit: int) -> None:
            self.limit, self.per = limit, 2

    class Limits:
        creates, reads = Limit(10), Limit(60)

    expected = RateLimits(creates=RateLimit(10, per=2), reads=RateLimit(60, per=2))
    assert RateLimits.of(Limits()) == expected
    assert RateLimits.of(expected) is expected


@pytest.mark.parametrize("value", [None, 10, "10 per minute", object()])
def test_other_objects_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"\.creates and \.reads"):
        RateLimits.of(value)
    with pytest.raises(InvalidRequestError, match=r"reads must be .*RateLimit"):
        RateLimits(reads=value)
