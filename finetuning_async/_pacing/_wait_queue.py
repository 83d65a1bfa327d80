"""The waiters of one budget, first come, first served.

    Line         what the limiter asks of one budget: a token, and what becomes of it
    LocalLine    a budget of this process alone

There is no background task: the waiter at the head of a line sleeps until its turn, the
others sleep until they are the head. A waiter takes its token itself, in the step in
which it wakes and returns; so one that is cancelled, in the line or at that very
instant, holds nothing, and hands the head to the next.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import attrs

from finetuning_async._errors import RateLimitError
from finetuning_async._rate_codes import CODES

if TYPE_CHECKING:
    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._pacing._limits import BudgetStatus
    from finetuning_async._pacing._rate_budget import RateBudget
    from finetuning_async._pacing._reservation import Reservation

TOLERANCE: Final = 1e-6
"""Seconds by which a timer may be early: float noise of the loop's clock, far below the
margin of a lease."""


GROUP_SIZE: Final = 16
"""Neighbours in a line that are woken together: an event for each would be half of the
memory of a waiter, and only the head of the line does anything when woken."""

_numbers = count()


class WaitQueue(Protocol):
    """One budget, as the limiter uses it; a ticket is whatever `take` gave.

    Times are seconds of the loop's clock.
    """

    @property
    def rate_budget(self) -> RateBudget:
        """The books of this process."""

    def __len__(self) -> int:
        """How many wait."""

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; in the past if none holds."""

    def try_take(self, now: float, *, first: bool = False) -> Any:
        """Take a token if one is there and nobody is ahead; else `None`."""

    async def take(self, *, first: bool, max_pause: float) -> Any:
        """Wait for a token; cancelled, it takes none.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """

    def on_response(self, ticket: Any, now: float, facts: ResponseFacts | None) -> None:
        """A request was answered; `None` if the facts may be of another budget."""

    def on_unsent(self, ticket: Any, now: float) -> None:
        """No byte of a request left."""

    def on_abandoned(self, ticket: Any, now: float, linger: float) -> None:
        """The answer of a request will not be read."""

    def on_refused(self, now: float, retry_after: float | None, ticket: Any) -> None:
        """A 429 of this budget arrived; for `ticket`, if it took from this budget."""

    def earliest(self, now: float) -> float:
        """When a newcomer could have a token: a lower bound."""

    def status(self, now: float) -> BudgetStatus:
        """The snapshot that people look at."""

    def wake(self) -> None:
        """What was booked may change whose turn it is."""


def check_pause(name: Route, opens_at: float, now: float, max_pause: float) -> None:
    """Check that a caller is willing to wait for the gate of a 429.

    Args:
        name: Of the budget.
        opens_at: When the gate opens, on the loop's clock.
        now: Likewise.
        max_pause: Seconds that the caller would wait.

    Raises:
        RateLimitError: It is closed for longer than `max_pause` seconds.
    """
    pause = opens_at - now
    if pause > max_pause:
        raise RateLimitError(
            f"the service asked to wait {pause:.0f} s, longer than the {max_pause:g} s"
            " that max_retry_wait and the call's timeout leave",
            status_code=429,
            code=CODES[name],
            retry_after=pause,
            safe_to_retry=True,
        )


@attrs.define(eq=False, weakref_slot=False)
class WakeupGroup:
    """Neighbours in a line; their event wakes them to look again."""

    seated: int = 0
    _event: anyio.Event | None = None

    def event(self) -> anyio.Event:
        """What to wait for; the next `wake` sets it."""
        if self._event is None:
            self._event = anyio.Event()
        return self._event

    def wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None


@attrs.define(eq=False, weakref_slot=False)
class QueuedRequest:
    """One call that waits.

    Attributes:
        max_pause: Seconds that it waits for the gate of a 429.
        group: Where.
        arrival: Its place among all who ever waited, in any line.
    """

    max_pause: float
    group: WakeupGroup
    arrival: int = attrs.field(factory=_numbers.__next__)


class LocalWaitQueue:
    """The waiters of a budget of this process alone; see `WaitQueue`.

    Args:
        name: Of the budget, one of `CODES`.
        budget: Its rules.
    """

    __slots__ = ("_name", "_newcomers", "_retries", "rate_budget")

    def __init__(self, name: Route, budget: RateBudget) -> None:
        self.rate_budget: RateBudget = budget
        self._name = name
        self._retries: deque[QueuedRequest] = (
            deque()
        )  # were refused once, go before the others
        self._newcomers: deque[QueuedRequest] = deque()

    def __repr__(self) -> str:
        return f"{self.rate_budget!r}, {len(self)} waiting"

    def __len__(self) -> int:
        return len(self._retries) + len(self._newcomers)

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; in the past if none holds."""
        return self.rate_budget.opens_at

    def earliest(self, now: float) -> float:
        """When a newcomer could have a token, if those who wait do send."""
        return self.rate_budget.earliest_behind(now, len(self))

    def status(self, now: float) -> BudgetStatus:
        """The snapshot that people look at."""
        return self.rate_budget.status(now, len(self))

    def try_take(self, now: float, *, first: bool = False) -> Reservation | None:
        """Take a token if one is there and nobody is ahead."""
        if self._retries or (self._newcomers and not first):
            return None
        soon = now + TOLERANCE
        if self.rate_budget.earliest(soon) > soon:
            return None
        return self.rate_budget.send(now)

    async def take(self, *, first: bool, max_pause: float) -> Reservation:
        """Wait for a token.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        queue = self._retries if first else self._newcomers
        waiter = self._join(queue, max_pause)
        try:
            while True:
                now = anyio.current_time()
                check_pause(self._name, self.opens_at, now, waiter.max_pause)
                ticket, look_at = self._take_if_first(waiter, now)
                if ticket is not None:
                    return ticket
                event = waiter.group.event()
                if look_at == inf:
                    await event.wait()
                else:
                    with anyio.CancelScope(deadline=look_at):
                        await event.wait()
        finally:
            self._leave(queue, waiter)

    def _join(self, queue: deque[QueuedRequest], max_pause: float) -> QueuedRequest:
        waiter = _seat(queue, max_pause)
        queue.append(waiter)
        return waiter

    def _leave(self, queue: deque[QueuedRequest], waiter: QueuedRequest) -> None:
        was_head = self._head() is waiter
        queue.remove(waiter)
        if was_head:
            self.wake()

    def _take_if_first(
        self, waiter: QueuedRequest, now: float
    ) -> tuple[Reservation | None, float]:
        """Take a token, if it is the waiter's turn; else when it looks again."""
        if self._head() is not waiter:
            return None, inf
        soon = now + TOLERANCE
        turn = self.rate_budget.earliest(soon)
        return (None, turn) if turn > soon else (self.rate_budget.send(now), now)

    def wake(self) -> None:
        """Something changed: the head looks again."""
        head = self._head()
        if head is not None:
            head.group.wake()

    def on_response(
        self, ticket: Reservation, now: float, facts: ResponseFacts | None
    ) -> None:
        """As `RateBudget.on_response`."""
        self.rate_budget.on_response(ticket, now, facts)

    def on_unsent(self, ticket: Reservation, now: float) -> None:
        """As `RateBudget.on_unsent`."""
        self.rate_budget.on_unsent(ticket, now)

    def on_abandoned(self, ticket: Reservation, now: float, linger: float) -> None:
        """As `RateBudget.on_abandoned`."""
        self.rate_budget.on_abandoned(ticket, now, linger)

    def on_refused(
        self, now: float, retry_after: float | None, ticket: Reservation | None
    ) -> None:
        """As `RateBudget.on_refused`; those who will not wait that long leave."""
        self.rate_budget.on_refused(now, retry_after, ticket)
        self._wake_impatient(self.rate_budget.opens_at - now)

    def _wake_impatient(self, pause: float) -> None:
        for queue in (self._retries, self._newcomers):
            for waiter in queue:
                if waiter.max_pause < pause:
                    waiter.group.wake()

    def _head(self) -> QueuedRequest | None:
        queue = self._retries or self._newcomers
        return queue[0] if queue else None


def _seat(queue: deque[QueuedRequest], max_pause: float) -> QueuedRequest:
    """A waiter beside the last of the queue, if there is a seat."""
    group = queue[-1].group if queue else WakeupGroup()
    if group.seated >= GROUP_SIZE:
        group = WakeupGroup()
    group.seated += 1
    return QueuedRequest(max_pause, group)
