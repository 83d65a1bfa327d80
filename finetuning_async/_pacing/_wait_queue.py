"""The requests that wait for a token of one rate budget, first come, first served.

WaitQueue        what the limiter needs of a queue: tokens, and how requests ended
LocalWaitQueue   the queue of a rate budget that nothing else uses

There is no background task. The request at the head sleeps until its token is due; the
others sleep until they are at the head. A request takes its token itself, in the step
in which it wakes and returns. So a request that is cancelled, in the queue or at that
very instant, holds no token, and its departure wakes the next head.
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
"""Seconds by which a timer may fire early: float noise of the loop's clock, far below
the margin of a lease."""


GROUP_SIZE: Final = 16
"""Neighbours in a queue that share an event. One event per request would be half of its
memory, and only the head of the queue does anything when it wakes."""

_arrivals = count()


class WaitQueue(Protocol):
    """The queue of one rate budget, as the limiter uses it.

    A reservation is whatever `take` returned. Times are seconds of the loop's clock.
    """

    @property
    def rate_budget(self) -> RateBudget:
        """What this process knows of the rate budget."""

    def __len__(self) -> int:
        """Number of requests that wait."""

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; a time in the past if it is open."""

    def try_take(self, now: float, *, first: bool = False) -> Any:
        """Take a token if one is free and no request is ahead; else `None`."""

    async def take(self, *, first: bool, max_pause: float) -> Any:
        """Wait for a token; a cancelled call takes none.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """

    def on_response(
        self, reservation: Any, now: float, facts: ResponseFacts | None
    ) -> None:
        """A response arrived; `None` if its facts may be of another rate budget."""

    def on_unsent(self, reservation: Any, now: float) -> None:
        """No byte of a request was sent."""

    def on_abandoned(self, reservation: Any, now: float, linger: float) -> None:
        """The response to a request will not be read."""

    def on_refused(
        self, now: float, retry_after: float | None, reservation: Any
    ) -> None:
        """A 429 of this rate budget arrived.

        It belongs to `reservation`, which is `None` if the request took no token here.
        """

    def earliest(self, now: float) -> float:
        """When a new request could have a token: a lower bound."""

    def status(self, now: float) -> BudgetStatus:
        """The public snapshot."""

    def wake(self) -> None:
        """Let the head of the queue look again, since something has changed."""


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


@attrs.define(eq=False, weakref_slot=False)
class WakeupGroup:
    """Neighbours in a queue that share an event, which lets them all look again.

    Attributes:
        members: How many requests joined it.
    """

    members: int = 0
    _event: anyio.Event | None = None

    def event(self) -> anyio.Event:
        """Return the event that the next `wake` sets."""
        if self._event is None:
            self._event = anyio.Event()
        return self._event

    def wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None


@attrs.define(eq=False, weakref_slot=False)
class QueuedRequest:
    """One request that waits for a token.

    Attributes:
        max_pause: Longest time in seconds that it waits for the gate of a 429.
        group: Whose event wakes it.
        arrival: Its place among all requests that ever waited, in any queue.
    """

    max_pause: float
    group: WakeupGroup
    arrival: int = attrs.field(factory=_arrivals.__next__)


class LocalWaitQueue:
    """The queue of a rate budget that nothing else uses; see `WaitQueue`.

    Args:
        name: Name of the rate budget, a key of `CODES`.
        rate_budget: Its rules.
    """

    __slots__ = ("_name", "_newcomers", "_retries", "rate_budget")

    def __init__(self, name: Route, rate_budget: RateBudget) -> None:
        self.rate_budget: RateBudget = rate_budget
        self._name = name
        # Requests that were sent and refused go ahead of those that were never sent.
        self._retries: deque[QueuedRequest] = deque()
        self._newcomers: deque[QueuedRequest] = deque()

    def __repr__(self) -> str:
        return f"{self.rate_budget!r}, {len(self)} waiting"

    def __len__(self) -> int:
        return len(self._retries) + len(self._newcomers)

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; a time in the past if it is open."""
        return self.rate_budget.opens_at

    def earliest(self, now: float) -> float:
        """When a new request could have a token, if all that wait are sent."""
        return self.rate_budget.earliest_behind(now, len(self))

    def status(self, now: float) -> BudgetStatus:
        """The public snapshot."""
        return self.rate_budget.status(now, len(self))

    def try_take(self, now: float, *, first: bool = False) -> Reservation | None:
        """Take a token if one is free and no request is ahead."""
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
        request = self._join(queue, max_pause)
        try:
            while True:
                now = anyio.current_time()
                check_pause(self._name, self.opens_at, now, request.max_pause)
                # No await lies between taking the token and returning it. So a
                # cancellation finds the request either without a token, in one of the
                # waits below, or back in its caller, which owns the token then.
                reservation, look_at = self._take_if_first(request, now)
                if reservation is not None:
                    return reservation
                # The event is fetched after the look and before any await: whatever
                # changes from here on sets it.
                event = request.group.event()
                if look_at == inf:
                    await event.wait()
                else:
                    with anyio.CancelScope(deadline=look_at):
                        await event.wait()
        finally:
            self._leave(queue, request)

    def _join(self, queue: deque[QueuedRequest], max_pause: float) -> QueuedRequest:
        request = _new_request(queue, max_pause)
        queue.append(request)
        return request

    def _leave(self, queue: deque[QueuedRequest], request: QueuedRequest) -> None:
        was_head = self._head() is request
        queue.remove(request)
        if was_head:
            self.wake()  # the new head sleeps without a timer

    def _take_if_first(
        self, request: QueuedRequest, now: float
    ) -> tuple[Reservation | None, float]:
        """Take a token if the request is the head and one is due.

        Returns:
            The reservation, or `None` and the time at which the request looks again;
            `inf` if only a change can help it.
        """
        if self._head() is not request:
            return None, inf
        soon = now + TOLERANCE
        due = self.rate_budget.earliest(soon)
        return (None, due) if due > soon else (self.rate_budget.send(now), now)

    def wake(self) -> None:
        """Let the head of the queue look again, since something has changed."""
        head = self._head()
        if head is not None:
            head.group.wake()

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
        for queue in (self._retries, self._newcomers):
            for request in queue:
                if request.max_pause < pause:
                    request.group.wake()

    def _head(self) -> QueuedRequest | None:
        queue = self._retries or self._newcomers
        return queue[0] if queue else None


def _new_request(queue: deque[QueuedRequest], max_pause: float) -> QueuedRequest:
    """A request for the end of the queue, in the group of the last one if it fits."""
    group = queue[-1].group if queue else WakeupGroup()
    if group.members >= GROUP_SIZE:
        group = WakeupGroup()
    group.members += 1
    return QueuedRequest(max_pause, group)
