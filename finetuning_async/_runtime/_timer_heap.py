"""The deadlines of all waiters, in one heap. No I/O.

A cancel scope for each waiter would cost 2 KiB and a timer of the event loop; an entry
here costs about 150 bytes, and only the driver of the poll loop sleeps until the first.
"""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

VOID_KEPT: Final = 64
"""Void entries that are not worth a clean-up."""


class Sleeper(Protocol):
    """Whoever can have an alarm.

    Attributes:
        alarm: The number of its entry; 0 if it has none.
    """

    alarm: int


S = TypeVar("S", bound=Sleeper)


class TimerHeap(Generic[S]):
    """At most one alarm for each waiter."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, S]] = []
        self._numbers = count(1)
        self._set = 0

    def __len__(self) -> int:
        return self._set

    def set(self, waiter: S, at: float) -> None:
        """Set a waiter's alarm, instead of the one it may have; `inf` sets none."""
        self.drop(waiter)
        if at < inf:
            waiter.alarm = next(self._numbers)
            self._set += 1
            heapq.heappush(self._heap, (at, waiter.alarm, waiter))

    def drop(self, waiter: S) -> None:
        """Take a waiter's alarm away, if it has one."""
        if not waiter.alarm:
            return
        waiter.alarm = 0
        self._set -= 1
        if len(self._heap) > 2 * self._set + VOID_KEPT:
            self._heap = [entry for entry in self._heap if entry[1] == entry[2].alarm]
            heapq.heapify(self._heap)

    def first(self) -> float:
        """When the first alarm rings; `inf` if there is none."""
        while self._heap and self._heap[0][1] != self._heap[0][2].alarm:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def expire_deadlines(self, now: float) -> Iterator[S]:
        """Take out everybody whose time has come."""
        while self.first() <= now:
            waiter = heapq.heappop(self._heap)[2]
            waiter.alarm = 0
            self._set -= 1
            yield waiter
