"""The turns of an account in one process, whichever of its event loops asks.

    ProcessLimiter    as every client has, unless it or its HTTP client is the caller's
    ProcessLine       the waiters of one budget in one loop, beside those of others

First come, first served holds over all loops: who came first of the heads of their
lines takes the next token. Who becomes first is woken by whoever changed something, in
its own loop, however far away: a look every quarter of a second would do, and would
cost eight loops up to 8 % of their time at a period of three seconds. Should that loop
be busy, or halted, the next one goes ahead a quarter of a second later, and the busy
one is not waited for again until it looks.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async._coordination._process_memory import LOCK, enter
from finetuning_async._pacing import TOLERANCE, Limiter, LocalWaitQueue

if TYPE_CHECKING:
    import random
    from collections import deque

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._coordination._process_memory import Common, Key, Seat
    from finetuning_async._pacing import (
        BudgetStatus,
        Leases,
        QueuedRequest,
        RateLimits,
        Reservation,
        WaitQueue,
    )

PATIENCE: Final = 0.25
"""Seconds for which a token waits for the loop whose turn it is."""

RECHECK: Final = 1.0
"""Seconds after which who waits for an answer looks whether its loop has ended."""


class ProcessWaitQueue(LocalWaitQueue):
    """One loop's waiters for a budget of the process.

    Args:
        name: Of the budget.
        seat: The loop's.

    Attributes:
        common: The budget.
    """

    __slots__ = ("_seat", "_seen", "_seen_at", "common")

    def __init__(self, name: Route, seat: Seat) -> None:
        self.common: Common = seat.shared.budgets[name]
        super().__init__(name, self.common.budget)
        self._seat = seat
        self._seen: object = None  # who was first, at how many tokens, and since when
        self._seen_at = inf

    def __len__(self) -> int:
        """How many wait, in all loops."""
        with LOCK:
            return sum(line.own_length() for line in self.common.lines)

    def own_length(self) -> int:
        """How many wait in this loop."""
        return super().__len__()

    def rank(self) -> tuple[bool, int]:
        """Whose head comes first: the lowest; to be asked where somebody waits."""
        head = self._head()
        return (not self._again, -1 if head is None else head.number)

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens, on the loop's clock."""
        with LOCK:
            now = self._seat.loop.now()
            at = self._seat.time(now)
            return now + (self.budget.opens_at - at)

    def earliest(self, now: float) -> float:
        """When a newcomer could have a token, if those who wait do send."""
        with LOCK:
            at = self._seat.time(now)
            return now + (self.budget.earliest_behind(at, len(self)) - at)

    def status(self, now: float) -> BudgetStatus:
        """The snapshot that people look at."""
        with LOCK:
            at = self._seat.time(now)
            return self.budget.status(at, len(self))

    def try_take(self, now: float, *, first: bool = False) -> Reservation | None:
        """Take a token if one is there and nobody is ahead, in any loop."""
        with LOCK:
            at = self._seat.time(now)
            if self._again or (self._queue and not first):
                return None
            ahead = self.common.first() if self.common.lines else None
            if ahead is not None and not (first and ahead.rank()[0]):
                return None
            soon = at + TOLERANCE
            return None if self.budget.earliest(soon) > soon else self._send(at)

    def _send(self, at: float) -> Reservation:
        seat = self._seat
        seat.used_at = at
        ticket = self.budget.send(at)
        seat.out[ticket] = self._name
        self.common.taken += 1
        return ticket

    def _join(self, queue: deque[QueuedRequest], max_pause: float) -> QueuedRequest:
        with LOCK:
            if not self.own_length():
                self.common.lines.append(self)
            return super()._join(queue, max_pause)

    def _leave(self, queue: deque[QueuedRequest], waiter: QueuedRequest) -> None:
        with LOCK:
            queue.remove(waiter)
            if not self.own_length():
                self.stand_aside()
        self.wake()

    def stand_aside(self) -> None:
        """Let the other lines go ahead."""
        if self in self.common.lines:
            self.common.lines.remove(self)

    def move(self, common: Common) -> None:
        """Wait for the tokens of another budget, or of another's rules."""
        self.stand_aside()
        self.common, self.budget = common, common.budget
        if self.own_length():
            common.lines.append(self)

    def _look(
        self, waiter: QueuedRequest, now: float
    ) -> tuple[Reservation | None, float]:
        with LOCK:
            at = self._seat.time(now)
            if self._head() is not waiter:
                return None, inf
            if self not in self.common.lines:  # it was busy, and passed over
                self.common.lines.append(self)
            soon = at + TOLERANCE
            turn = self.budget.earliest(soon)
            if turn == inf and len(self._seat.shared.seats) > 1:
                self._seat.shared.sweep()
                turn = min(self.budget.earliest(soon), at + RECHECK)
            if turn <= soon:
                self._pass_over_the_late(at)
            is_first = self.common.first() is self
            if turn <= soon and is_first:
                return self._send(at), now
            if not is_first:
                turn = max(min(turn, at + RECHECK), at) + PATIENCE
            return None, now + (turn - at)

    def _pass_over_the_late(self, at: float) -> None:
        """Put who is first aside, if a token has waited for it long enough."""
        common, first = self.common, self.common.first()
        if first is self or first is None:
            return
        if self._seen != (first, common.taken):
            self._seen, self._seen_at = (first, common.taken), at
        elif at >= self._seen_at + PATIENCE - TOLERANCE:
            first.stand_aside()

    def wake(self) -> None:
        """Something changed: who is first looks again."""
        if not self.common.lines:  # who joins now looks after this change
            return
        with LOCK:
            line = self.common.first()
            if line is self:
                super().wake()
            elif line is not None and not line.call_head():
                self._seat.shared.sweep()  # that loop has ended: the next comes first
                self.wake()

    def call_head(self) -> bool:
        """Wake the head from another loop; whether this one still runs."""
        return self._seat.loop.call_soon(super().wake)

    def _ends(self, ticket: Reservation) -> float | None:
        """The time at which a request ends here; `None` if it was given up already.

        By the loop's own clock: the garbage collector may call from another loop.
        """
        at = self._seat.used_at = self._seat.time(self._seat.loop.now())
        return None if self._seat.out.pop(ticket, None) is None else at

    def answered(
        self, ticket: Reservation, now: float, facts: ResponseFacts | None
    ) -> None:
        """As `RateBudget.answered`."""
        with LOCK:
            at = self._ends(ticket)
            if at is not None:
                self.budget.answered(ticket, at, facts)

    def unsent(self, ticket: Reservation, now: float) -> None:
        """As `RateBudget.unsent`."""
        with LOCK:
            at = self._ends(ticket)
            if at is not None:
                self.budget.unsent(ticket, at)

    def abandoned(self, ticket: Reservation, now: float, linger: float) -> None:
        """As `RateBudget.abandoned`."""
        with LOCK:
            at = self._ends(ticket)
            if at is not None:
                self.budget.abandoned(ticket, at, linger)

    def refused(
        self, now: float, retry_after: float | None, ticket: Reservation | None
    ) -> None:
        """As `RateBudget.refused`; those who will not wait that long leave."""
        with LOCK:
            at = self._seat.time(now)
            self.budget.refused(at, retry_after, ticket)
            for line in self.common.lines:
                line.call_the_unwilling()

    def call_the_unwilling(self) -> None:
        """Wake those who will not wait for the gate, from whatever loop."""
        loop = self._seat.loop  # anyio tells no time where no task runs
        loop.call_soon(lambda: self._wake_the_unwilling(self.opens_at - loop.now()))


class ProcessLimiter(Limiter):
    """The turns of an account in one event loop, shared with the others of the process.

    Those whose clock is not the machine's have limits of their own, as any `Limiter`.

    Args:
        limits: The limits; `None` if only the gates of 429s hold anything.
        rng: Where jitter comes from.
        key: Whose turns these are.
    """

    def __init__(
        self, limits: RateLimits | None, *, rng: random.Random, key: Key
    ) -> None:
        super().__init__(limits, rng=rng)
        self._key = key

    def _new_lines(self) -> dict[Route, WaitQueue]:
        seat = enter(self._key, self._limits, self._rng, ProcessWaitQueue)
        if seat is None:
            self._settled, self._now = {}, anyio.current_time
            return super()._new_lines()
        self._settled, self._now = seat.shared.settled, seat.loop.now
        return cast("dict[Route, WaitQueue]", seat.lines)

    def _settle(self, route: Route, leases: Leases, facts: ResponseFacts) -> None:
        """As `Limiter._settle`, in one step: none sends between a 429 and its gate."""
        with LOCK:
            super()._settle(route, leases, facts)
