"""One rate budget: its rules, the gate of 429s, and what the service last reported.

Still without a clock of its own: `now` is passed in. Where requests are not paced,
there are no rules, and only the gate holds requests back.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

from finetuning_async._pacing._limits import BudgetStatus
from finetuning_async._pacing._reservation import Reservation
from finetuning_async._pacing._retry_after_gate import RetryAfterGate
from finetuning_async._pacing._rule_set import RuleSet

if TYPE_CHECKING:
    import random

    from finetuning_async._api import ResponseFacts
    from finetuning_async._pacing._limits import RateLimit


class RateBudget:
    """What one rate budget of the account allows.

    Args:
        limit: The limit; `None` if only the gate of a 429 holds requests back.
        rng: Source of jitter.
    """

    __slots__ = (
        "_gate",
        "_in_flight",
        "_limit",
        "_rules",
        "_sent",
        "_service_limit",
        "_service_remaining",
        "_service_seen_at",
    )

    def __init__(self, limit: RateLimit | None, rng: random.Random) -> None:
        self._limit = limit
        self._gate = RetryAfterGate(_period_of(limit), rng)
        self._rules = None if limit is None else RuleSet(limit)
        self._sent = 0
        self._in_flight = 0
        # The headers of the service, and when they last arrived.
        self._service_limit: int | None = None
        self._service_remaining: int | None = None
        self._service_seen_at = -inf

    def __repr__(self) -> str:
        return f"{self._gate!r} {self._rules or 'not paced'!r}"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON with infinities; see `from_state`."""
        # The keys are those of the stored form: they stay when a name changes.
        return {
            "gate": self._gate.to_state(),
            "pace": None if self._rules is None else self._rules.to_state(),
            "sent": self._sent,
            "in_flight": self._in_flight,
            "told_limit": self._service_limit,
            "told_remaining": self._service_remaining,
            "told_at": self._service_seen_at,
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], limit: RateLimit | None, rng: random.Random
    ) -> Self:
        """Restore what `to_state` returned, and adopt the service's limit.

        The process that stored the state may not have been paced; then the rules start
        afresh here.

        Raises:
            LookupError: It is no such state.
            TypeError: It is no such state.
            ValueError: It is no such state.
        """
        made = cls(limit, rng)
        made._gate = RetryAfterGate.from_state(state["gate"], _period_of(limit), rng)
        made._sent, made._in_flight = state["sent"], state["in_flight"]
        made._service_limit = state["told_limit"]
        made._service_remaining = state["told_remaining"]
        made._service_seen_at = state["told_at"]
        if limit is not None and state["pace"] is not None:
            made._rules = RuleSet.from_state(state["pace"], limit)
            if made._service_limit is not None:
                made._rules.adopt_limit(made._service_limit)
        return made

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; a time in the past if it is open."""
        return self._gate.opens_at

    def cap_tokens(self, token_cap: int) -> None:
        """Use at most this many tokens at a time, at least 0; others hold the rest."""
        if self._rules is not None:
            self._rules.cap_tokens(token_cap)

    def forget_credit(self) -> None:
        """Send one request as a probe first: others may have sent unreported ones."""
        if self._rules is not None:
            self._rules.credit.forget()

    def forget_observations(self) -> None:
        """Forget credit, and foreign usage, which may have been that of our own."""
        if self._rules is not None:
            self.forget_credit()
            self._rules.foreign.forget()

    def free(self, now: float) -> int:
        """Number of tokens that neither we nor other clients hold, at least 0."""
        if self._rules is None:
            return 0
        return max(self._rules.bucket.free(now) - self._rules.foreign.count(now), 0)

    def charged(self, now: float) -> int:
        """Number of tokens that are leased: in flight, or not back yet."""
        if self._rules is None:
            return 0
        return self._rules.bucket.limit - self._rules.bucket.free(now)

    def earliest(self, now: float) -> float:
        """When the next request may go out, unless something is learned before.

        Returns:
            `now` or later; `inf` if that depends on a response still in flight.
        """
        gate = self._gate.earliest(now)
        if self._rules is None or gate > now:
            return gate
        return self._rules.earliest(now)

    def earliest_behind(self, now: float, ahead: int) -> float:
        """A lower bound of when a new request may go out behind `ahead` others."""
        gate = self._gate.earliest(now)
        if self._rules is None:
            return gate
        return max(gate, self._rules.bucket.earliest_behind(now, ahead))

    def token_times(self, now: float) -> list[float]:
        """When each token is back, as far as known; empty if nothing is paced."""
        if self._rules is None:
            return []
        return self._rules.token_times(now)

    @property
    def lease(self) -> float:
        """Seconds from a response until its token is back; 0 if nothing is paced."""
        return 0.0 if self._rules is None else self._rules.bucket.per

    @property
    def gap(self) -> float:
        """Seconds from one request to the next where they go out evenly."""
        rules = self._rules
        return 0.0 if rules is None else rules.per / rules.bucket.limit

    def spaced(self, now: float, waiting: int) -> float:
        """When the next of `waiting` requests of low priority may go out.

        Later than `now` while more of them wait than a burst holds, and only because
        of that; `earliest` holds as well.
        """
        return now if self._rules is None else self._rules.spaced(now, waiting)

    def send(self, now: float, *, is_low: bool = False) -> Reservation:
        """Allow one request to be sent; `earliest` must have returned `now`.

        Args:
            now: Seconds.
            is_low: Whether it is one of low priority; see `spaced`.
        """
        self._sent += 1
        if is_low and self._rules is not None:
            self._rules.spacing.on_sent(now)
        reservation = Reservation(self._sent, now, self._in_flight)
        self._in_flight += 1
        if self._rules is not None:
            self._rules.on_sent(reservation)
        return reservation

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """No byte of a request was sent."""
        self._in_flight -= 1
        if self._rules is not None:
            self._rules.on_unsent(reservation, now)

    def on_abandoned(self, reservation: Reservation, now: float, linger: float) -> None:
        """Its response will not be read; its bytes may arrive for `linger` seconds."""
        self._in_flight -= 1
        if self._rules is not None:
            self._rules.on_abandoned(reservation, now, linger)

    def on_response(
        self, reservation: Reservation, now: float, facts: ResponseFacts | None
    ) -> None:
        """The response to a request arrived.

        Args:
            reservation: Of the request.
            now: Seconds.
            facts: What the response says; `None` if it may be about another rate
                budget.
        """
        if facts is None:
            self.on_abandoned(reservation, now, 0.0)
            return
        self._in_flight -= 1
        if facts.status != 429:
            self._gate.reset_backoff()
        if facts.limit is not None or facts.remaining is not None:
            self._service_limit = facts.limit
            self._service_remaining = facts.remaining
            self._service_seen_at = now
        if self._rules is not None:
            sent_since = self._sent_since(reservation)
            self._rules.on_response(reservation, now, facts, sent_since)

    def on_refused(
        self,
        now: float,
        retry_after: float | None,
        reservation: Reservation | None = None,
    ) -> None:
        """A 429 of this rate budget arrived.

        Args:
            now: Seconds.
            retry_after: Pause in seconds that it asks for; `None` if it names none.
            reservation: Of the refused request, if it took from this rate budget.
        """
        self._gate.on_refused(now, retry_after)
        if self._rules is not None:
            self._rules.credit.on_refused(reservation)
            if reservation is not None:
                sent_since = self._sent_since(reservation)
                self._rules.on_refused(reservation, now, sent_since)

    def status(self, now: float, waiting: int) -> BudgetStatus:
        """The public snapshot."""
        rules, seen_ago = self._rules, now - self._service_seen_at
        earliest = self.earliest(now)
        return BudgetStatus(
            limit=None if rules is None else rules.bucket.limit,
            per=None if self._limit is None else self._limit.per,
            available=self._available(now, earliest),
            next_free_in=earliest - now,
            waiting=waiting,
            closed_for=max(self._gate.opens_at - now, 0.0),
            service_limit=self._service_limit,
            service_remaining=self._service_remaining,
            service_spoke_ago=seen_ago if seen_ago < inf else None,
        )

    def _sent_since(self, reservation: Reservation) -> int:
        """Requests sent after one; the service may have counted them before it."""
        return self._sent - reservation.number

    def _available(self, now: float, earliest: float) -> int | None:
        if earliest > now:
            return 0
        if self._rules is None:
            return None
        return max(self.free(now), 1)


def _period_of(limit: RateLimit | None) -> float:
    """Seconds; a minute where requests are not paced."""
    return 60.0 if limit is None else limit.per
