"""`ServerClock`: many responses narrow it down; one wrong clock does not move it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from finetuning_async._http._server_clock import ServerClock

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def observe(clock: ServerClock, at: float, ahead: float = 0.0) -> None:
    """Observe a response from a machine whose clock is `ahead` seconds ahead."""
    date = (NOON + timedelta(seconds=at + ahead)).replace(microsecond=0)
    clock.observe(date, sent_at=at, received_at=at + 0.1)


def error_of(clock: ServerClock, at: float) -> float:
    shown = clock.not_before(at)
    assert shown is not None
    return (shown - NOON - timedelta(seconds=at)).total_seconds()


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_one_response_with_another_clock_changes_nothing(ahead: float) -> None:
    clock = ServerClock()
    for at in (0.0, 1.3, 2.6):
        observe(clock, at)
    observe(clock, 3.9, ahead)
    assert error_of(clock, 4.0) == pytest.approx(0.0, abs=1.2)
    observe(clock, 5.2)
    observe(clock, 6.5, ahead)
    assert error_of(clock, 7.0) == pytest.approx(0.0, abs=1.2)


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_two_clocks_that_contradict_each_other_change_nothing(ahead: float) -> None:
    clock = ServerClock()
    observe(clock, 0.0)
    observe(clock, 1.3, ahead)
    observe(clock, 2.6, -ahead)
    assert error_of(clock, 3.0) == pytest.approx(0.0, abs=1.2)


def test_a_clock_that_was_set_is_believed_at_the_second_response() -> None:
    clock = ServerClock()
    observe(clock, 0.0)
    for at in (10.0, 20.0):
        observe(clock, at, 3600.0)
    assert error_of(clock, 21.0) == pytest.approx(3600.0, abs=1.2)


def test_a_wrong_first_response_is_corrected_by_the_next_two() -> None:
    clock = ServerClock()
    observe(clock, 0.0, 3600.0)
    for at in (10.0, 20.0):
        observe(clock, at)
    assert error_of(clock, 21.0) == pytest.approx(0.0, abs=1.2)


def test_before_any_response_nothing_is_known() -> None:
    clock = ServerClock()
    nonsense = datetime(2500, 1, 1, tzinfo=UTC)
    clock.observe(nonsense, sent_at=0.0, received_at=0.1)
    assert (clock.not_before(1.0), clock.not_after(1.0)) == (None, None)


@pytest.mark.parametrize("fractions", [(0.0, 0.9), (0.9, 0.0)])
@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_responses_narrow_it_down_from_both_sides_even_once_it_was_set(
    ahead: float, fractions: tuple[float, float]
) -> None:
    clock = ServerClock()
    for at in (0.0, 1.3, 2.6, 3.9):
        observe(clock, at)
    first, second = fractions
    observe(clock, 10.0 + first, ahead)
    observe(clock, 20.0 + second, ahead)
    # Either response alone leaves more than a second of doubt.
    low, high = clock.not_before(30.0), clock.not_after(30.0)
    assert low is not None
    assert high is not None
    true = NOON + timedelta(seconds=30.0 + ahead)
    assert (true - low).total_seconds() == pytest.approx(0.1, abs=0.001)
    assert (high - true).total_seconds() == pytest.approx(0.1, abs=0.001)
