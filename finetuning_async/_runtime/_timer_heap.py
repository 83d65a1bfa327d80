"""The timers of all waiters in one heap. No I/O.

A cancel scope for each waiter would cost 2 KiB and a timer of the event loop. An entry
here costs about 150 bytes, and only the driver of the poll loop sleeps, until the first
deadline.
"""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VOID: Final = 64
"""Void entries that are kept before a clean-up is worth its time."""


class Timed(Protocol):
    """A waiter that can have a timer.

    Attributes:
        timer_id: The number of its entry in the heap; 0 if it has none.
    """

    timer_id: int


W = TypeVar("W", bound=Timed)


class TimerHeap(Generic[W]):
    """At most one timer for each waiter.

    `heapq` cannot remove an entry from the middle. So a cancelled or replaced timer
    stays in the heap as a *void* entry: one whose number is no longer the waiter's
    `timer_id`. Void entries are skipped at the top of the heap, and all are dropped at
    once when they outnumber the active ones; each operation takes O(log n) on average,
    and the heap is never longer than ``2 * active + MAX_VOID``.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, W]] = []
        self._numbers = count(1)
        self._active = 0

    def __len__(self) -> int:
        return self._active

    def schedule(self, waiter: W, at: float) -> None:
        """Set a waiter's timer and replace the one it has, if any; `inf` sets none."""
        self.cancel(waiter)
        if at < inf:
            # The number is never reused, so an entry that became void stays void. It
            # also breaks ties in time: waiters themselves cannot be compared.
            waiter.timer_id = next(self._numbers)
            self._active += 1
            heapq.heappush(self._heap, (at, waiter.timer_id, waiter))

    def cancel(self, waiter: W) -> None:
        """Cancel a waiter's timer, if it has one."""
        if not waiter.timer_id:
            return
        waiter.timer_id = 0
        self._active -= 1
        if len(self._heap) > 2 * self._active + MAX_VOID:
            self._heap = [
                entry for entry in self._heap if entry[1] == entry[2].timer_id
            ]
            heapq.heapify(self._heap)

    def next_deadline(self) -> float:
        """When the first timer expires; `inf` if there is none."""
        while self._heap and self._heap[0][1] != self._heap[0][2].timer_id:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def pop_expired(self, now: float) -> Iterator[W]:
        """Remove the timers that have expired, and yield their waiters in order."""
        while self.next_deadline() <= now:
            waiter = heapq.heappop(self._heap)[2]
            waiter.timer_id = 0
            self._active -= 1
            yield waiter
