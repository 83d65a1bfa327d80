"""Our limiter, driven as the pipeline drives it; whole, and with one rule less."""

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


class Through:
    """A process that asks a limiter.

    Args:
        limiter: What it asks.
        route: For which budget.
    """

    def __init__(self, limiter: Limiter, route: Route = "creates") -> None:
        self.limiter = limiter
        self.route = route

    async def request(self, send: Send) -> None:
        """Have one request served."""
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


class Ours(Through):
    """A `Limiter` and nothing else."""

    def __init__(self, setting: Setting) -> None:
        limits = RateLimits(creates=RateLimit(setting.limit, per=setting.per))
        super().__init__(Limiter(limits, rng=random.Random(1)))


class _SentNotAnswered(TokenBucket):
    """Tokens that come back one period after the request was sent."""

    def on_response(self, ticket: Reservation, now: float) -> None:
        super().on_response(ticket, ticket.sent_at)


class _AlwaysCredit(RemainingCredit):
    """No question before a rush, and no header is read."""

    def credit(self, now: float) -> float:
        return inf

    def is_fresh(self, now: float) -> bool:
        return True


class _NeverWary(RemainingCredit):
    """Somebody else on the account is forgotten after a few answers."""

    def on_response(
        self,
        ticket: Reservation,
        now: float,
        remaining: int | None,
        *,
        one_at_a_time: bool = False,
    ) -> None:
        super().on_response(ticket, now, remaining)


class _NoCounter(SlidingWindowCounter):
    """Services are never sliding counters."""

    def allows_trial(self) -> bool:
        return True

    def earliest(self, now: float, taken: int = 0) -> float:
        return now


class _Nobody(ForeignUsage):
    """The account is ours alone."""

    def observe(self, now: float, used: int, own_min: int, own_max: int) -> None:
        pass


def _no_leases(rules: RuleSet) -> None:
    rules.bucket = _SentNotAnswered(rules.limit, rules.bucket.per)


def _no_first_news(rules: RuleSet) -> None:
    rules.credit = _AlwaysCredit(rules.counter.per)


def _never_wary(rules: RuleSet) -> None:
    rules.credit = _NeverWary(rules.counter.per)


def _no_counter(rules: RuleSet) -> None:
    rules.counter = _NoCounter(rules.limit, rules.counter.per)


def _nobody_else(rules: RuleSet) -> None:
    rules.foreign = _Nobody(rules.counter.per)


def _lacking(remove: Callable[[RuleSet], None]) -> Callable[[Setting], Client]:
    def make(setting: Setting) -> Client:
        client = Ours(setting)
        creates, _ = client.limiter._all_queues()  # noqa: SLF001 - as above
        rules = creates.rate_budget._rules  # noqa: SLF001 - as above
        assert rules is not None
        remove(rules)
        return client

    return make


ONE_RULE_LESS: Final[dict[str, Callable[[Setting], Client]]] = {
    "all rules": Ours,
    "leases from sending on": _lacking(_no_leases),
    "without first news": _lacking(_no_first_news),
    "never wary": _lacking(_never_wary),
    "without the sliding counter": _lacking(_no_counter),
    "without somebody else": _lacking(_nobody_else),
}
"""Name to a maker; each row shows what a rule is for."""
