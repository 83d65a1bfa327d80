"""What the clients of one account share: ids, the poll loop, limits and gates.

It belongs to (event-loop run, base URL, hash of the key, paced or not): two clients
with one key in one loop share it, unless only one of them sets ``rate_limits=None``.
Nothing of it outlives the loop. Rate limits and the gates that a
429 closes are the exception: they belong to the whole process (`_process_memory`),
because the service counts across loops. They too end with the loop where the caller
brought a rate limiter, or where the first client in the loop has an HTTP client of the
caller's: that may be a test's.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, TypeAlias

import anyio

from finetuning_async._coordination import ProcessLimiter
from finetuning_async._http import Concurrency, HeaderWarnings, ServerClock
from finetuning_async._pacing import InFlight, Limiter, Load, RateLimits
from finetuning_async._polling import Poller
from finetuning_async._runtime import KeyedLock, LoopHandle
from finetuning_async._session._line_view import LineView
from finetuning_async._submission import WaitBounds

if TYPE_CHECKING:
    from finetuning_async._pacing import RateLimiter
    from finetuning_async._secrets import ApiKey

logger = logging.getLogger("finetuning_async")

_AccountKey: TypeAlias = tuple[str, str, bool]
"""Base URL, hash of the API key, and whether its requests are not paced at all."""

rng = random.SystemRandom()
"""Seeds and jitter. It is the system's, because a seed identifies a track: two forked
processes with the same generator would draw the same seeds."""


class AccountState:
    """The shared state of one account in one event loop.

    Args:
        limits: Its rate limits; `None` for no pacing.
        limiter: Gives the permits.
    """

    def __init__(self, limits: RateLimits | None, limiter: RateLimiter) -> None:
        self.limits = limits
        self.limiter: RateLimiter = limiter
        self.clock: ServerClock = ServerClock()
        self.header_warnings: HeaderWarnings = HeaderWarnings()
        self.inflight: InFlight = InFlight(None if limits is None else limits.queue)
        self.load: Load = Load(self.inflight, limiter)
        # Held by identity (kind, prompt, the caller's seed): two such creates at once
        # would look alike in a list.
        self.create_lock: KeyedLock = KeyedLock()
        self.concurrency: Concurrency = Concurrency()
        reads = (limits or RateLimits()).reads
        self.poller: Poller = Poller(
            self.inflight, self.clock, limit=reads.limit, per=reads.per
        )
        self.line: LineView = LineView(limiter, limits, self.inflight, self.poller)
        self.wait_bounds: WaitBounds = WaitBounds(self.line)

    def connect_store(self, limiter: RateLimiter, name: str) -> None:
        """Bind a limiter that several processes share, and share the polling too.

        Args:
            limiter: The caller's; one without a store is left as it is.
            name: The account's name in the store.
        """
        # Most clients have no store, and need not load its modules.
        from finetuning_async._coordination import StoreLimiter

        if isinstance(limiter, StoreLimiter):
            limiter.bind(name, self.limits, lambda: len(self.inflight.tracks))
            self.poller.share(limiter.new_coordinator())

    def service_time(self) -> float | None:
        """The earliest that the service's clock can show now, in seconds since 1970.

        `None` before the first response.
        """
        moment = self.clock.not_before(anyio.current_time())
        return None if moment is None else moment.timestamp()

    @property
    def queue_is_full(self) -> bool:
        """Whether creates wait for the service's queue, not for the rate limit."""
        capacity = self.inflight.queue_capacity
        return capacity is not None and len(self.inflight.tracks) >= capacity

    @classmethod
    def get_or_create(
        cls,
        base_url: str,
        key: ApiKey,
        limits: RateLimits | None,
        limiter: RateLimiter | None,
        *,
        has_own_http_client: bool = False,
    ) -> AccountState:
        """The account of a key in the running event loop.

        Args:
            base_url: The service.
            key: The API key.
            limits: Its rate limits, unless another client has set them first; `None`
                for no pacing.
            limiter: Gives the permits, if the caller brought it.
            has_own_http_client: Whether the HTTP client is the caller's.
        """
        # Kept by the loop, so it ends with the loop.
        kept = LoopHandle.current().storage
        accounts: dict[_AccountKey, AccountState] = kept.setdefault("accounts", {})
        account_key = (base_url, key.digest, limits is None)
        account = accounts.get(account_key)
        if account is None:
            account = accounts[account_key] = cls(
                limits,
                limiter
                or _new_limiter(account_key, limits, is_local=has_own_http_client),
            )
            if limiter is not None:
                account.connect_store(limiter, f"{base_url} {key.digest}")
        elif account.limits != limits:
            logger.warning(
                "rate_limits=%s is ignored: another client with this API key already"
                " uses %s in this event loop; give both clients the same limits",
                limits,
                account.limits,
            )
        if limiter is not None and type(account.limiter) is not type(limiter):
            logger.warning(
                "rate_limiter=%s is ignored: another client with this API key came"
                " first and has another rate limiter; give both clients the same one",
                type(limiter).__name__,
            )
        return account


def _new_limiter(
    account_key: _AccountKey, limits: RateLimits | None, *, is_local: bool
) -> Limiter:
    if is_local:
        return Limiter(limits, rng=rng)
    return ProcessLimiter(limits, rng=rng, key=account_key)
