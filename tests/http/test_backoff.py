"""`Backoff`: formula, range and cap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from finetuning_async._http._backoff import Backoff


class Highest(random.Random):
    def random(self) -> float:
        return 1.0


class Lowest(random.Random):
    def random(self) -> float:
        return 0.0


def test_the_nominal_delays_double_up_to_the_cap() -> None:
    delays = [Backoff().delay(attempt, Highest()) for attempt in range(1, 8)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_jitter_takes_at_most_a_quarter() -> None:
    delays = [Backoff().delay(attempt, Lowest()) for attempt in range(1, 7)]
    assert delays == [0.375, 0.75, 1.5, 3.0, 6.0, 6.0]


@given(
    first=st.floats(1e-3, 1e3),
    factor=st.floats(1, 1e3),
    stretch=st.floats(1, 1e3),
    attempt=st.integers(1, 10**6),
    seed=st.integers(0, 2**32),
)
def test_every_delay_is_between_three_quarters_of_nominal_and_the_cap(
    first: float, factor: float, stretch: float, attempt: int, seed: int
) -> None:
    backoff = Backoff(first=first, factor=factor, cap=first * stretch)
    delay = backoff.delay(attempt, random.Random(seed))
    assert 0.75 * first <= delay <= backoff.cap
    assert 0.75 * backoff.nominal(attempt) <= delay <= backoff.nominal(attempt)
    assert backoff.nominal(attempt) <= backoff.nominal(attempt + 1)


def test_a_millionth_attempt_does_not_overflow() -> None:
    assert Backoff().delay(10**6, Highest()) == 8.0


def test_the_same_generator_gives_the_same_delays() -> None:
    one, two = random.Random(5), random.Random(5)
    assert [Backoff().delay(n, one) for n in range(1, 9)] == [
        Backoff().delay(n, two) for n in range(1, 9)
    ]


@pytest.mark.parametrize(
    "values", [{"first": 0.0}, {"first": 9.0}, {"factor": 0.5}, {"cap": 0.1}]
)
def test_values_that_do_not_fit_together_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must have 0 < first <= cap"):
        Backoff(**values)


def test_attempts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Backoff().delay(0, Lowest())
