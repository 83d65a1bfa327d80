"""`TimerHeap`: timers in order, without a loop."""

from __future__ import annotations

from math import inf

import attrs
from hypothesis import given, strategies as st

from finetuning_async._runtime._timer_heap import MAX_VOID, TimerHeap


@attrs.define(eq=False)
class Waiter:
    name: int
    timer_id: int = 0


@given(st.lists(st.tuples(st.integers(0, 20), st.none() | st.floats(0, 100))))
def test_each_waiters_last_timer_expires_in_order(
    settings: list[tuple[int, float | None]],
) -> None:
    timers: TimerHeap[Waiter] = TimerHeap()
    waiters = [Waiter(n) for n in range(21)]
    expected: dict[int, float] = {}
    for number, at in settings:
        expected.pop(number, None)
        if at is None:
            timers.cancel(waiters[number])
        else:
            timers.schedule(waiters[number], at)
            expected[number] = at
        assert len(timers) == len(expected)
        assert timers.next_deadline() == min(expected.values(), default=inf)
    expired = [waiter.name for waiter in timers.pop_expired(50.0)]
    assert [expected[n] for n in expired] == sorted(
        t for t in expected.values() if t <= 50
    )
    assert {waiter.timer_id for waiter in map(waiters.__getitem__, expired)} <= {0}
    assert timers.next_deadline() > 50.0


def test_void_entries_are_removed() -> None:
    timers: TimerHeap[Waiter] = TimerHeap()
    keeper = Waiter(0)
    timers.schedule(keeper, 1e9)
    for number in range(10_000):
        waiter = Waiter(number)
        timers.schedule(waiter, 1e6 + number)
        timers.cancel(waiter)
        assert len(timers._heap) <= 2 + MAX_VOID + 1
    assert timers.next_deadline() == 1e9


def test_an_infinite_deadline_sets_no_timer() -> None:
    timers: TimerHeap[Waiter] = TimerHeap()
    timers.schedule(Waiter(0), inf)
    assert (len(timers), timers.next_deadline()) == (0, inf)
