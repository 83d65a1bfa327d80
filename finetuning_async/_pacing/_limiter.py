"""Permits: which requests may be sent now, on either event loop.

Limiter            the two rate budgets of an account, and which of them a request uses
Permit             one request that may be sent, until its outcome is known
LimiterWithTerms   a `Limiter` for one create, with its priority and share
LocalRateLimiter   a `Limiter` that a caller makes

The arithmetic of when a request may be sent is in `_rate_budget`, the waiting in
`_wait_queue`. This module decides which rate budget a request takes from, and what its
response says about that.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

import anyio
import attrs
from anyio.lowlevel import current_token

from finetuning_async._pacing._dealer import LOW
from finetuning_async._pacing._limits import DEFAULT_LIMITS, RateLimits, RateLimitStatus
from finetuning_async._pacing._queue_protocols import ANY_REQUEST, Terms
from finetuning_async._pacing._rate_budget import RateBudget
from finetuning_async._pacing._wait_queue import LocalWaitQueue
from finetuning_async._rate_codes import is_rate_limited, rate_budget_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._pacing._limits import SupportsRateLimits
    from finetuning_async._pacing._protocols import RateLimiter
    from finetuning_async._pacing._queue_protocols import (
        LineState,
        QueueGate,
        WaitQueue,
    )

    Reservations: TypeAlias = tuple[tuple[WaitQueue, Any], ...]
    """What a permit holds: one reservation for each rate budget that it took from."""

RATE_BUDGETS: Final = ("creates", "reads")

LINGER: Final = 5.0
"""Seconds for which the bytes of an abandoned request may still arrive."""


class Permit:
    """The permission to send one request now.

    Exactly one of `answered`, `unsent` and `abandoned` ends it, as soon as the outcome
    is known; later calls do nothing, so that a ``finally`` may always call `abandoned`.
    """

    __slots__ = ("_on_response", "_reservations", "_route")

    def __init__(
        self,
        route: Route,
        reservations: Reservations,
        on_response: Callable[[Route, Reservations, ResponseFacts], None],
    ) -> None:
        self._on_response = on_response
        self._route = route
        self._reservations = reservations

    def __repr__(self) -> str:
        state = "out" if self._reservations else "ended"
        return f"<Permit {self._route}: {state}>"

    def answered(self, facts: ResponseFacts) -> None:
        """The response was read to its end; it arrived now."""
        reservations, self._reservations = self._reservations, ()
        if reservations:
            self._on_response(self._route, reservations, facts)

    def unsent(self) -> None:
        """No byte of the request was sent: its token is free again at once."""
        reservations, self._reservations = self._reservations, ()
        if reservations:
            _return_unsent(reservations, anyio.current_time())

    def abandoned(self, linger: float = LINGER) -> None:
        """Bytes may have been sent, and no response will be read.

        Args:
            linger: Seconds, at least 0, for which the bytes may still arrive; the lease
                runs that much longer, from now.
        """
        reservations, self._reservations = self._reservations, ()
        for queue, reservation in reservations:
            queue.on_abandoned(reservation, anyio.current_time(), linger)
            queue.wake()


class Limiter:
    """The permits of one account in one event loop.

    If it is used in another loop after the first one has ended, it starts with fresh
    rate budgets, since nothing of a loop outlives it. The first responses show what the
    service still counts.

    Args:
        limits: The limits; `None` if only the gates of 429s hold requests back.
        rng: Source of jitter.
        max_pause: Seconds; a 429 that asks for a longer pause fails the calls that
            wait. `inf` for no limit.
    """

    def __init__(
        self,
        limits: RateLimits | None,
        *,
        rng: random.Random,
        max_pause: float = inf,
    ) -> None:
        self._limits = limits
        self._rng = rng
        self._max_pause = max_pause
        self._learned_budgets: dict[Route, Route] = {}
        self._loop: object = None
        self._now: Callable[[], float] = anyio.current_time
        self._queues: dict[Route, WaitQueue] = {}
        self._watchers: dict[object, Callable[[], None]] = {}

    def __repr__(self) -> str:
        queues = ", ".join(f"{name}: {queue!r}" for name, queue in self._queues.items())
        return f"<Limiter {queues or 'not used yet'}>"

    def try_acquire(self, route: Route) -> Permit | None:
        """Take a permit if one is free now and no call waits for it.

        Args:
            route: ``creates``, ``reads``, or an endpoint whose rate budget is not
                known; it takes from both until a response shows which one counts.
        """
        return self._try(route, first=False, terms=ANY_REQUEST)

    def _try(self, route: Route, *, first: bool, terms: Terms) -> Permit | None:
        gate = None
        if terms is not ANY_REQUEST:
            gate = terms.gate
            if terms.rank == LOW or (gate and gate.opens_at() > self._now()):
                return None
        queues = self._queues_of(route)
        now = self._now()
        reservations: list[tuple[WaitQueue, Any]] = []
        for queue in queues:
            reservation = queue.try_take(now, first=first, terms=terms)
            if reservation is None:
                _return_unsent(reservations, now)
                return None
            reservations.append((queue, reservation))
        if gate is not None:
            gate.take()
        return Permit(route, tuple(reservations), self._on_response)

    async def acquire(
        self, route: Route, *, first: bool = False, max_pause: float | None = None
    ) -> Permit:
        """Wait for a permit; first come, first served.

        It does not yield to the event loop if a permit is free at once. A request of
        both rate budgets first waits for a token of the creates, holds that, and then
        waits for one of the reads.

        Args:
            route: As for `try_acquire`.
            first: Whether to go ahead of all calls that do not set this; for a request
                that was sent and refused.
            max_pause: The longest pause in seconds; `None` for the limiter's own.

        Raises:
            RateLimitError: A 429, received before or while this waits, asks for a
                longer pause.
        """
        permit = self._try(route, first=first, terms=ANY_REQUEST)
        if permit is not None:
            return permit
        return await self._wait(route, first, max_pause, ANY_REQUEST)

    async def _wait(
        self, route: Route, first: bool, max_pause: float | None, terms: Terms
    ) -> Permit:
        pause = self._max_pause if max_pause is None else max_pause
        self._notify_watchers()
        reservations: list[tuple[WaitQueue, Any]] = []
        try:
            # Every call takes its tokens in the same order, so that no two calls can
            # each hold the token that the other one waits for.
            for queue in self._queues_of(route):
                reservation = await queue.take(
                    first=first, max_pause=pause, terms=terms
                )
                reservations.append((queue, reservation))
                terms = ANY_REQUEST  # reads are dealt first come, first served
        except BaseException:
            _return_unsent(reservations, anyio.current_time())
            raise
        return Permit(route, tuple(reservations), self._on_response)

    def earliest(self, route: Route) -> float:
        """When a new call could have a permit, in seconds of the loop's clock.

        A lower bound that assumes that all requests ahead are sent. Now, if it depends
        on requests in flight, since any of them may turn out not to have been sent.

        Args:
            route: As for `try_acquire`.
        """
        return self._earliest(route, ANY_REQUEST)

    def _earliest(self, route: Route, terms: Terms) -> float:
        now = anyio.current_time()
        queues = self._queues_of(route)
        return max(queue.earliest(now, terms) for queue in queues)

    def gate_opens(self, route: Route) -> float:
        """When the gate of the last 429 opens, in seconds of the loop's clock.

        A time in the past if it is open.

        Args:
            route: As for `try_acquire`.
        """
        return max(queue.opens_at for queue in self._queues_of(route))

    def status(self) -> RateLimitStatus:
        """A snapshot of both rate budgets."""
        now = anyio.current_time()
        creates, reads = self._all_queues()
        return RateLimitStatus(
            creates=creates.status(now),
            reads=reads.status(now),
        )

    def _notify_watchers(self) -> None:
        for on_change in self._watchers.values():
            on_change()

    async def flush(self) -> None:
        """Do nothing, since no other process shares these permits."""

    def _on_response(
        self,
        route: Route,
        reservations: Reservations,
        facts: ResponseFacts,
    ) -> None:
        """Record a response that arrived now; `Permit.answered` calls this."""
        now = self._now()
        name = self._learn_rate_budget(route, facts)
        for queue, reservation in reservations:
            if name is None:
                # Either rate budget may have counted it: both leases run on, and the
                # headers of one must not be taken for the other's.
                queue.on_response(reservation, now, None)
            elif queue is self._queues[name] or len(reservations) == 1:
                queue.on_response(reservation, now, facts)
            else:
                # This response shows that the other rate budget counted the request.
                queue.on_unsent(reservation, now)
        if is_rate_limited(facts.status, facts.code):
            self._close_gates(route, reservations, facts)
        for queue, _ in reservations:
            queue.wake()
        self._notify_watchers()

    def _close_gates(
        self,
        route: Route,
        reservations: Reservations,
        facts: ResponseFacts,
    ) -> None:
        """Close the gate of the rate budget that the code names, and the route's.

        Both, where they differ: the service documents ``RATE_LIMITED`` for creates too.
        Whatever it means by that, the create must wait as well.
        """
        now = self._now()
        closing: dict[WaitQueue, Any] = dict.fromkeys(self._queues_of(route))
        named = rate_budget_of(facts.code)
        if named is not None:
            closing[self._queues[named]] = None
        closing.update(
            (queue, reservation)
            for queue, reservation in reservations
            if queue in closing
        )
        for queue, reservation in closing.items():
            queue.on_refused(now, facts.retry_after, reservation)

    def _learn_rate_budget(self, route: Route, facts: ResponseFacts) -> Route | None:
        """The rate budget of a route; a response may show it, once and for all."""
        if route in RATE_BUDGETS:
            return route
        if route not in self._learned_budgets:
            shown = self._shown_rate_budget(facts)
            if shown is not None:
                self._learned_budgets[route] = shown
        return self._learned_budgets.get(route)

    def _shown_rate_budget(self, facts: ResponseFacts) -> Route | None:
        """The rate budget that a response names by its code or by its limit header."""
        named = rate_budget_of(facts.code)
        if named is not None and is_rate_limited(facts.status, facts.code):
            return named
        if self._limits is None or facts.limit is None:
            return None
        limits = {name: getattr(self._limits, name).limit for name in RATE_BUDGETS}
        fitting = [name for name in RATE_BUDGETS if limits[name] == facts.limit]
        return fitting[0] if len(fitting) == 1 else None

    def _queues_of(self, route: Route) -> tuple[WaitQueue, ...]:
        creates, reads = self._all_queues()
        name = self._learned_budgets.get(route, route)
        if name == "creates":
            return (creates,)
        return (reads,) if name == "reads" else (creates, reads)

    def _all_queues(self) -> tuple[WaitQueue, WaitQueue]:
        loop = current_token()
        if loop != self._loop:
            self._queues = self._new_queues()
            self._loop = loop  # not before: a limiter may refuse an event loop
        return self._queues["creates"], self._queues["reads"]

    def _new_queues(self) -> dict[Route, WaitQueue]:
        """Make a queue for each of `RATE_BUDGETS`, in a new event loop."""
        limits = self._limits
        creates = None if limits is None else limits.creates
        reads = None if limits is None else limits.reads
        return {
            "creates": LocalWaitQueue("creates", RateBudget(creates, self._rng)),
            "reads": LocalWaitQueue("reads", RateBudget(reads, self._rng)),
        }


@attrs.frozen(eq=False)
class LimiterWithTerms:
    """A limiter of ours, for one create that has terms of its own.

    Attributes:
        limiter: The limiter.
        terms: Of the create.
    """

    limiter: Limiter
    terms: Terms

    # What follows uses methods of `Limiter` that are not public: callers make limiters
    # of that class, and have no terms.

    def try_acquire(self, route: Route) -> Permit | None:
        """As `Limiter.try_acquire`; one of low priority goes through the queue."""
        return self.limiter._try(route, first=False, terms=self.terms)  # noqa: SLF001 - see above

    async def acquire(
        self, route: Route, *, first: bool = False, max_pause: float | None = None
    ) -> Permit:
        """As `Limiter.acquire`, by priority and in turn to the shares.

        It takes a slot in the service's queue together with the permit, if the terms
        have a gate; one that goes `first` goes before others of its share only.
        """
        limiter, terms = self.limiter, self.terms
        permit = limiter._try(route, first=first, terms=terms)  # noqa: SLF001 - see above
        if permit is not None:
            return permit
        return await limiter._wait(route, first, max_pause, terms)  # noqa: SLF001 - see above

    def earliest(self, route: Route) -> float:
        """As `Limiter.earliest`."""
        return self.limiter._earliest(route, self.terms)  # noqa: SLF001 - see above

    def deals_places(self, route: Route) -> bool:
        """Whether the calls of a route wait where creates do, and may have a gate."""
        limiter = self.limiter
        return limiter._all_queues()[0] in limiter._queues_of(route)  # noqa: SLF001 - see above

    def line_state(self, creates: int) -> LineState:
        """What is known of the line of the creates, if `creates` joined it now."""
        queue, _ = self.limiter._all_queues()  # noqa: SLF001 - see above
        return queue.line_state(anyio.current_time(), creates, self.terms)

    def places(self) -> dict[QueueGate, int]:
        """How many go before each create of this loop that waits, by its gate."""
        queue, _ = self.limiter._all_queues()  # noqa: SLF001 - see above
        return {
            request.gate: place
            for place, request in queue.places()
            if request.gate is not None
        }

    @contextmanager
    def watched(self, on_change: Callable[[], None]) -> Generator[None]:
        """Call a function whenever calls may have to wait longer, until the block ends.

        That is when a call of this loop begins to wait, and at each response. What
        other processes and loops do does not call it.
        """
        watchers = self.limiter._watchers  # noqa: SLF001 - see above
        # Not by the function: one that watches next may begin before this one ends.
        block = object()
        watchers[block] = on_change
        try:
            yield
        finally:
            del watchers[block]


def deals_in_order(limiter: RateLimiter) -> TypeGuard[Limiter]:
    """Whether a limiter deals permits by priority and share, and slots with them.

    A limiter of the caller's does not, nor does a subclass of ours that replaces how
    permits are had: it was written for calls without terms.
    """
    kind = type(limiter)
    return (
        isinstance(limiter, Limiter)
        and kind.acquire is Limiter.acquire
        and kind.try_acquire is Limiter.try_acquire
        and kind.earliest is Limiter.earliest
    )


def with_terms(limiter: RateLimiter, terms: Terms) -> RateLimiter | LimiterWithTerms:
    """Return a limiter that respects terms, if it can."""
    if deals_in_order(limiter):
        return LimiterWithTerms(limiter, terms)
    return limiter


class LocalRateLimiter(Limiter):
    """The permits of one account in one event loop, for the clients it is given to.

    Clients without a limiter of their own share the permits of their API key within the
    process. Give the same limiter to two clients whose keys belong to one account. In
    another event loop it starts afresh.

    Example:
        limiter = LocalRateLimiter()
        permit = limiter.try_acquire("creates") or await limiter.acquire("creates")
        permit.unsent()

    Args:
        limits: What the account may send.
    """

    def __init__(
        self, limits: RateLimits | SupportsRateLimits = DEFAULT_LIMITS
    ) -> None:
        super().__init__(RateLimits.of(limits), rng=random.SystemRandom())


def _return_unsent(
    reservations: Reservations | list[tuple[WaitQueue, Any]], now: float
) -> None:
    """Return the tokens of requests that are not sent."""
    for queue, reservation in reservations:
        queue.on_unsent(reservation, now)
        queue.wake()
