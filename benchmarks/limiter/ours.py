"""Our limiter, driven as the pipeline drives it; whole, and with one rule removed."""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING, Final

from finetuning_async._api._messages import ResponseFacts
from finetuning_async._pacing._foreign_usage import ForeignUsage
from finetuning_async._pacing._limiter import Limiter
from finetuning_async._pacing._limits import RateLimit, RateLimits
from finetuning_async._pacing._remaining_credit import RemainingCredit
from finetuning_async._pacing._sliding_window_counter import SlidingWindowCounter
from finetuning_async._pacing._token_bucket import TokenBucket
from finetuning_async._rate_codes import CODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.limiter.simulation import Client, Send, Setting
    from finetuning_async._api._messages import Route
    from finetuning_async._pacing._reservation import Reservation
    from finetuning_async._pacing._rule_set import RuleSet


class LimitedClient:
    """A process that sends through a limiter.

    Args:
        limiter: Where its permits come from.
        route: Which rate budget they take from.
    """

    def __init__(self, limiter: Limiter, route: Route = "creates") -> None:
        self.limiter = limiter
        self.route = route

    async def request(self, send: Send) -> None:
        """Send until one request is served."""
        refused = False
        while True:
            permit = await self.limiter.acquire(self.route, first=refused)
            response = await send()
            refused = response.status == 429
            facts = ResponseFacts(
                status=response.status,
                code=CODES[self.route] if refused else None,
                limit=response.limit,
                remaining=response.remaining,
                retry_after=response.retry_after,
            )
            permit.answered(facts)
            await self.limiter.flush()
            if not refused:
                return


class Ours(LimitedClient):
    """A `Limiter` and nothing else."""

    def __init__(self, setting: Setting) -> None:
        limits = RateLimits(creates=RateLimit(setting.limit, per=setting.per))
        super().__init__(Limiter(limits, rng=random.Random(1)))


class _LeasedFromSending(TokenBucket):
    """Leases that run from the sending of the request."""

    def on_response(self, reservation: Reservation, now: float) -> None:
        super().on_response(reservation, reservation.sent_at)


class _AlwaysCredit(RemainingCredit):
    """No probe before a burst, and no header is read."""

    def amount(self, now: float) -> float:
        return inf

    def is_fresh(self, now: float) -> bool:
        return True


class _NeverSingly(RemainingCredit):
    """After foreign usage, requests do not keep going one at a time."""

    def on_response(
        self,
        reservation: Reservation,
        now: float,
        remaining: int | None,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        super().on_response(reservation, now, remaining)


class _NoCounter(SlidingWindowCounter):
    """The service is never taken for a sliding counter."""

    def allows_trial(self) -> bool:
        return True

    def earliest(self, now: float, taken: int = 0) -> float:
        return now


class _NoForeignUsage(ForeignUsage):
    """No other client is taken to use the account."""

    def observe(self, now: float, used: int, own_min: int, own_max: int) -> None:
        pass


def _lease_from_sending(rules: RuleSet) -> None:
    rules.bucket = _LeasedFromSending(rules.limit, rules.bucket.per)


def _without_probes(rules: RuleSet) -> None:
    rules.credit = _AlwaysCredit(rules.counter.per)


def _never_singly(rules: RuleSet) -> None:
    rules.credit = _NeverSingly(rules.counter.per)


def _without_counter(rules: RuleSet) -> None:
    rules.counter = _NoCounter(rules.limit, rules.counter.per)


def _without_foreign_usage(rules: RuleSet) -> None:
    rules.foreign = _NoForeignUsage(rules.counter.per)


def _without(remove: Callable[[RuleSet], None]) -> Callable[[Setting], Client]:
    def make(setting: Setting) -> Client:
        client = Ours(setting)
        creates, _ = client.limiter._all_queues()  # noqa: SLF001 - as above
        rules = creates.rate_budget._rules  # noqa: SLF001 - as above
        assert rules is not None
        remove(rules)
        return client

    return make


ONE_RULE_REMOVED: Final[dict[str, Callable[[Setting], Client]]] = {
    "all rules": Ours,
    "leases from sending": _without(_lease_from_sending),
    "without probes": _without(_without_probes),
    "never singly": _without(_never_singly),
    "without the sliding counter": _without(_without_counter),
    "without foreign usage": _without(_without_foreign_usage),
}
"""Makers of clients by name; each row shows what one rule is for."""
