"""One budget: the rules put together, still without a clock of its own.

Each rule is asked when the next request may go out; the latest answer holds. No rule
knows another, so each can be taken out, at the cost of its row in the benchmarks. What
one needs of another (how many tokens somebody else holds, whether there is credit while
the test for sliding counters is on) is passed here.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Any, Self

from finetuning_async._pacing._foreign_usage import ForeignUsage
from finetuning_async._pacing._limits import BudgetStatus
from finetuning_async._pacing._remaining_credit import RemainingCredit
from finetuning_async._pacing._reservation import Reservation
from finetuning_async._pacing._retry_after_gate import RetryAfterGate
from finetuning_async._pacing._sliding_window_counter import SlidingWindowCounter
from finetuning_async._pacing._token_bucket import TokenBucket

if TYPE_CHECKING:
    import random

    from finetuning_async._api import ResponseFacts
    from finetuning_async._pacing._limits import RateLimit

MARGIN = 0.05 / 60
"""Share of a period by which leases are longer than it, for timers, rounding and drift:
50 ms of a minute, and never less than `LEAST_MARGIN`."""

LEAST_MARGIN = 0.005
"""Seconds."""

MOST_BELIEVED = 10**9
"""Requests left; a header that says more is not worth the arithmetic."""


class _Rules:
    """The rules that need to know the limit."""

    __slots__ = ("bucket", "counter", "limit", "most", "news", "others", "reserved")

    def __init__(self, limit: RateLimit) -> None:
        held = _held(limit)
        self.limit = limit.limit
        self.most = limit.limit  # of the tokens; fewer while others have theirs
        self.reserved = 0
        self.bucket = TokenBucket(limit.limit, held)
        self.counter = SlidingWindowCounter(limit.limit, held)
        self.news = RemainingCredit(limit.per)
        self.others = ForeignUsage(held)

    def __repr__(self) -> str:
        return f"{self.bucket!r} {self.counter!r} {self.news!r} {self.others!r}"

    def to_state(self) -> dict[str, Any]:
        """What the rules remember, as JSON; see `from_state`."""
        return {
            "bucket": self.bucket.to_state(),
            "counter": self.counter.to_state(),
            "news": self.news.to_state(),
            "others": self.others.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], limit: RateLimit) -> Self:
        """Rules that remember what `to_state` told."""
        made, held = cls(limit), _held(limit)
        made.bucket = TokenBucket.from_state(state["bucket"], limit.limit, held)
        made.counter = SlidingWindowCounter.from_state(
            state["counter"], limit.limit, held
        )
        made.news = RemainingCredit.from_state(state["news"], limit.per)
        made.others = ForeignUsage.from_state(state["others"], held)
        return made

    def earliest(self, now: float) -> float:
        """When the next request may go out."""
        turn = self._token(now)
        return turn if turn > now else self._proof(now)

    def _token(self, now: float) -> float:
        """When a token is there that is neither ours nor somebody else's."""
        reserved = self.reserved
        turn = self.bucket.earliest(now, reserved)
        taken = max(self.others.taken(now), reserved)
        if taken == reserved or self.news.was_refused:
            return turn  # the time that a refusal names is promised to one of us
        if not self.news.has_headers:
            return max(turn, self.others.until)  # how many they are is a guess
        return max(turn, min(self.others.until, self.bucket.earliest(now, taken)))

    def _proof(self, now: float) -> float:
        """When the service is known to take it, or may be asked."""
        credit, ask = self.news.credit(now), self.news.earliest(now)
        if 1 <= credit < inf:
            return now
        if not self.counter.is_on:
            if credit == inf and self.counter.may_be_tried():
                return now
            if credit < 1 and ask <= now:
                return now
        taken = max(self.others.taken(now), self.reserved)
        tested = self.counter.earliest(now, taken)
        if not self.news.is_fresh(now) or self.others.were_there(now):
            return max(tested, ask)  # what others sent is not in the test
        return tested if self.counter.is_on else min(tested, self.news.next_probe(now))

    def on_sent(self, ticket: Reservation) -> None:
        """A request goes out."""
        self.bucket.on_sent(ticket)
        self.counter.on_sent(ticket)
        self.news.on_sent(ticket)

    def on_unsent(self, ticket: Reservation, now: float) -> None:
        """No byte of it left."""
        self.bucket.on_unsent(ticket, now)
        self.counter.on_unsent(ticket, now)
        self.news.on_unsent(ticket, now)

    def on_abandoned(self, ticket: Reservation, now: float, linger: float) -> None:
        """Its answer will not be read."""
        self.bucket.on_abandoned(ticket, now, linger)
        self.counter.on_abandoned(ticket, now, linger)
        self.news.on_abandoned(ticket, now)

    def on_response(
        self, ticket: Reservation, now: float, facts: ResponseFacts, sent_since: int
    ) -> None:
        """Its answer is in, and may say what the service has counted."""
        self.bucket.on_response(ticket, now)
        self.counter.on_response(ticket, now)
        if facts.limit is not None:
            self.adopt(facts.limit)
        if facts.remaining is None:
            self.news.on_response(ticket, now, None, wary=self._is_wary(now))
            if facts.status < 400:
                self.counter.served(ticket)
            return
        remaining = min(facts.remaining, MOST_BELIEVED)
        self.news.on_response(ticket, now, remaining)
        # What was refused is not among those that are used.
        itself = 0 if facts.status == 429 else 1
        used = self.bucket.limit - remaining + 1 - itself
        self._explain(ticket, now, used, sent_since)

    def adopt(self, limit: int) -> None:
        """The service named a limit; a lower one than ours holds."""
        self.bucket.limit = self.counter.limit = min(self.limit, limit)
        self.cap_tokens(self.most)

    def cap_tokens(self, most: int) -> None:
        """Leave what is above to other processes."""
        self.most, self.reserved = most, max(self.bucket.limit - most, 0)

    def on_refused(self, ticket: Reservation, now: float, sent_since: int) -> None:
        """It was refused, although the leases said that it would not be.

        That says as much as an answer with nothing remaining, header or not.
        """
        load = self.counter.load_at(ticket) + sent_since
        self.counter.is_on = self.counter.is_on or load > self.bucket.limit
        self._explain(ticket, now, self.bucket.limit + 1, sent_since)

    def _is_wary(self, now: float) -> bool:
        """Whether somebody else may weigh where no header tells."""
        others = self.others
        maybe = others.were_ever and self.counter.is_undecided
        return maybe or others.were_there(now)

    def _explain(
        self, ticket: Reservation, now: float, used: int, sent_since: int
    ) -> None:
        """Whose are the `used` requests: ours, a sliding counter's memory, others'."""
        most = self.counter.leased_at(ticket) + sent_since
        if used > most:
            weighed = ceil(self.counter.load_at(ticket)) + sent_since
            if most < used <= weighed and not self.others.taken(now):
                self.counter.is_on = True
            if self.counter.is_on:
                most = weighed
        self.others.seen(now, used, self.counter.surely_at(ticket), most)


def _period(limit: RateLimit | None) -> float:
    """Seconds; a minute, where nothing is paced."""
    return 60.0 if limit is None else limit.per


def _held(limit: RateLimit) -> float:
    """Seconds for which a token stays away after its answer."""
    return limit.per + max(limit.per * MARGIN, LEAST_MARGIN)


class RateBudget:
    """What one budget of the account allows.

    Args:
        limit: The limit; `None` if only the gate of a 429 holds anything.
        rng: Where jitter comes from.
    """

    __slots__ = (
        "_gate",
        "_in_flight",
        "_limit",
        "_rules",
        "_sent",
        "_told_at",
        "_told_limit",
        "_told_remaining",
    )

    def __init__(self, limit: RateLimit | None, rng: random.Random) -> None:
        self._limit = limit
        self._gate = RetryAfterGate(_period(limit), rng)
        self._rules = None if limit is None else _Rules(limit)
        self._sent = 0
        self._in_flight = 0
        self._told_limit: int | None = None  # by the service, and when that was
        self._told_remaining: int | None = None
        self._told_at = -inf

    def __repr__(self) -> str:
        return f"{self._gate!r} {self._rules or 'not paced'!r}"

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON with infinities; see `from_state`."""
        return {
            "gate": self._gate.to_state(),
            "pace": None if self._rules is None else self._rules.to_state(),
            "sent": self._sent,
            "in_flight": self._in_flight,
            "told_limit": self._told_limit,
            "told_remaining": self._told_remaining,
            "told_at": self._told_at,
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], limit: RateLimit | None, rng: random.Random
    ) -> Self:
        """One that remembers what `to_state` told, and holds the service's limit.

        Of two processes only one may be paced; then the rules of the other are new.

        Raises:
            LookupError: It is no such state.
            TypeError: Likewise.
            ValueError: Likewise.
        """
        made = cls(limit, rng)
        made._gate = RetryAfterGate.from_state(state["gate"], _period(limit), rng)
        made._sent, made._in_flight = state["sent"], state["in_flight"]
        made._told_limit = state["told_limit"]
        made._told_remaining = state["told_remaining"]
        made._told_at = state["told_at"]
        if limit is not None and state["pace"] is not None:
            made._rules = _Rules.from_state(state["pace"], limit)
            if made._told_limit is not None:
                made._rules.adopt(made._told_limit)
        return made

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; in the past if none holds."""
        return self._gate.opens_at

    def cap_tokens(self, most: int) -> None:
        """Use no more than so many tokens at a time; at least 0."""
        if self._rules is not None:
            self._rules.cap_tokens(most)

    def forget_credit(self) -> None:
        """Others may have sent what nobody told of: one request goes first."""
        if self._rules is not None:
            self._rules.news.forget()

    def forget_observations(self) -> None:
        """Likewise, and what was taken for somebody else's may have been theirs."""
        if self._rules is not None:
            self.forget_credit()
            self._rules.others.forget()

    def free(self, now: float) -> int:
        """Tokens that are neither ours nor somebody else's; at least 0."""
        if self._rules is None:
            return 0
        return max(self._rules.bucket.free(now) - self._rules.others.taken(now), 0)

    def charged(self, now: float) -> int:
        """Tokens that are out, or coming back."""
        if self._rules is None:
            return 0
        return self._rules.bucket.limit - self._rules.bucket.free(now)

    def earliest(self, now: float) -> float:
        """When the next request may go out, unless something is learned before.

        Returns:
            `now` or later; `inf` if that depends on an answer still out.
        """
        gate = self._gate.earliest(now)
        if self._rules is None or gate > now:
            return gate
        return self._rules.earliest(now)

    def earliest_behind(self, now: float, ahead: int) -> float:
        """A lower bound of when a newcomer may go out behind `ahead` others."""
        gate = self._gate.earliest(now)
        if self._rules is None:
            return gate
        return max(gate, self._rules.bucket.earliest_behind(now, ahead))

    def send(self, now: float) -> Reservation:
        """Let a request go; `earliest` must have said `now`."""
        self._sent += 1
        ticket = Reservation(self._sent, now, self._in_flight)
        self._in_flight += 1
        if self._rules is not None:
            self._rules.on_sent(ticket)
        return ticket

    def on_unsent(self, ticket: Reservation, now: float) -> None:
        """No byte of it left."""
        self._in_flight -= 1
        if self._rules is not None:
            self._rules.on_unsent(ticket, now)

    def on_abandoned(self, ticket: Reservation, now: float, linger: float) -> None:
        """Nobody waits for its answer; its bytes may arrive for `linger` seconds."""
        self._in_flight -= 1
        if self._rules is not None:
            self._rules.on_abandoned(ticket, now, linger)

    def on_response(
        self, ticket: Reservation, now: float, facts: ResponseFacts | None
    ) -> None:
        """Its answer is in.

        Args:
            ticket: Of the request.
            now: Seconds.
            facts: What the answer says; `None` if it may speak of another budget.
        """
        if facts is None:
            self.on_abandoned(ticket, now, 0.0)
            return
        self._in_flight -= 1
        if facts.status != 429:
            self._gate.reset_backoff()
        if facts.limit is not None or facts.remaining is not None:
            self._told_limit, self._told_remaining = facts.limit, facts.remaining
            self._told_at = now
        if self._rules is not None:
            self._rules.on_response(ticket, now, facts, self._sent_since(ticket))

    def on_refused(
        self, now: float, retry_after: float | None, ticket: Reservation | None = None
    ) -> None:
        """A 429 of this budget arrived.

        Args:
            now: Seconds.
            retry_after: The seconds it asks for, if any.
            ticket: Of the refused request, if it took from this budget.
        """
        self._gate.on_refused(now, retry_after)
        if self._rules is not None:
            self._rules.news.on_refused(ticket)
            if ticket is not None:
                self._rules.on_refused(ticket, now, self._sent_since(ticket))

    def status(self, now: float, waiting: int) -> BudgetStatus:
        """The snapshot that people look at."""
        pace, spoke_ago = self._rules, now - self._told_at
        earliest = self.earliest(now)
        return BudgetStatus(
            limit=None if pace is None else pace.bucket.limit,
            per=None if self._limit is None else self._limit.per,
            available=self._available(now, earliest),
            next_free_in=earliest - now,
            waiting=waiting,
            closed_for=max(self._gate.opens_at - now, 0.0),
            service_limit=self._told_limit,
            service_remaining=self._told_remaining,
            service_spoke_ago=spoke_ago if spoke_ago < inf else None,
        )

    def _sent_since(self, ticket: Reservation) -> int:
        return self._sent - ticket.number

    def _available(self, now: float, earliest: float) -> int | None:
        if earliest > now:
            return 0
        if self._rules is None:
            return None
        return max(self.free(now), 1)
