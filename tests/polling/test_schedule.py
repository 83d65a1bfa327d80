"""When to look: the spacing of the reads, and the durations that are learned."""

from __future__ import annotations

import random
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, strategies as st

from finetuning_async._polling._schedule import (
    ASSUMED_DURATION,
    FAILURE_REMEMBERED,
    FIRST_LOOK,
    MAX_BORROWED,
    SAMPLES_NEEDED,
    SHOWN_EVERY,
    SHOWN_SOONER,
    SLOWEST_LOOK,
    STRAGGLER_SHARE,
    DurationEstimator,
    Expectation,
    ReadPacer,
)

TIMES = st.floats(1.0, 300.0)


def learned(times: list[float], *, scale: float = 1.0) -> DurationEstimator:
    estimator = DurationEstimator(scale=scale)
    for seconds in times:
        estimator.learn("music", 60.0, shortest=seconds, longest=seconds)
    return estimator


def test_seven_tenths_of_the_reads_are_for_polling() -> None:
    assert ReadPacer(limit=60, per=60.0).interval == pytest.approx(60 / 42)
    assert ReadPacer(limit=10, per=2.0).scale == pytest.approx(0.2)


def test_the_first_slot_is_now_and_idle_time_saves_no_slots() -> None:
    pace = ReadPacer(limit=60, per=60.0)
    assert pace.next_slot() == -inf
    pace.use_slots(0.0)
    pace.use_slots(1000.0)
    assert pace.next_slot() == 1000.0 + pace.interval


def test_an_urgent_read_borrows_a_slot() -> None:
    pace = ReadPacer(limit=60, per=60.0)
    pace.use_slots(0.0)
    assert pace.next_slot(urgent=True) <= 0.0
    pace.use_slots(0.0)
    pace.use_slots(0.0)
    assert pace.next_slot(urgent=True) == pytest.approx(pace.interval)
    assert pace.next_slot() == pytest.approx(3 * pace.interval)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), max_size=300))
def test_no_minute_holds_more_than_45_reads(
    wishes: list[tuple[float, bool]],
) -> None:
    pace = ReadPacer(limit=60, per=60.0)
    now, reads = 0.0, []
    for pause, urgent in wishes:
        now = max(now + pause, pace.next_slot(urgent=urgent))
        pace.use_slots(now)
        reads.append(now)
    for first in reads:
        assert sum(first <= at < first + 60 for at in reads) <= 42 + 1 + MAX_BORROWED


@given(
    st.lists(
        st.tuples(st.floats(0.0, 5.0), st.sampled_from(["", "urgent", "last"])),
        max_size=300,
    )
)
def test_reserved_slots_keep_the_spacing_and_the_limit(
    wishes: list[tuple[float, str]],
) -> None:
    pace = ReadPacer(limit=60, per=60.0)
    now, reads = 0.0, []
    for pause, how in wishes:
        urgent, last = bool(how), how == "last"
        now = max(now + pause, pace.next_slot(urgent=urgent, last_look=last))
        before = pace.next_slot()
        pace.use_slots(now, last_look=last)
        reads.append((now, now < before and pace.next_slot() == before))
    for first, _ in reads:
        minute = [extra for at, extra in reads if first <= at < first + 60]
        assert minute.count(True) <= 15
        assert minute.count(False) <= 42 + 1 + MAX_BORROWED


def test_a_last_look_goes_at_once_whatever_was_read_before() -> None:
    pace = ReadPacer(limit=60, per=60.0)
    for n in range(15):
        pace.use_slots(n / 10)
        assert pace.next_slot(urgent=True, last_look=True) == -inf
        pace.use_slots(n / 10, last_look=True)
    assert pace.next_slot(urgent=True, last_look=True) > 10
    assert pace.next_slot(last_look=True) <= 60.0


def test_a_reserved_slot_is_free_again_a_period_after_its_use() -> None:
    pace = ReadPacer(limit=60, per=60.0)
    pace.use_slots(0.0, 100)  # the regular ones are taken for long
    for _ in range(15):
        pace.use_slots(0.0, last_look=True)
    before = pace.next_slot()
    assert pace.next_slot(last_look=True) == 60.0
    pace.use_slots(60.0, last_look=True)
    assert pace.next_slot() == before
    for _ in range(14):
        pace.use_slots(60.0, last_look=True)
    assert pace.next_slot() == before
    pace.use_slots(60.0, last_look=True)
    assert pace.next_slot() == before + pace.interval, "there are 15, no more"


def test_the_service_may_allow_fewer_reads_and_never_more() -> None:
    pace = ReadPacer(limit=60, per=60.0)
    usual = pace.interval
    for limit, interval in ((30, 2 * usual), (60, usual), (120, usual)):
        pace.lower_limit(limit)
        assert pace.interval == pytest.approx(interval)


def test_until_enough_is_learned_looks_begin_after_two_seconds() -> None:
    estimator = learned([30.0] * (SAMPLES_NEEDED - 1))
    expected = estimator.expect("music", 60.0)
    assert expected == Expectation(FIRST_LOOK, inf)
    assert estimator.pause(expected, age=0.5) == pytest.approx(1.5)
    assert estimator.pause(expected, age=1000.0) == 0.0


def test_kinds_and_lengths_are_learned_separately() -> None:
    estimator = learned([30.0] * 8)
    assert estimator.expect("music", 60.0).earliest > 25
    assert estimator.expect("music", 61.0).earliest > 25  # rounded to the same length
    for kind, length in (("music", 120.0), ("instrumental", 60.0), ("music", None)):
        assert estimator.expect(kind, length).latest == inf  # type: ignore[arg-type] # literals


def test_what_tracks_of_a_kind_took_lately_is_known_once_four_have_ended() -> None:
    estimator = DurationEstimator()
    for length, shortest in ((60.0, 40.0), (60.0, 20.0), (90.0, 30.0), (None, 10.0)):
        estimator.learn("sound_effect", None, shortest=1.0, longest=1.0)
        assert estimator.seen("music") == [ASSUMED_DURATION]
        estimator.learn("music", length, shortest=shortest, longest=shortest + 2.0)
    assert estimator.seen("music") == [11.0, 21.0, 31.0, 41.0]
    assert estimator.seen("instrumental") == [ASSUMED_DURATION]


def test_durations_that_never_vary_are_expected_more_and_more_exactly() -> None:
    assert learned([45.0] * 4).expect("music", 60.0) == Expectation(32.75, 57.25)
    assert learned([45.0] * 9).expect("music", 60.0) == Expectation(39.0, 51.0)
    assert learned([45.0] * 45).expect("music", 60.0) == Expectation(43.0, 47.0)


@given(st.lists(TIMES, min_size=SAMPLES_NEEDED, max_size=100))
def test_observed_durations_are_expected(times: list[float]) -> None:
    expected = learned(times).expect("music", 60.0)
    assert all(expected.earliest <= seconds <= expected.latest for seconds in times)


@pytest.mark.parametrize("seed", range(5))
def test_few_evenly_spread_durations_fall_outside(seed: int) -> None:
    rng = random.Random(seed)
    estimator = DurationEstimator()
    outside = 0
    for number in range(1000):
        seconds = rng.uniform(20.0, 120.0)
        expected = estimator.expect("music", 60.0)
        if number >= 20 and not expected.earliest <= seconds <= expected.latest:
            outside += 1
        estimator.learn("music", 60.0, shortest=seconds, longest=seconds)
    assert outside < 10


def test_a_batch_that_ends_in_the_order_of_its_durations_does_not_mislead() -> None:
    estimator = DurationEstimator()
    for _ in range(3):
        for number in range(99):
            estimator.learn(
                "music", 60.0, shortest=20.0 + number, longest=20.0 + number
            )
    assert estimator.expect("music", 60.0).earliest <= 20.0


def test_a_service_that_becomes_faster_is_learned_from_its_first_track() -> None:
    estimator = learned([60.0] * 100)
    estimator.learn("music", 60.0, shortest=20.0, longest=60.0)
    assert estimator.expect("music", 60.0).earliest <= 20.0


@given(age=st.floats(0.0, 5000.0), times=st.lists(TIMES, min_size=4, max_size=20))
def test_pauses_are_short_once_a_track_can_be_done(
    age: float, times: list[float]
) -> None:
    estimator = learned(times)
    expected = estimator.expect("music", 60.0)
    pause = estimator.pause(expected, age=age)
    if age < expected.earliest:
        assert age + pause == pytest.approx(expected.earliest)
    else:
        overdue = max(age - expected.latest, 0.0)
        assert pause <= min(SLOWEST_LOOK, overdue * STRAGGLER_SHARE)


def test_a_look_is_as_late_as_a_twentieth_of_what_a_track_is_overdue() -> None:
    estimator, expected = DurationEstimator(), Expectation(20, 100)
    pauses = {5: 15, 20: 0, 99: 0, 120: 1, 200: 5, 1000: SLOWEST_LOOK}
    for age, pause in pauses.items():
        assert estimator.pause(expected, age=age) == pytest.approx(pause), age


def test_all_times_scale_with_the_limit() -> None:
    expected = DurationEstimator(scale=0.1).expect("music", None)
    assert expected.earliest == pytest.approx(FIRST_LOOK / 10)
    assert (
        DurationEstimator(scale=0.1).pause(Expectation(0, 1), age=1e6)
        == SLOWEST_LOOK / 10
    )


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_status_is_due_sooner_while_tracks_fail_or_once_it_is_overdue(
    scale: float,
) -> None:
    estimator = DurationEstimator(scale=scale)
    usual, sooner = SHOWN_EVERY * scale, SHOWN_SOONER * scale
    assert estimator.status_due_by(50.0, end=inf, now=40.0) == 50.0 + usual
    assert estimator.status_due_by(50.0, end=51.0 + sooner, now=40.0) == 51.0 + sooner
    assert estimator.status_due_by(50.0, end=0.0, now=40.0) == 50.0 + sooner
    estimator.record_failure(30.0)
    assert estimator.status_due_by(50.0, end=inf, now=40.0) == 50.0 + sooner
    later = 30.0 + FAILURE_REMEMBERED * scale
    assert estimator.status_due_by(50.0, end=inf, now=later) == 50.0 + usual


def test_a_person_who_waits_hurries_reads_and_leaves_some_for_last_looks() -> None:
    pacer = ReadPacer(limit=60, per=60.0)
    pacer.hurried, now, reads = 1, 0.0, list[float]()
    while now < 60:
        now = max(now, pacer.next_slot())
        pacer.use_slots(now)
        reads.append(now)
    # In five slots three times as many, of which ten are reserved ones.
    pauses = [(b - a) / pacer.interval for a, b in pairwise(reads)]
    assert pauses == pytest.approx([1 / 3] * 15 + [1.0] * (len(pauses) - 15))
    # 42 for polling, and of the 15 reserved ones the first ten.
    assert len([at for at in reads if at < 60]) <= 42 + 10 + 1
    assert pacer.next_slot(last_look=True) <= now
    pacer.hurried = 0
    assert pacer.pause == pacer.interval
