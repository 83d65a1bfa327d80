"""The requests that wait for a token of one rate budget, in the order of a dealer.

LocalWaitQueue   the queue of a rate budget that nothing else uses
QueuedRequest    one request that waits in it

There is no background task. The request at the head sleeps until its token is due; the
others sleep until they are at the head. A request takes its token itself, in the step
in which it wakes and returns. So a request that is cancelled, in the queue or at that
very instant, holds no token, and its departure wakes the next head.

A create needs a token and a place in the service's queue at the same moment. Both are
looked at in that one step, so that there is one line and not two: a create that waited
for its token with a place in its hands would keep that place from one of higher
priority, and in two lines each lower priority would be passed over twice as often.
"""

from __future__ import annotations

from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from finetuning_async._errors import RateLimitError
from finetuning_async._pacing._dealer import LOW
from finetuning_async._pacing._fair_queue import FairQueue
from finetuning_async._pacing._queue_protocols import ANY_REQUEST, LineState
from finetuning_async._rate_codes import CODES
from finetuning_async._runtime import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._pacing._limits import BudgetStatus
    from finetuning_async._pacing._queue_protocols import QueueGate, Terms
    from finetuning_async._pacing._rate_budget import RateBudget
    from finetuning_async._pacing._reservation import Reservation

TOLERANCE: Final = 1e-6
"""Seconds by which a timer may fire early: float noise of the loop's clock, far below
the margin of a lease."""

_arrivals = count()


def check_pause(name: Route, opens_at: float, now: float, max_pause: float) -> None:
    """Check that a call is willing to wait for the gate of a 429.

    Args:
        name: Name of the rate budget.
        opens_at: When the gate opens, in seconds of the loop's clock.
        now: Likewise.
        max_pause: Longest pause, in seconds, that the call would wait.

    Raises:
        RateLimitError: The gate is closed for longer than `max_pause` seconds.
    """
    pause = opens_at - now
    if pause > max_pause:
        raise RateLimitError(
            f"rate limited: the service asked for a wait of {_rounded(pause)} s, longer"
            f" than the {_rounded(max_pause)} s that max_retry_wait and the call's"
            " timeout allow; raise them to wait that long",
            status_code=429,
            code=CODES[name],
            retry_after=pause,
            safe_to_retry=True,
        )


def _rounded(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


class QueuedRequest(Wakeup):
    """One request that waits for a token.

    Attributes:
        rank: Of its priority.
        share: For whom it is.
        is_repetition: Whether it was sent and refused before.
        arrival: Its place among all requests that ever waited, in any queue.
        is_queued: Whether it still waits.
        max_pause: Longest time in seconds that it waits for the gate of a 429.
        gate: The service's queue; `None` if that is no concern.
        is_parked: Whether it waits for nothing but that.
    """

    __slots__ = (
        "_is_at_gate",
        "arrival",
        "gate",
        "is_parked",
        "is_queued",
        "is_repetition",
        "max_pause",
        "rank",
        "share",
    )

    def __init__(self, terms: Terms, max_pause: float, *, first: bool) -> None:
        super().__init__()
        self.rank: int = terms.rank
        self.share: str | None = terms.share
        self.is_repetition: bool = first
        self.arrival: int = next(_arrivals)
        self.is_queued: bool = False
        self.max_pause: float = max_pause
        self.gate: QueueGate | None = terms.gate
        self.is_parked: bool = False
        self._is_at_gate: bool = False

    def look_again(self) -> None:
        """Wake it, wherever it waits."""
        if self._is_at_gate and self.gate is not None:
            self.gate.wake()
        else:
            self.wake()

    async def sleep(self, until: float) -> None:
        """Wait until it is woken, or until a time of the loop's clock.

        A head waits at its gate, whatever it waits for. Else no one would see the ends
        of tracks whose callers do not wait for them, and creates would go out on a
        wrong count of what is in progress.
        """
        if self.gate is None or (until == inf and not self.is_parked):
            await self.wait_until(until)
            return
        was_parked, began = self.is_parked, anyio.current_time()
        self._is_at_gate = True
        try:
            await self.gate.wait(until)
        finally:
            self._is_at_gate = self.is_parked = False
            if was_parked:
                self.gate.waited += anyio.current_time() - began


class LocalWaitQueue:
    """The queue of a rate budget that nothing else uses; see `WaitQueue`.

    Args:
        name: Name of the rate budget, a key of `CODES`.
        rate_budget: Its rules.
        waiting: Where its requests wait; by default in a queue of its own.
    """

    __slots__ = ("_name", "rate_budget", "waiting")

    def __init__(
        self,
        name: Route,
        rate_budget: RateBudget,
        waiting: FairQueue[QueuedRequest] | None = None,
    ) -> None:
        self.rate_budget: RateBudget = rate_budget
        self.waiting: FairQueue[QueuedRequest] = (
            FairQueue() if waiting is None else waiting
        )
        self._name = name

    def __repr__(self) -> str:
        return f"{self.rate_budget!r}, {len(self)} waiting"

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; a time in the past if it is open."""
        return self.rate_budget.opens_at

    def earliest(self, now: float, terms: Terms = ANY_REQUEST) -> float:
        """When a new request could have a token, if all before it are sent."""
        ahead = self.waiting.surely_ahead_of(terms.rank, terms.share)
        return self.rate_budget.earliest_behind(now, ahead)

    def status(self, now: float) -> BudgetStatus:
        """The public snapshot."""
        return self.rate_budget.status(now, len(self))

    def line_state(self, now: float, creates: int, terms: Terms) -> LineState:
        """What is known of the line, if `creates` requests joined it now."""
        counts = self._counts()
        times = [at - now for at in self.rate_budget.token_times(now)]
        return self.line_state_with(counts, times, creates, terms)

    def places(self) -> Iterable[tuple[int, QueuedRequest]]:
        """The requests of this loop that wait, each with how many go before it."""
        return self.waiting.places(self._counts())

    def line_state_with(
        self, counts: list[int], tokens: list[float], creates: int, terms: Terms
    ) -> LineState:
        """As `line_state`, with counts and tokens that are known better elsewhere."""
        first, last = (
            self.waiting.ahead_of(terms.rank, terms.share, joined, counts)
            for joined in (0, creates - 1)
        )
        return LineState(
            first=first,
            last=last,
            waiting=tuple(counts),
            tokens=tuple(tokens),
            lease=self.rate_budget.lease,
            gap=self.rate_budget.gap,
        )

    def _counts(self) -> list[int]:
        """How many requests wait at each rank for this rate budget."""
        return self.waiting.counts()

    def try_take(
        self, now: float, *, first: bool = False, terms: Terms = ANY_REQUEST
    ) -> Reservation | None:
        """Take a token if one is free and no request is ahead.

        Those of low priority always wait in the line; see `Limiter`.
        """
        head = self.waiting.head()
        if head is not None and not (first and goes_before(terms, head)):
            return None
        soon = now + TOLERANCE
        if self.rate_budget.earliest(soon) > soon:
            return None
        return self.rate_budget.send(now)

    async def take(
        self, *, first: bool, max_pause: float, terms: Terms = ANY_REQUEST
    ) -> Reservation:
        """Wait for a token.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        request = QueuedRequest(terms, max_pause, first=first)
        self._join(request)
        try:
            if request.rank == LOW:
                # The first of a batch must not go before the others have joined: only
                # their number shows whether they are to be spaced.
                await anyio.lowlevel.checkpoint()
            while True:
                now = anyio.current_time()
                check_pause(self._name, self.opens_at, now, request.max_pause)
                # No await lies between taking the token and returning it. So a
                # cancellation finds the request either without a token, in one of the
                # waits below, or back in its caller, which owns the token then.
                reservation, look_at = self._take_if_first(request, now)
                if reservation is not None:
                    return reservation
                # Nothing is awaited between the look and this: whatever changes from
                # here on wakes it.
                await request.sleep(look_at)
        finally:
            request.cancel_timer()
            self._leave(request)

    def _join(self, request: QueuedRequest) -> None:
        self.waiting.add(request)

    def _leave(self, request: QueuedRequest) -> None:
        # Whether it was the head is not asked: where several classes wait, the
        # departure of any may change whose turn it is.
        self.waiting.discard(request)
        self.wake()  # the new head sleeps without a timer

    def _take_if_first(
        self, request: QueuedRequest, now: float
    ) -> tuple[Reservation | None, float]:
        """Take a token if the request is the head and one is due.

        Returns:
            The reservation, or `None` and the time at which the request looks again;
            `inf` if only a change can help it.
        """
        if self.waiting.head() is not request:
            return None, inf
        due = self._due_at(request, now + TOLERANCE)
        if due > now + TOLERANCE or request.is_parked:
            return None, due
        return self._send(request, now), now

    def _due_at(self, request: QueuedRequest, soon: float) -> float:
        """When the head may go out; it is parked if only the service's queue is full.

        Args:
            request: The head.
            soon: Now, and a little later; see `TOLERANCE`.
        """
        due = self.rate_budget.earliest(soon)
        ranks = self._ranks()
        if request.rank == LOW and len(ranks) == 1:  # else it goes between others
            due = max(due, self.rate_budget.spaced(soon, self._count_low()))
        if due > soon or request.gate is None:
            return due
        opens_at = self._gate_opens_at(request.gate)
        request.is_parked = opens_at > soon
        return opens_at if request.is_parked else soon

    def _gate_opens_at(self, gate: QueueGate) -> float:
        """When the service's queue takes one more, in the time of the rate budget."""
        return gate.opens_at()

    def _ranks(self) -> tuple[int, ...]:
        """The ranks at which requests wait for this rate budget."""
        return self.waiting.ranks

    def _count_low(self) -> int:
        """How many requests of low priority wait for this rate budget."""
        return self.waiting.count(LOW)

    def _send(self, request: QueuedRequest, now: float) -> Reservation:
        self.waiting.deal(request, self._ranks())
        if request.gate is not None:
            request.gate.take()
        return self.rate_budget.send(now, is_low=request.rank == LOW)

    def wake(self) -> None:
        """Let the head of the queue look again, since something has changed."""
        head = self.waiting.head()
        if head is not None:
            head.look_again()

    def on_response(
        self, reservation: Reservation, now: float, facts: ResponseFacts | None
    ) -> None:
        """See `RateBudget.on_response`."""
        self.rate_budget.on_response(reservation, now, facts)

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """See `RateBudget.on_unsent`."""
        self.rate_budget.on_unsent(reservation, now)

    def on_abandoned(self, reservation: Reservation, now: float, linger: float) -> None:
        """See `RateBudget.on_abandoned`."""
        self.rate_budget.on_abandoned(reservation, now, linger)

    def on_refused(
        self, now: float, retry_after: float | None, reservation: Reservation | None
    ) -> None:
        """See `RateBudget.on_refused`; requests that will not wait that long fail."""
        self.rate_budget.on_refused(now, retry_after, reservation)
        self._wake_impatient(self.rate_budget.opens_at - now)

    def _wake_impatient(self, pause: float) -> None:
        """Wake the requests that will not wait for the gate, so that they raise."""
        for request in self.waiting:
            if request.max_pause < pause:
                request.look_again()


def goes_before(terms: Terms, head: QueuedRequest) -> bool:
    """Whether a repetition goes before the head, which is of its own share then."""
    is_own = head.rank == terms.rank and head.share == terms.share
    return is_own and not head.is_repetition
