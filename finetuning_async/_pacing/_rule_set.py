"""The rules of one rate budget that need to know the limit, put together. Pure.

Each rule says when the next request may go out; the latest of these times holds. No
rule knows another one, so each can be removed, at the cost of its row in the
benchmarks. What one rule needs of another is passed in here: how many tokens other
clients hold, and whether there is credit while the test for sliding counters is on.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Any, Self

from finetuning_async._pacing._even_spacing import EvenSpacing
from finetuning_async._pacing._foreign_usage import ForeignUsage
from finetuning_async._pacing._remaining_credit import RemainingCredit
from finetuning_async._pacing._sliding_window_counter import SlidingWindowCounter
from finetuning_async._pacing._token_bucket import TokenBucket

if TYPE_CHECKING:
    from finetuning_async._api import ResponseFacts
    from finetuning_async._pacing._limits import RateLimit
    from finetuning_async._pacing._reservation import Reservation

LEASE_MARGIN = 0.05 / 60
"""How much longer than the period a lease is, as a share of it, for timers, rounding
and drift: 50 ms of a minute, and never less than `MIN_LEASE_MARGIN`."""

MIN_LEASE_MARGIN = 0.005
"""Seconds."""

MAX_REMAINING = 10**9
"""Requests left; a header that says more is not worth the arithmetic."""


class RuleSet:
    """The rules that need to know the limit.

    Attributes:
        limit: The limit as the caller stated it; the service may name a lower one.
        per: Its period in seconds.
        token_cap: Tokens that this process may use; fewer than `limit` while other
            processes of the account hold the rest.
        withheld: Tokens left to those other processes.
    """

    __slots__ = (
        "bucket",
        "counter",
        "credit",
        "foreign",
        "limit",
        "per",
        "spacing",
        "token_cap",
        "withheld",
    )

    def __init__(self, limit: RateLimit) -> None:
        lease = _lease_of(limit)
        self.limit = limit.limit
        self.per = limit.per
        self.token_cap = limit.limit
        self.withheld = 0
        self.bucket = TokenBucket(limit.limit, lease)
        self.counter = SlidingWindowCounter(limit.limit, lease)
        self.credit = RemainingCredit(limit.per)
        self.foreign = ForeignUsage(lease)
        self.spacing = EvenSpacing()

    def __repr__(self) -> str:
        return f"{self.bucket!r} {self.counter!r} {self.credit!r} {self.foreign!r}"

    def to_state(self) -> dict[str, Any]:
        """Return what the rules remember as JSON; see `from_state`."""
        # The keys are those of the stored form: they stay when a name changes.
        return {
            "bucket": self.bucket.to_state(),
            "counter": self.counter.to_state(),
            "news": self.credit.to_state(),
            "others": self.foreign.to_state(),
            "spacing": self.spacing.to_state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], limit: RateLimit) -> Self:
        """Restore what `to_state` returned."""
        made, lease = cls(limit), _lease_of(limit)
        made.bucket = TokenBucket.from_state(state["bucket"], limit.limit, lease)
        made.counter = SlidingWindowCounter.from_state(
            state["counter"], limit.limit, lease
        )
        made.credit = RemainingCredit.from_state(state["news"], limit.per)
        made.foreign = ForeignUsage.from_state(state["others"], lease)
        made.spacing = EvenSpacing.from_state(state["spacing"])
        return made

    def earliest(self, now: float) -> float:
        """When the next request may go out."""
        token_at = self._token_at(now)
        return token_at if token_at > now else self._room_at(now)

    def token_times(self, now: float) -> list[float]:
        """When each token is back, in ascending order, as far as known."""
        own = self.bucket.token_times(now)
        taken = min(self.foreign.count(now), len(own))
        times = sorted(own[taken:] + [self.foreign.until] * taken)
        if self.credit.was_refused and times:  # see `_token_at`
            times[0] = min(times[0], own[0])
        return times

    def spaced(self, now: float, waiting: int) -> float:
        """When the next of `waiting` requests of low priority may go out."""
        return self.spacing.earliest(now, waiting, self.bucket.limit, self.per)

    def _token_at(self, now: float) -> float:
        """When a token is free that neither we nor another client holds."""
        withheld = self.withheld
        own = self.bucket.earliest(now, withheld)
        # What the header shows as foreign may be the very processes for which tokens
        # are withheld, so the larger of both counts, not their sum.
        taken = max(self.foreign.count(now), withheld)
        if taken == withheld:
            return own
        # The gate of the refusal has opened by now, and the service named that time
        # for a request to be served: one of ours may use it, whatever others hold.
        if self.credit.was_refused:
            return own
        # Without headers, foreign usage was inferred from a refusal. How much it is
        # stays a guess, so all of it must have expired.
        if not self.credit.has_headers:
            return max(own, self.foreign.until)
        # With headers the number is known: go when theirs has expired, or when so many
        # of our own tokens are back that both fit, whichever comes first.
        return max(own, min(self.foreign.until, self.bucket.earliest(now, taken)))

    def _room_at(self, now: float) -> float:
        """When the service is known to have room for one more, or may be probed.

        A free token proves this only for a service that counts fixed windows or keeps a
        log, and only if no other client uses the account. Otherwise it takes evidence:
        a header, the test for sliding counters, or the response to a probe.
        """
        credit, probe_at = self.credit.amount(now), self.credit.earliest(now)
        # A header has proved room, by whatever rule the service counts.
        if 1 <= credit < inf:
            return now
        if not self.counter.is_on:
            # No headers, but the first single probes were all accepted. On a sliding
            # counter that proves nothing for the next window, so bursts that such a
            # counter could refuse start with one request, and double.
            if credit == inf and self.counter.allows_trial():
                return now
            # Nothing is proved, and no probe is in flight, or the last one has been
            # for long enough. The worst that this one can earn is a single 429.
            if credit < 1 and probe_at <= now:
                return now
        # Here either the service is a sliding counter, or it may be one and a trial is
        # in flight, or a probe is. The test says when no phase of it could refuse.
        taken = max(self.foreign.count(now), self.withheld)
        tested_at = self.counter.earliest(now, taken)
        # The test knows our own requests only. If nothing was learned within the last
        # period, or other clients were seen so lately that a sliding counter still
        # counts them, the request must be allowed as a probe too.
        if not self.credit.is_fresh(now) or self.foreign.may_still_weigh(now):
            return max(tested_at, probe_at)
        # On a sliding counter the test is the whole rule. Elsewhere it is a shortcut:
        # what passes it needs no probe, and a probe without a response is followed by
        # the next one in time.
        if self.counter.is_on:
            return tested_at
        return min(tested_at, self.credit.next_probe(now))

    def on_sent(self, reservation: Reservation) -> None:
        """A request is sent."""
        self.bucket.on_sent(reservation)
        self.counter.on_sent(reservation)
        self.credit.on_sent(reservation)

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """No byte of it was sent."""
        self.bucket.on_unsent(reservation, now)
        self.counter.on_unsent(reservation, now)
        self.credit.on_unsent(reservation, now)

    def on_abandoned(self, reservation: Reservation, now: float, linger: float) -> None:
        """Its response will not be read."""
        self.bucket.on_abandoned(reservation, now, linger)
        self.counter.on_abandoned(reservation, now, linger)
        self.credit.on_abandoned(reservation, now)

    def on_response(
        self,
        reservation: Reservation,
        now: float,
        facts: ResponseFacts,
        sent_since: int,
    ) -> None:
        """Its response arrived, and may say what the service has counted."""
        self.bucket.on_response(reservation, now)
        self.counter.on_response(reservation, now)
        if facts.limit is not None:
            self.adopt_limit(facts.limit)
        if facts.remaining is None:
            one_at_a_time = self._must_go_singly(now)
            self.credit.on_response(reservation, now, None, one_at_a_time=one_at_a_time)
            if facts.status < 400:
                self.counter.on_served(reservation)
            return
        remaining = min(facts.remaining, MAX_REMAINING)
        self.credit.on_response(reservation, now, remaining)
        # The requests used, this one included: an accepted one is among those that the
        # header counts, a refused one comes on top of them.
        used = self.bucket.limit - remaining + (1 if facts.status == 429 else 0)
        self._attribute_usage(reservation, now, used, sent_since)

    def adopt_limit(self, limit: int) -> None:
        """Use the limit that the service named, if it is lower than the caller's."""
        self.bucket.limit = self.counter.limit = min(self.limit, limit)
        self.cap_tokens(self.token_cap)

    def cap_tokens(self, token_cap: int) -> None:
        """Leave all tokens above the cap to other processes."""
        self.token_cap = token_cap
        self.withheld = max(self.bucket.limit - token_cap, 0)

    def on_refused(self, reservation: Reservation, now: float, sent_since: int) -> None:
        """A request was refused, although the leases promised that it would not be.

        That proves as much as a response with nothing remaining, header or not.
        """
        # Leases exclude a refusal by a fixed window or a log. If a sliding counter of
        # some phase could have held more than the limit, the service is one. If not,
        # another client must have used the rest.
        load = self.counter.load_at(reservation) + sent_since
        self.counter.is_on = self.counter.is_on or load > self.bucket.limit
        self._attribute_usage(reservation, now, self.bucket.limit + 1, sent_since)

    def _must_go_singly(self, now: float) -> bool:
        """Whether other clients may still be counted where no header shows them."""
        foreign = self.foreign
        may_be_counted = foreign.ever_seen and self.counter.is_undecided
        return may_be_counted or foreign.may_still_weigh(now)

    def _attribute_usage(
        self, reservation: Reservation, now: float, used: int, sent_since: int
    ) -> None:
        """Say whose the `used` requests are: ours, a sliding counter's, or foreign.

        All numbers are as of the moment at which the service counted the request of
        `reservation`, and include it.
        """
        # The most that can be ours under a count of one period: those in flight when
        # the request was sent, those answered within a period before, and those sent
        # since, which may have overtaken it.
        own_max = self.counter.max_counted_at(reservation) + sent_since
        if used > own_max:
            # There are more than that. Either the service is a sliding counter, which
            # still counts part of our requests of the window before, or another client
            # sent the rest. `weighed` is the most that our own can weigh on such a
            # counter, rounded up as the service may do.
            weighed = ceil(self.counter.load_at(reservation)) + sent_since
            # Our own weights explain the number, and no other client is known of:
            # conclude that it is a sliding counter. A wrong guess costs speed only,
            # whereas a sliding counter taken for another client may earn 429s.
            if used <= weighed and not self.foreign.count(now):
                self.counter.is_on = True
            if self.counter.is_on:
                own_max = weighed
        own_min = self.counter.min_counted_at(reservation)
        self.foreign.observe(now, used, own_min, own_max)


def _lease_of(limit: RateLimit) -> float:
    """Seconds from a response until its token is back."""
    return limit.per + max(limit.per * LEASE_MARGIN, MIN_LEASE_MARGIN)
