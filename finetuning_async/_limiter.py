"""Turns: who may send now, and who waits, on either event loop.

    Limiter    the two budgets of an account, and which of them a request takes from
    Permit     one request that may be sent, until one of its three ends
    _Line      the waiters of one budget, first come, first served

What may be sent when is arithmetic and stands in `_rate_budget`; here is the waiting.
There is no background task: the waiter at the head of a line sleeps until its turn,
the others sleep until they are the head. A waiter takes its token itself, in the step
in which it wakes and returns; so one that is cancelled, in the line or at that very
instant, holds nothing, and hands the head to the next.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio.lowlevel import current_token

from finetuning_async._errors import RateLimitError
from finetuning_async._rate_budget import RateBudget
from finetuning_async._rate_limits import RateLimitStatus

if TYPE_CHECKING:
    import random

    from finetuning_async._rate_limits import RateLimits
    from finetuning_async._ticket import Ticket
    from finetuning_async._wire import AnswerFacts, Route

BUDGETS: Final = ("creates", "reads")

BUDGET_OF_CODE: Final = {
    "GENERATION_RATE_LIMITED": "creates",
    "RATE_LIMITED": "reads",
}
"""The codes of a 429 that close a gate, and whose gate it is."""

LINGER: Final = 5.0
"""Seconds for which the bytes of a request that was given up may still arrive."""

TOLERANCE: Final = 1e-6
"""Seconds by which a timer may be early: float noise of the loop's clock, far below the
margin of a lease."""


def is_rate_refusal(facts: AnswerFacts) -> bool:
    """Whether an answer is a 429 for too many requests, not for a full queue or day.

    One without a readable code comes from something in front of the service and counts.
    """
    return facts.status == 429 and (facts.code is None or facts.code in BUDGET_OF_CODE)


SEATS: Final = 16
"""Neighbours in a line that are woken together: an event for each would be half of the
memory of a waiter, and only the head of the line does anything when woken."""


@attrs.define(eq=False, weakref_slot=False)
class _Bench:
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
class _Waiter:
    """One call that waits."""

    max_pause: float
    bench: _Bench


class _Line:
    """The waiters of one budget."""

    __slots__ = ("_again", "_queue", "budget")

    def __init__(self, budget: RateBudget) -> None:
        self.budget = budget
        self._again: deque[_Waiter] = deque()  # were refused once, go before the others
        self._queue: deque[_Waiter] = deque()

    def __len__(self) -> int:
        return len(self._again) + len(self._queue)

    def try_take(self, now: float, *, first: bool = False) -> Ticket | None:
        """Take a token if one is there and nobody is ahead."""
        if self._again or (self._queue and not first):
            return None
        soon = now + TOLERANCE
        if self.budget.earliest(soon) > soon:
            return None
        return self.budget.send(now)

    async def take(self, *, first: bool, max_pause: float) -> Ticket:
        """Wait for a token.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        queue = self._again if first else self._queue
        waiter = _seat(queue, max_pause)
        queue.append(waiter)
        try:
            while True:
                now = anyio.current_time()
                self._check_gate(waiter, now)
                soon = now + TOLERANCE
                turn = self.budget.earliest(soon) if self._head() is waiter else inf
                if turn <= soon:
                    return self.budget.send(now)
                event = waiter.bench.event()
                if turn == inf:
                    await event.wait()
                else:
                    with anyio.CancelScope(deadline=turn):
                        await event.wait()
        finally:
            was_head = self._head() is waiter
            queue.remove(waiter)
            if was_head:
                self.wake()

    def wake(self) -> None:
        """Something changed: the head looks again."""
        head = self._head()
        if head is not None:
            head.bench.wake()

    def gate_closed(self, now: float) -> None:
        """A 429 arrived: those who will not wait that long leave."""
        pause = self.budget.opens_at - now
        for queue in (self._again, self._queue):
            for waiter in queue:
                if waiter.max_pause < pause:
                    waiter.bench.wake()

    def _head(self) -> _Waiter | None:
        queue = self._again or self._queue
        return queue[0] if queue else None

    def _check_gate(self, waiter: _Waiter, now: float) -> None:
        pause = self.budget.opens_at - now
        if pause > waiter.max_pause:
            raise RateLimitError(
                f"the service asked to wait {pause:.0f} s,"
                f" longer than max_retry_wait={waiter.max_pause:g} s",
                status_code=429,
                retry_after=pause,
                safe_to_retry=True,
            )


def _seat(queue: deque[_Waiter], max_pause: float) -> _Waiter:
    """A waiter beside the last of the queue, if there is a seat."""
    bench = queue[-1].bench if queue else _Bench()
    if bench.seated >= SEATS:
        bench = _Bench()
    bench.seated += 1
    return _Waiter(max_pause, bench)


class Permit:
    """One request that may be sent now.

    Exactly one of `answered`, `unsent` and `abandoned` ends it, as soon as it is known;
    further calls do nothing, so that a ``finally`` may call `abandoned` always.
    """

    __slots__ = ("_leases", "_limiter", "_route")

    def __init__(
        self, limiter: Limiter, route: Route, leases: tuple[tuple[_Line, Ticket], ...]
    ) -> None:
        self._limiter = limiter
        self._route = route
        self._leases = leases

    def __repr__(self) -> str:
        state = "out" if self._leases else "ended"
        return f"<Permit {self._route}: {state}>"

    def answered(self, facts: AnswerFacts) -> None:
        """The response was read to its end; it arrived now."""
        leases, self._leases = self._leases, ()
        if leases:
            self._limiter.settle(self._route, leases, facts)

    def unsent(self) -> None:
        """Nothing of the request left: its token is back at once."""
        leases, self._leases = self._leases, ()
        for line, ticket in leases:
            line.budget.unsent(ticket, anyio.current_time())
            line.wake()

    def abandoned(self, linger: float = LINGER) -> None:
        """Bytes may have left, and no answer will be read.

        Args:
            linger: Seconds, at least 0, for which they may still arrive; the lease runs
                that much longer, from now.
        """
        leases, self._leases = self._leases, ()
        for line, ticket in leases:
            line.budget.abandoned(ticket, anyio.current_time(), linger)
            line.wake()


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
        self._settled: dict[Route, Route] = {}
        self._loop: object = None
        self._lines: dict[Route, _Line] = {}

    def __repr__(self) -> str:
        lines = ", ".join(
            f"{name}: {line.budget!r}, {len(line)} waiting"
            for name, line in self._lines.items()
        )
        return f"<Limiter {lines or 'not used yet'}>"

    def try_acquire(self, route: Route) -> Permit | None:
        """Take a turn if there is one at this moment and nobody waits for it.

        Args:
            route: ``creates``, ``reads``, or an endpoint whose budget is not known,
                which takes from both until an answer tells.
        """
        return self._try(route, first=False)

    def _try(self, route: Route, *, first: bool) -> Permit | None:
        now = anyio.current_time()
        leases: list[tuple[_Line, Ticket]] = []
        for line in self._lines_of(route):
            ticket = line.try_take(now, first=first)
            if ticket is None:
                _give_back(leases, now)
                return None
            leases.append((line, ticket))
        return Permit(self, route, tuple(leases))

    async def acquire(
        self, route: Route, *, first: bool = False, max_pause: float | None = None
    ) -> Permit:
        """Wait for a turn; first come, first served.

        It does not yield to the event loop if there is a turn at once. A request of
        both budgets waits in the line of the creates, then, with that token in hand, in
        the line of the reads.

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
        leases: list[tuple[_Line, Ticket]] = []
        try:
            for line in self._lines_of(route):
                ticket = await line.take(first=first, max_pause=pause)
                leases.append((line, ticket))
        except BaseException:
            _give_back(leases, anyio.current_time())
            raise
        return Permit(self, route, tuple(leases))

    def earliest(self, route: Route) -> float:
        """When a newcomer could have its turn, in seconds of the loop's clock.

        A lower bound, given that those who wait ahead do send; now, if that depends on
        answers still out, any of which may turn out not to have been sent.
        """
        now = anyio.current_time()
        lines = self._lines_of(route)
        return max(line.budget.earliest_behind(now, len(line)) for line in lines)

    def gate_opens(self, route: Route) -> float:
        """When the gate of a 429 opens, likewise; in the past if none is closed."""
        return max(line.budget.opens_at for line in self._lines_of(route))

    def status(self) -> RateLimitStatus:
        """Both budgets at this moment."""
        now = anyio.current_time()
        creates, reads = self._all_lines()
        return RateLimitStatus(
            creates=creates.budget.status(now, len(creates)),
            reads=reads.budget.status(now, len(reads)),
        )

    def settle(
        self,
        route: Route,
        leases: tuple[tuple[_Line, Ticket], ...],
        facts: AnswerFacts,
    ) -> None:
        """Book an answer that arrived now; `Permit.answered` calls this."""
        now = anyio.current_time()
        budget = self._learn_budget(route, facts)
        for line, ticket in leases:
            if budget is None:
                line.budget.answered(ticket, now, None)
            elif line is self._lines[budget] or len(leases) == 1:
                line.budget.answered(ticket, now, facts)
            else:
                line.budget.unsent(ticket, now)
        if is_rate_refusal(facts):
            self._close_gates(route, leases, facts)
        for line, _ in leases:
            line.wake()

    def _close_gates(
        self,
        route: Route,
        leases: tuple[tuple[_Line, Ticket], ...],
        facts: AnswerFacts,
    ) -> None:
        """Close the gate of the budget that the code names, and those of the route.

        Both, where they differ: the service lists ``RATE_LIMITED`` for creates too, and
        whatever it means by it, that create must wait as well.
        """
        now = anyio.current_time()
        tickets: dict[_Line, Ticket | None] = dict.fromkeys(self._lines_of(route))
        if facts.code is not None:
            tickets[self._lines[BUDGET_OF_CODE[facts.code]]] = None
        tickets.update((line, ticket) for line, ticket in leases if line in tickets)
        for line, ticket in tickets.items():
            line.budget.refused(now, facts.retry_after, ticket)
            line.gate_closed(now)

    def _learn_budget(self, route: Route, facts: AnswerFacts) -> Route | None:
        """Which budget a route takes from, now that an answer may have told."""
        if route in BUDGETS:
            return route
        if route not in self._settled:
            told = self._told(facts)
            if told is not None:
                self._settled[route] = told
        return self._settled.get(route)

    def _told(self, facts: AnswerFacts) -> Route | None:
        if is_rate_refusal(facts) and facts.code is not None:
            return BUDGET_OF_CODE[facts.code]
        if self._limits is None or facts.limit is None:
            return None
        limits = {name: getattr(self._limits, name).limit for name in BUDGETS}
        fitting = [name for name in BUDGETS if limits[name] == facts.limit]
        return fitting[0] if len(fitting) == 1 else None

    def _lines_of(self, route: Route) -> tuple[_Line, ...]:
        creates, reads = self._all_lines()
        budget = self._settled.get(route, route)
        if budget == "creates":
            return (creates,)
        return (reads,) if budget == "reads" else (creates, reads)

    def _all_lines(self) -> tuple[_Line, _Line]:
        loop = current_token()
        if loop != self._loop:
            self._loop = loop
            limits = self._limits
            creates = None if limits is None else limits.creates
            reads = None if limits is None else limits.reads
            self._lines = {
                "creates": _Line(RateBudget(creates, self._rng)),
                "reads": _Line(RateBudget(reads, self._rng)),
            }
        return self._lines["creates"], self._lines["reads"]


def _give_back(leases: list[tuple[_Line, Ticket]], now: float) -> None:
    """Return tokens that were taken and will not be used."""
    for line, ticket in leases:
        line.budget.unsent(ticket, now)
        line.wake()
