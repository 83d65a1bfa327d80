"""Turns: who may send now, on either event loop.

    Limiter    the two budgets of an account, and which of them a request takes from
    Permit     one request that may be sent, until one of its three ends

What may be sent when is arithmetic and stands in `_rate_budget`; the waiting stands in
`_line`. Here is which budget a request takes from, and what its answer says of it.
"""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import current_token

from finetuning_async._pacing._limits import DEFAULT_LIMITS, RateLimits, RateLimitStatus
from finetuning_async._pacing._rate_budget import RateBudget
from finetuning_async._pacing._wait_queue import LocalWaitQueue
from finetuning_async._rate_codes import is_rate_limited, rate_budget_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._pacing._limits import SupportsRateLimits
    from finetuning_async._pacing._wait_queue import WaitQueue

    Reservations: TypeAlias = tuple[tuple[WaitQueue, Any], ...]

BUDGETS: Final = ("creates", "reads")

LINGER: Final = 5.0
"""Seconds for which the bytes of a request that was given up may still arrive."""


class Permit:
    """One request that may be sent now.

    Exactly one of `answered`, `unsent` and `abandoned` ends it, as soon as it is known;
    further calls do nothing, so that a ``finally`` may call `abandoned` always.
    """

    __slots__ = ("_on_response", "_reservations", "_route")

    def __init__(
        self,
        route: Route,
        reservations: Reservations,
        settle: Callable[[Route, Reservations, ResponseFacts], None],
    ) -> None:
        self._on_response = settle
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
        """Nothing of the request left: its token is back at once."""
        reservations, self._reservations = self._reservations, ()
        for queue, reservation in reservations:
            queue.on_unsent(reservation, anyio.current_time())
            queue.wake()

    def abandoned(self, linger: float = LINGER) -> None:
        """Bytes may have left, and no answer will be read.

        Args:
            linger: Seconds, at least 0, for which they may still arrive; the lease runs
                that much longer, from now.
        """
        reservations, self._reservations = self._reservations, ()
        for queue, reservation in reservations:
            queue.on_abandoned(reservation, anyio.current_time(), linger)
            queue.wake()


class Limiter:
    """The turns of one account in one event loop.

    Used in another loop after the first has ended, it starts with empty budgets, for
    nothing of a loop outlives it; what the service still counts is found out again.

    Args:
        limits: The limits; `None` if only the gates of 429s hold anything.
        rng: Where jitter comes from.
        max_pause: Seconds; a 429 that asks for more fails the calls that wait. `inf`
            for no limit.
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

    def __repr__(self) -> str:
        queues = ", ".join(f"{name}: {queue!r}" for name, queue in self._queues.items())
        return f"<Limiter {queues or 'not used yet'}>"

    def try_acquire(self, route: Route) -> Permit | None:
        """Take a turn if there is one at this moment and nobody waits for it.

        Args:
            route: ``creates``, ``reads``, or an endpoint whose budget is not known,
                which takes from both until an answer tells.
        """
        return self._try(route, first=False)

    def _try(self, route: Route, *, first: bool) -> Permit | None:
        queues = self._queues_of(route)
        now = self._now()
        reservations: list[tuple[WaitQueue, Any]] = []
        for queue in queues:
            reservation = queue.try_take(now, first=first)
            if reservation is None:
                _give_back(reservations, now)
                return None
            reservations.append((queue, reservation))
        return Permit(route, tuple(reservations), self._on_response)

    async def acquire(
        self, route: Route, *, first: bool = False, max_pause: float | None = None
    ) -> Permit:
        """Wait for a turn; first come, first served.

        It does not yield to the event loop if there is a turn at once. A request of
        both budgets waits in the queue of the creates, then in that of the reads.

        Args:
            route: As for `try_acquire`.
            first: Whether to wait before all who do not say so; for a request that had
                its turn and was refused.
            max_pause: Seconds, instead of the limiter's own.

        Raises:
            RateLimitError: A 429, before or while this waits, asks for a longer pause.
        """
        permit = self._try(route, first=first)
        if permit is not None:
            return permit
        pause = self._max_pause if max_pause is None else max_pause
        reservations: list[tuple[WaitQueue, Any]] = []
        try:
            for queue in self._queues_of(route):
                reservation = await queue.take(first=first, max_pause=pause)
                reservations.append((queue, reservation))
        except BaseException:
            _give_back(reservations, anyio.current_time())
            raise
        return Permit(route, tuple(reservations), self._on_response)

    def earliest(self, route: Route) -> float:
        """When a newcomer could have its turn, in seconds of the loop's clock.

        A lower bound, given that those who wait ahead do send; now, if that depends on
        answers still out, any of which may turn out not to have been sent.

        Args:
            route: As for `try_acquire`.
        """
        now = anyio.current_time()
        queues = self._queues_of(route)
        return max(queue.earliest(now) for queue in queues)

    def gate_opens(self, route: Route) -> float:
        """When the gate of a 429 opens, likewise; in the past if none is closed.

        Args:
            route: As for `try_acquire`.
        """
        return max(queue.opens_at for queue in self._queues_of(route))

    def status(self) -> RateLimitStatus:
        """Both budgets at this moment."""
        now = anyio.current_time()
        creates, reads = self._all_queues()
        return RateLimitStatus(
            creates=creates.status(now),
            reads=reads.status(now),
        )

    async def flush(self) -> None:
        """Nobody else is to be told."""

    def _on_response(
        self,
        route: Route,
        reservations: Reservations,
        facts: ResponseFacts,
    ) -> None:
        """Book an answer that arrived now; `Permit.answered` calls this."""
        now = self._now()
        budget = self._learn_budget(route, facts)
        for queue, reservation in reservations:
            if budget is None:
                queue.on_response(reservation, now, None)
            elif queue is self._queues[budget] or len(reservations) == 1:
                queue.on_response(reservation, now, facts)
            else:
                queue.on_unsent(reservation, now)
        if is_rate_limited(facts.status, facts.code):
            self._close_gates(route, reservations, facts)
        for queue, _ in reservations:
            queue.wake()

    def _close_gates(
        self,
        route: Route,
        reservations: Reservations,
        facts: ResponseFacts,
    ) -> None:
        """Close the gate of the budget that the code names, and those of the route.

        Both, where they differ: the service lists ``RATE_LIMITED`` for creates too, and
        whatever it means by it, that create must wait as well.
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

    def _learn_budget(self, route: Route, facts: ResponseFacts) -> Route | None:
        """Which budget a route takes from, now that an answer may have told."""
        if route in BUDGETS:
            return route
        if route not in self._learned_budgets:
            told = self._told(facts)
            if told is not None:
                self._learned_budgets[route] = told
        return self._learned_budgets.get(route)

    def _told(self, facts: ResponseFacts) -> Route | None:
        named = rate_budget_of(facts.code)
        if named is not None and is_rate_limited(facts.status, facts.code):
            return named
        if self._limits is None or facts.limit is None:
            return None
        limits = {name: getattr(self._limits, name).limit for name in BUDGETS}
        fitting = [name for name in BUDGETS if limits[name] == facts.limit]
        return fitting[0] if len(fitting) == 1 else None

    def _queues_of(self, route: Route) -> tuple[WaitQueue, ...]:
        creates, reads = self._all_queues()
        budget = self._learned_budgets.get(route, route)
        if budget == "creates":
            return (creates,)
        return (reads,) if budget == "reads" else (creates, reads)

    def _all_queues(self) -> tuple[WaitQueue, WaitQueue]:
        loop = current_token()
        if loop != self._loop:
            self._queues = self._new_queues()
            self._loop = loop  # not before: a limiter may refuse an event loop
        return self._queues["creates"], self._queues["reads"]

    def _new_queues(self) -> dict[Route, WaitQueue]:
        """A queue for each of `BUDGETS`, in a new event loop."""
        limits = self._limits
        creates = None if limits is None else limits.creates
        reads = None if limits is None else limits.reads
        return {
            "creates": LocalWaitQueue("creates", RateBudget(creates, self._rng)),
            "reads": LocalWaitQueue("reads", RateBudget(reads, self._rng)),
        }


class LocalRateLimiter(Limiter):
    """The turns of an account in one event loop, for the clients they are given to.

    Clients without one share the turns of their key with all of the process; give the
    same to two clients whose keys belong to one account. In another event loop it
    begins anew.

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


def _give_back(reservations: list[tuple[WaitQueue, Any]], now: float) -> None:
    """Return tokens that were taken and will not be used."""
    for queue, reservation in reservations:
        queue.on_unsent(reservation, now)
        queue.wake()
