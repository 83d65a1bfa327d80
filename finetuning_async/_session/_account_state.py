"""What the clients of one account share: claims, the poll loop, budgets and gates.

It belongs to (event-loop run, base URL, hash of the key), so two clients with one key
in one loop share it, and nothing survives the loop. Only budgets and gates belong to
the whole process, see `_process_memory`, unless they are the caller's, or the first
client in the loop has an HTTP client of the caller's, which may be a test's: then they
end with the loop, too.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, TypeAlias

from finetuning_async._coordination import ProcessLimiter
from finetuning_async._http import Concurrency, HeaderWarnings, ServerClock
from finetuning_async._pacing import InFlight, Limiter, RateLimits
from finetuning_async._polling import Poller
from finetuning_async._runtime import KeyedLock, LoopHandle

if TYPE_CHECKING:
    from finetuning_async._pacing import RateLimiter
    from finetuning_async._secrets import ApiKey

logger = logging.getLogger("finetuning_async")

_Key: TypeAlias = tuple[str, str, bool]

rng = random.SystemRandom()
"""Seeds and jitter; a seed tells a track apart, so it must not repeat in a forked
child."""


class AccountState:
    """The shared state of one account in one event loop.

    Args:
        limits: What it may send; `None` for no pacing.
        limiter: Its turns.
    """

    def __init__(self, limits: RateLimits | None, limiter: RateLimiter) -> None:
        self.limits = limits
        self.limiter: RateLimiter = limiter
        self.clock: ServerClock = ServerClock()
        self.header_warnings: HeaderWarnings = HeaderWarnings()
        self.inflight: InFlight = InFlight()
        self.one_by_one: KeyedLock = KeyedLock()
        self.concurrency: Concurrency = Concurrency()
        reads = (limits or RateLimits()).reads
        self.poller: Poller = Poller(
            self.inflight, self.clock, limit=reads.limit, per=reads.per
        )

    def share(self, limiter: RateLimiter, name: str) -> None:
        """Say whose turns a limiter keeps, if it does so for several processes."""
        # Most clients have none, and do without its modules.
        from finetuning_async._coordination import StoreLimiter

        if isinstance(limiter, StoreLimiter):
            limiter.bind(name, self.limits, lambda: len(self.inflight.tracks))
            self.poller.share(limiter.new_coordinator())

    @classmethod
    def of(
        cls,
        base_url: str,
        key: ApiKey,
        limits: RateLimits | None,
        limiter: RateLimiter | None,
        *,
        is_given: bool = False,
    ) -> AccountState:
        """The account of a key in the running event loop; made if need be.

        Args:
            base_url: Where.
            key: Whose.
            limits: What it may send, if no other client has said so first; `None` for
                no pacing.
            limiter: Its turns, if the caller brings them.
            is_given: Whether the HTTP client is the caller's.
        """
        kept = LoopHandle.current().storage
        accounts: dict[_Key, AccountState] = kept.setdefault("accounts", {})
        name = (base_url, key.digest, limits is None)
        account = accounts.get(name)
        if account is None:
            account = accounts[name] = cls(
                limits, limiter or _limiter_of(name, limits, is_given=is_given)
            )
            if limiter is not None:
                account.share(limiter, f"{base_url} {key.digest}")
        elif account.limits != limits:
            logger.warning(
                "another client with this key set %s first; it holds for both",
                account.limits,
            )
        if limiter is not None and type(account.limiter) is not type(limiter):
            logger.warning(
                "another client with this key came first, and its turns hold for both;"
                " they are not kept by %s",
                type(limiter).__name__,
            )
        return account


def _limiter_of(name: _Key, limits: RateLimits | None, *, is_given: bool) -> Limiter:
    if is_given:
        return Limiter(limits, rng=rng)
    return ProcessLimiter(limits, rng=rng, key=name)
