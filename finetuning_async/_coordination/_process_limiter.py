"""The permits of an account in one process, for all of its event loops.

    ProcessLimiter     what every client has, unless the caller passes a limiter or an
                       HTTP client
    ProcessWaitQueue   the requests of one loop that wait for one budget, beside those
                       of other loops

The order of a dealer holds over all loops: of the heads of their queues, the one whose
turn it is takes the next token. Whichever loop changes something wakes the head that is
now first, in that head's own loop. (Polling every quarter of a second would
also work, but would cost eight loops up to 8 % of their time at a period of three
seconds.) If that loop is busy or does not run, the next head goes ahead a quarter of a
second later, and the busy loop is not waited for again until it looks.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async._api import PRIORITIES
from finetuning_async._coordination._process_memory import LOCK, attach_loop
from finetuning_async._pacing import (
    ANY_REQUEST,
    LOW,
    TOLERANCE,
    FairQueue,
    Limiter,
    LocalWaitQueue,
    goes_before,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._coordination._process_memory import (
        AccountKey,
        AttachedLoop,
        ProcessBudget,
    )
    from finetuning_async._pacing import (
        BudgetStatus,
        LineState,
        QueuedRequest,
        QueueGate,
        RateLimits,
        Reservation,
        Reservations,
        Terms,
        WaitQueue,
    )

PATIENCE: Final = 0.25
"""Seconds for which a free token waits for the loop whose request is first."""

RECHECK: Final = 1.0
"""Seconds after which a request that waits for a response of another loop checks
whether that loop has ended."""


class ProcessWaitQueue(LocalWaitQueue):
    """The requests of one loop that wait for a budget of the process.

    Args:
        name: Of the budget.
        loop: The loop.

    Attributes:
        process_budget: The budget.
    """

    __slots__ = ("_awaited", "_awaited_since", "_loop", "process_budget")

    def __init__(self, name: Route, loop: AttachedLoop) -> None:
        self.process_budget: ProcessBudget = loop.account.budgets[name]
        budget = self.process_budget
        super().__init__(name, budget.rate_budget, FairQueue(budget.dealer))
        self._loop = loop
        # The queue that was first when a token was free, after how many tokens, and
        # since when: for `_pass_over_late_loop`.
        self._awaited: object = None
        self._awaited_since = inf

    def __len__(self) -> int:
        """Return how many requests wait, in all loops."""
        with LOCK:
            return sum(queue.own_length() for queue in self.process_budget.queues)

    def own_length(self) -> int:
        """Return how many requests wait in this loop."""
        return super().__len__()

    def head(self) -> QueuedRequest | None:
        """Return the first of its requests, if it were the turn of this loop."""
        rank = self.process_budget.next_rank()
        head = None if rank is None else self.waiting.head(rank)
        return head or self.waiting.head()

    def _ranks(self) -> tuple[int, ...]:
        return self.process_budget.ranks() or self.waiting.ranks

    def line_state(self, now: float, creates: int, terms: Terms) -> LineState:
        """Return what is known of the line, in all loops."""
        with LOCK:
            return super().line_state(self._loop.machine_time(now), creates, terms)

    def places(self) -> Iterable[tuple[int, QueuedRequest]]:
        """Return the requests of this loop, each with how many of all go before it."""
        with LOCK:
            return list(super().places())

    def _counts(self) -> list[int]:
        ranks = range(len(PRIORITIES))
        return [self.process_budget.count(rank) for rank in ranks]

    def _count_low(self) -> int:
        return self.process_budget.count(LOW)

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens, on the loop's clock."""
        with LOCK:
            now = self._loop.handle.now()
            at = self._loop.machine_time(now)
            return now + (self.rate_budget.opens_at - at)

    def earliest(self, now: float, terms: Terms = ANY_REQUEST) -> float:
        """When a new request could have a token if those before it are sent."""
        with LOCK:
            at = self._loop.machine_time(now)
            # Of those in other loops none is surely before it, unless all are alike.
            ahead = self.process_budget.surely_ahead_of(terms.rank, terms.share)
            return now + (self.rate_budget.earliest_behind(at, ahead) - at)

    def status(self, now: float) -> BudgetStatus:
        """Return the snapshot for users."""
        with LOCK:
            at = self._loop.machine_time(now)
            return self.rate_budget.status(at, len(self))

    def try_take(
        self, now: float, *, first: bool = False, terms: Terms = ANY_REQUEST
    ) -> Reservation | None:
        """Take a token if one is free and no request of any loop is ahead.

        Those of low priority always wait in the line; see `Limiter`.
        """
        with LOCK:
            at = self._loop.machine_time(now)
            budget = self.process_budget
            # A loop that was passed over or stepped aside may have requests of its own.
            if budget.queues or self.waiting.ranks:
                queue = budget.first_queue()
                head = self.head() if queue is None else queue.head()
                if head is not None and not (first and goes_before(terms, head)):
                    return None
            soon = at + TOLERANCE
            if self.rate_budget.earliest(soon) > soon:
                return None
            return self._charge(at)

    def _charge(self, at: float, *, is_low: bool = False) -> Reservation:
        loop = self._loop
        loop.used_at = at
        reservation = self.rate_budget.send(at, is_low=is_low)
        loop.in_flight[reservation] = self._name
        self.process_budget.taken += 1
        return reservation

    def _join(self, request: QueuedRequest) -> None:
        with LOCK:
            if not self.own_length():
                self.process_budget.queues.append(self)
            super()._join(request)

    def _leave(self, request: QueuedRequest) -> None:
        with LOCK:
            self.waiting.discard(request)
            if not self.own_length():
                self.step_aside()
                self.process_budget.forget_turns()
        self.wake()

    def step_aside(self) -> None:
        """Let the queues of other loops go first."""
        if self in self.process_budget.queues:
            self.process_budget.queues.remove(self)

    def move_to(self, process_budget: ProcessBudget) -> None:
        """Wait for another budget from now on, or for one with other rules."""
        self.step_aside()
        self.process_budget = process_budget
        self.rate_budget = process_budget.rate_budget
        self.waiting.use(process_budget.dealer)
        if self.own_length():
            process_budget.queues.append(self)

    def _take_if_first(
        self, request: QueuedRequest, now: float
    ) -> tuple[Reservation | None, float]:
        with LOCK:
            at = self._loop.machine_time(now)
            if self.head() is not request:
                return None, inf
            if self not in self.process_budget.queues:  # passed over, or aside
                self.process_budget.queues.append(self)
            soon = at + TOLERANCE
            earliest = self._due_at(request, soon)
            if request.is_parked:
                return None, self._let_others_go(now, at, earliest)
            # It depends on a response. The loop that would read it may have ended
            # without a word; abandoning its requests frees this one.
            if earliest == inf and len(self._loop.account.loops) > 1:
                self._loop.account.sweep()
                earliest = min(self._due_at(request, soon), at + RECHECK)
            if earliest <= soon:
                self._pass_over_late_loop(at)
            is_first = self.process_budget.first_queue() is self
            if earliest <= soon and is_first:
                return self._send(request, at), now
            if not is_first:  # look again in case the loop whose head is first is late
                earliest = min(earliest, at + RECHECK) + PATIENCE
            return None, now + (earliest - at)

    def _send(self, request: QueuedRequest, now: float) -> Reservation:
        self.waiting.deal(request, self._ranks())
        if request.gate is not None:
            request.gate.take()
        return self._charge(now, is_low=request.rank == LOW)

    def _gate_opens_at(self, gate: QueueGate) -> float:
        return gate.opens_at() - self._loop.offset

    def _let_others_go(self, now: float, at: float, opens_at: float) -> float:
        """Step aside while the service's queue is full of this loop's tracks.

        Returns:
            When the head looks again, on the loop's clock.
        """
        if len(self.process_budget.queues) > 1:
            self.step_aside()
            self.wake()
        return now + (opens_at - at)

    def _pass_over_late_loop(self, at: float) -> None:
        """Skip the loop whose head is first if a token has waited for it long enough.

        It may be busy in a callback, or stopped in a debugger. The others must not wait
        for it with a free token. `taken` starts the time again with each token.
        """
        budget, first = self.process_budget, self.process_budget.first_queue()
        if first is self or first is None:
            return
        if self._awaited != (first, budget.taken):
            self._awaited, self._awaited_since = (first, budget.taken), at
        elif at >= self._awaited_since + PATIENCE - TOLERANCE:
            first.step_aside()

    def wake(self) -> None:
        """Let the request that is first, in any loop, look again."""
        if not self.process_budget.queues:  # one that joins now looks after this change
            return
        with LOCK:
            queue = self.process_budget.first_queue()
            if queue is self:
                self.wake_own_head()
            elif queue is not None and not queue.wake_head():
                self._loop.account.sweep()  # that loop has ended: the next one is first
                self.wake()

    def wake_head(self) -> bool:
        """Wake the head from another loop; return whether this loop still exists."""
        return self._loop.handle.call_soon(self.wake_own_head)

    def wake_own_head(self) -> None:
        """Wake the head of this loop, within it."""
        with LOCK:
            head = self.head()
        if head is not None:
            head.look_again()

    def _end(self, reservation: Reservation) -> float | None:
        """Return the time at which a request ends; `None` if it was abandoned before.

        By the loop's own clock and not by the caller's: the garbage collector may call
        from another loop.
        """
        loop = self._loop
        at = loop.used_at = loop.machine_time(loop.handle.now())
        return None if loop.in_flight.pop(reservation, None) is None else at

    def on_response(
        self, reservation: Reservation, now: float, facts: ResponseFacts | None
    ) -> None:
        """As `RateBudget.on_response`."""
        with LOCK:
            at = self._end(reservation)
            if at is not None:
                self.rate_budget.on_response(reservation, at, facts)

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """As `RateBudget.on_unsent`."""
        with LOCK:
            at = self._end(reservation)
            if at is not None:
                self.rate_budget.on_unsent(reservation, at)

    def on_abandoned(self, reservation: Reservation, now: float, linger: float) -> None:
        """As `RateBudget.on_abandoned`."""
        with LOCK:
            at = self._end(reservation)
            if at is not None:
                self.rate_budget.on_abandoned(reservation, at, linger)

    def on_refused(
        self, now: float, retry_after: float | None, reservation: Reservation | None
    ) -> None:
        """As `RateBudget.on_refused`; requests that will not wait that long fail."""
        with LOCK:
            at = self._loop.machine_time(now)
            self.rate_budget.on_refused(at, retry_after, reservation)
            for queue in self.process_budget.queues:
                queue.wake_impatient()

    def wake_impatient(self) -> None:
        """Wake requests that will not wait for the gate, from any loop."""
        # The loop's own clock is asked: `anyio.current_time` fails outside of a task.
        handle = self._loop.handle
        handle.call_soon(lambda: self._wake_impatient(self.opens_at - handle.now()))


class ProcessLimiter(Limiter):
    """The permits of an account in one event loop, shared with the process's others.

    A loop whose clock is not the machine's has limits of its own, as with `Limiter`.

    Args:
        limits: The limits; `None` if only the gates of 429s hold.
        rng: Where jitter comes from.
        key: Whose permits these are.
    """

    def __init__(
        self, limits: RateLimits | None, *, rng: random.Random, key: AccountKey
    ) -> None:
        super().__init__(limits, rng=rng)
        self._key = key

    def _new_queues(self) -> dict[Route, WaitQueue]:
        loop = attach_loop(self._key, self._limits, self._rng, ProcessWaitQueue)
        if loop is None:
            self._learned_budgets, self._now = {}, anyio.current_time
            return super()._new_queues()
        self._learned_budgets = loop.account.learned_budgets
        self._now = loop.handle.now
        return cast("dict[Route, WaitQueue]", loop.queues)

    def _on_response(
        self, route: Route, reservations: Reservations, facts: ResponseFacts
    ) -> None:
        """As `Limiter`, in one step: none is sent between a 429 and its gate."""
        with LOCK:
            super()._on_response(route, reservations, facts)
