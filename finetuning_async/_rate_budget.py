"""One budget: the rules put together, still without a clock of its own.

Each rule is asked when the next request may go out; the latest answer holds. No rule
knows another, so each can be taken out, at the cost of its row in the benchmarks.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from finetuning_async._rate_gate import RateGate
from finetuning_async._rate_limits import BudgetStatus
from finetuning_async._ticket import Ticket
from finetuning_async._token_bucket import TokenBucket

if TYPE_CHECKING:
    import random

    from finetuning_async._rate_limits import RateLimit
    from finetuning_async._wire import AnswerFacts

MARGIN = 0.05 / 60
"""Share of a period by which leases are longer than it, for timers, rounding and drift:
50 ms of a minute, and never less than `LEAST_MARGIN`."""

LEAST_MARGIN = 0.005


class RateBudget:
    """What one budget of the account allows.

    Args:
        limit: The limit; `None` if only the gate of a 429 holds anything.
        rng: Where jitter comes from.
    """

    __slots__ = (
        "_bucket",
        "_gate",
        "_heard",
        "_heard_at",
        "_in_flight",
        "_limit",
        "_sent",
    )

    def __init__(self, limit: RateLimit | None, rng: random.Random) -> None:
        self._limit = limit
        per = 60.0 if limit is None else limit.per
        self._gate = RateGate(per, rng)
        self._bucket: TokenBucket | None = None
        if limit is not None:
            margin = max(per * MARGIN, LEAST_MARGIN)
            self._bucket = TokenBucket(limit.limit, per + margin)
        self._sent = 0
        self._in_flight = 0
        self._heard: AnswerFacts | None = None
        self._heard_at = -inf

    def __repr__(self) -> str:
        rules = (self._bucket, self._gate)
        return ", ".join(repr(rule) for rule in rules if rule is not None)

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; in the past if none holds."""
        return self._gate.opens_at

    def earliest(self, now: float) -> float:
        """When the next request may go out.

        Returns:
            `now` or later; `inf` if that depends on an answer still out.
        """
        gate = self._gate.earliest(now)
        if self._bucket is None:
            return gate
        return max(gate, self._bucket.earliest(now))

    def earliest_behind(self, now: float, ahead: int) -> float:
        """A lower bound of when a newcomer may go out behind `ahead` others."""
        gate = self._gate.earliest(now)
        if self._bucket is None:
            return gate
        return max(gate, self._bucket.earliest_behind(now, ahead))

    def send(self, now: float) -> Ticket:
        """Let a request go; `earliest` must have said `now`."""
        self._sent += 1
        ticket = Ticket(self._sent, now, self._in_flight)
        self._in_flight += 1
        if self._bucket is not None:
            self._bucket.sent(ticket)
        return ticket

    def unsent(self, ticket: Ticket, now: float) -> None:
        """No byte of it left."""
        self._in_flight -= 1
        if self._bucket is not None:
            self._bucket.unsent(ticket, now)

    def abandoned(self, ticket: Ticket, now: float, linger: float) -> None:
        """Nobody waits for its answer; its bytes may arrive for `linger` seconds."""
        self._in_flight -= 1
        if self._bucket is not None:
            self._bucket.abandoned(ticket, now, linger)

    def answered(self, ticket: Ticket, now: float, facts: AnswerFacts | None) -> None:
        """Its answer is in.

        Args:
            ticket: Of the request.
            now: Seconds.
            facts: What the answer says; `None` if it may speak of another budget.
        """
        self._in_flight -= 1
        if self._bucket is not None:
            self._bucket.answered(ticket, now)
        if facts is not None:
            self._hear(now, facts)

    def refused(self, now: float, retry_after: float | None) -> None:
        """A 429 of this budget arrived."""
        self._gate.refused(now, retry_after)

    def _hear(self, now: float, facts: AnswerFacts) -> None:
        if facts.status != 429:
            self._gate.let_through()
        if facts.limit is None and facts.remaining is None:
            return
        self._heard, self._heard_at = facts, now
        if self._bucket is not None and self._limit is not None and facts.limit:
            self._bucket.limit = min(self._limit.limit, facts.limit)

    def status(self, now: float, waiting: int) -> BudgetStatus:
        """The snapshot that people look at."""
        bucket, heard = self._bucket, self._heard
        earliest = self.earliest(now)
        free = 0 if bucket is None else max(bucket.free(now), 0)
        return BudgetStatus(
            limit=None if bucket is None else bucket.limit,
            per=None if self._limit is None else self._limit.per,
            available=free if earliest <= now else 0,
            next_free_in=earliest - now,
            waiting=waiting,
            closed_for=max(self._gate.opens_at - now, 0.0),
            service_limit=None if heard is None else heard.limit,
            service_remaining=None if heard is None else heard.remaining,
            service_spoke_ago=None if heard is None else now - self._heard_at,
        )
