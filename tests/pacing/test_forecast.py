"""When creates will go out: the line, played forward."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from finetuning_async._pacing import _forecast
from finetuning_async._pacing._forecast import (
    NOTICE,
    ROUND_TRIP,
    Outlook,
    forecast,
)

LEASE = 60.05
FREE = (0.0,) * 10

seconds = st.floats(0, 100)
outlooks = st.builds(
    Outlook,
    tokens=st.lists(seconds, min_size=1, max_size=10).map(tuple),
    lease=st.just(LEASE),
    opens_in=seconds,
    gap=st.just(6.0),
    spaced=st.integers(0, 30),
    places=st.none() | st.integers(1, 8),
    ends=st.lists(seconds, max_size=8).map(tuple),
)


def test_with_free_tokens_a_create_goes_at_once() -> None:
    found = forecast(Outlook(tokens=FREE, lease=LEASE), 0, 9, 10)
    assert (found.first_sent, found.last_sent) == (0, 0)
    assert found.last_completed == pytest.approx(70 + ROUND_TRIP + NOTICE)


def test_the_eleventh_of_a_minute_waits_for_the_first_token() -> None:
    found = forecast(Outlook(tokens=FREE, lease=LEASE), 10, 10)
    assert found.first_sent == pytest.approx(LEASE + ROUND_TRIP)


def test_each_create_takes_the_token_that_comes_back_first() -> None:
    outlook = Outlook(tokens=(30.0, -5.0, 10.0), lease=LEASE)
    sent = [forecast(outlook, n, n).first_sent for n in range(4)]
    assert sent == [0.0, 10.0, 30.0, LEASE + ROUND_TRIP]


def test_spaced_creates_go_one_per_gap() -> None:
    outlook = Outlook(tokens=FREE, lease=LEASE, gap=6.0, spaced=5)
    assert forecast(outlook, 4, 4).first_sent == pytest.approx(24.0)
    assert forecast(outlook, 5, 5).first_sent == pytest.approx(24.0)


@pytest.mark.parametrize(("gap", "longest"), [(0.0, 80), (30.0, 80), (60.0, 60)])
def test_of_creates_that_go_together_the_longest_is_done_last(
    gap: float, longest: float
) -> None:
    durations = (50.0, 60.0, 80.0)
    outlook = Outlook(tokens=FREE, lease=LEASE, gap=gap, spaced=2, durations=durations)
    found = forecast(outlook, 0, 1, 2)
    assert found.last_completed == pytest.approx(gap + ROUND_TRIP + longest + NOTICE)


def test_far_ahead_creates_go_at_the_same_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forecast, "FAR", 10)
    outlook = Outlook(tokens=(0.0,), lease=10.0 - ROUND_TRIP)
    found = forecast(outlook, 10, 20)
    assert found.first_sent == pytest.approx(100)
    assert found.last_sent == pytest.approx(200, rel=0.1)


def test_a_full_queue_lets_one_out_as_a_track_ends() -> None:
    outlook = Outlook(
        tokens=FREE, lease=LEASE, places=2, ends=(30.0, 12.0), durations=(50.0,)
    )
    first, second, third = (forecast(outlook, n, n).first_sent for n in range(3))
    assert first == 12.0 + NOTICE
    assert second == 30.0 + NOTICE
    assert third == first + ROUND_TRIP + 50.0 + NOTICE


def test_a_closed_gate_delays_all() -> None:
    outlook = Outlook(tokens=FREE, lease=LEASE, opens_in=33.0)
    assert forecast(outlook, 0, 0).first_sent == 33.0


def test_without_pacing_nothing_waits() -> None:
    assert forecast(Outlook(tokens=(), lease=0.0), 0, 999, 1000).last_sent == 0.0


@given(outlooks, st.integers(0, 60), st.integers(0, 60))
def test_what_is_behind_never_goes_first(
    outlook: Outlook, first: int, more: int
) -> None:
    found = forecast(outlook, first, first + more, more + 1)
    assert outlook.opens_in <= found.first_sent <= found.last_sent
    assert found.last_sent < found.last_completed
    assert forecast(outlook, first, first).first_sent == found.first_sent


@given(outlooks, st.integers(0, 60))
def test_no_period_holds_more_creates_than_there_are_tokens(
    outlook: Outlook, start: int
) -> None:
    later = start + len(outlook.tokens)
    apart = forecast(outlook, start, later)
    assert apart.last_sent - apart.first_sent >= min(LEASE - max(outlook.tokens), LEASE)
