"""Window arithmetic against brute force over the whole history of arrivals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from finetuning_async.emulator._rate_limiters import Window, WindowKind, make_window

PER = 60.0
PHASE = 7.5
KINDS: tuple[WindowKind, ...] = (
    "fixed",
    "first",
    "log",
    "counter",
    "rounded_counter",
    "bucket",
)

# Quarters of a second, so that sums are exact and edges are hit.
pauses = st.lists(
    st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 600)).map(lambda n: n / 4),
    max_size=60,
)
limits = st.integers(1, 12)


def admitted(kind: WindowKind, limit: int, waits: list[float]) -> list[float]:
    """Arrivals that a window admitted; the others were refused and not counted."""
    window, now, passed = make_window(kind, limit, PER, PHASE), 0.0, []
    for wait in waits:
        now += wait
        if window.retry_after(now) <= 0:
            window.count(now)
            passed.append(now)
    return passed


def index(moment: float) -> int:
    return math.floor((moment - PHASE) / PER)


@given(waits=pauses, limit=limits)
def test_a_fixed_window_admits_the_first_of_each_window(
    waits: list[float], limit: int
) -> None:
    now, expected, counts = 0.0, [], dict[int, int]()
    for wait in waits:
        now += wait
        if counts.get(index(now), 0) < limit:
            counts[index(now)] = counts.get(index(now), 0) + 1
            expected.append(now)
    assert admitted("fixed", limit, waits) == expected


@given(waits=pauses, limit=limits)
def test_a_window_opened_by_a_request_lasts_its_length(
    waits: list[float], limit: int
) -> None:
    now, opened, counted, expected = 0.0, -math.inf, 0, []
    for wait in waits:
        now += wait
        if now - opened >= PER:
            opened, counted = now, 0
        if counted < limit:
            counted += 1
            expected.append(now)
    assert admitted("first", limit, waits) == expected


@given(waits=pauses, limit=limits)
def test_a_log_looks_back_one_period(waits: list[float], limit: int) -> None:
    now, expected = 0.0, list[float]()
    for wait in waits:
        now += wait
        if sum(now - moment < PER for moment in expected) < limit:
            expected.append(now)
    assert admitted("log", limit, waits) == expected


@pytest.mark.parametrize("rounded", [False, True])
@given(waits=pauses, limit=limits)
def test_a_counter_weighs_the_window_before(
    waits: list[float], limit: int, rounded: bool
) -> None:
    now, expected = 0.0, list[float]()
    for wait in waits:
        now += wait
        before = sum(index(m) == index(now) - 1 for m in expected)
        here = sum(index(m) == index(now) for m in expected)
        left = 1 - ((now - PHASE) / PER - index(now))
        faded = math.floor(before * left + 1e-9) if rounded else before * left
        if faded + here + 1 <= limit + 1e-9:
            expected.append(now)
    kind: WindowKind = "rounded_counter" if rounded else "counter"
    assert admitted(kind, limit, waits) == expected


@given(waits=pauses, limit=limits)
def test_a_bucket_never_gives_more_than_it_held_and_gained(
    waits: list[float], limit: int
) -> None:
    passed = admitted("bucket", limit, waits)
    for i, start in enumerate(passed):
        for j, end in enumerate(passed[i:], 1):
            assert j <= limit + limit / PER * (end - start) + 1e-6


@pytest.mark.parametrize("kind", KINDS)
@given(waits=pauses, limit=limits)
def test_retry_after_is_enough_and_not_much_too_long(
    kind: WindowKind, waits: list[float], limit: int
) -> None:
    window, now = make_window(kind, limit, PER, PHASE), 0.0
    for wait in waits:
        now += wait
        pause = window.retry_after(now)
        if pause > 0:
            assert pause <= 2 * PER * (1 + 1e-5)  # it is rounded upwards
            refused(kind, limit, waits, now, pause)
            return
        window.count(now)


def refused(
    kind: WindowKind, limit: int, waits: list[float], stop: float, pause: float
) -> None:
    """Replay up to ``stop``; a little before the pause is over, it is not over."""
    early, late = (replay(kind, limit, waits, stop) for _ in range(2))
    if pause > 0.01:  # a shorter one has nothing a little before its end
        assert early.retry_after(stop + pause - 0.01) > 0
    assert late.retry_after(stop + pause + 1e-6) == 0


def replay(kind: WindowKind, limit: int, waits: list[float], stop: float) -> Window:
    window, now = make_window(kind, limit, PER, PHASE), 0.0
    for wait in waits:
        now += wait
        if now > stop or window.retry_after(now) > 0:
            break
        window.count(now)
    return window


@pytest.mark.parametrize("kind", KINDS)
@given(waits=pauses, limit=limits)
def test_remaining_is_how_many_are_admitted_at_once(
    kind: WindowKind, waits: list[float], limit: int
) -> None:
    window, now = make_window(kind, limit, PER, PHASE), 0.0
    for wait in waits:
        now += wait
        if window.retry_after(now) <= 0:
            window.count(now)
    promised, taken = window.remaining(now), 0
    while window.retry_after(now) <= 0:
        window.count(now)
        taken += 1
    assert taken == promised


@pytest.mark.parametrize("kind", ["fixed", "first", "log", "counter"])
def test_a_window_that_counts_refusals_stays_shut_for_who_insists(
    kind: WindowKind,
) -> None:
    window = make_window(kind, 2, PER, 0.0)
    for _ in range(5):
        window.count(1.0)
    assert window.remaining(1.0) == 0
    assert window.retry_after(1.0) > 0
