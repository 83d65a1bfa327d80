"""What an account may send, as the caller states it and as a snapshot shows it."""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from finetuning_async._api import number, whole_number
from finetuning_async._errors import InvalidRequestError


class SupportsRateLimit(Protocol):
    """Anything with a `limit` (requests) and a `per` (seconds)."""

    @property
    def limit(self) -> int:
        """Requests allowed in any `per` seconds."""

    @property
    def per(self) -> float:
        """Seconds."""


class SupportsRateLimits(Protocol):
    """Anything with `creates` and `reads`; the emulator's limits are such a thing.

    `RateLimits` itself is one that pyright does not see as such, for its converters:
    parameters name both.
    """

    @property
    def creates(self) -> SupportsRateLimit:
        """The budget of the requests that start a track."""

    @property
    def reads(self) -> SupportsRateLimit:
        """The budget of all other requests."""


def _checked_limit(value: object) -> int:
    given = whole_number(value)
    if given is not None and given >= 1:
        return given
    raise InvalidRequestError("limit", value, "a whole number of at least 1")


def _checked_per(value: object) -> float:
    seconds = number(value)
    if seconds is not None and seconds > 0:
        return float(seconds)
    raise InvalidRequestError("per", value, "seconds, above 0 and finite")


@attrs.frozen
class RateLimit:
    """So many requests in any so many seconds.

    Attributes:
        limit: Requests; at least 1.
        per: Seconds; above 0.

    Raises:
        InvalidRequestError: A value is out of its range.

    Example:
        client = AsyncClient(rate_limits=RateLimits(creates=RateLimit(5, per=60)))
    """

    limit: int = attrs.field(converter=_checked_limit)
    per: float = attrs.field(default=60.0, kw_only=True, converter=_checked_per)

    @classmethod
    def of(cls, field: str, value: object) -> RateLimit:
        """Take a limit from anything that has `limit` and `per`.

        Raises:
            InvalidRequestError: It has not, or a value is out of its range.
        """
        if isinstance(value, RateLimit):
            return value
        try:
            limit, per = value.limit, value.per  # type: ignore[attr-defined]  # duck type, checked by the except
        except AttributeError:
            raise InvalidRequestError(
                field, value, "a RateLimit, or an object with .limit and .per"
            ) from None
        return cls(limit, per=per)


def _creates(value: object) -> RateLimit:
    return RateLimit.of("creates", value)


def _reads(value: object) -> RateLimit:
    return RateLimit.of("reads", value)


@attrs.frozen(kw_only=True)
class RateLimits:
    """The two budgets of an account; the defaults are those the service documents.

    Attributes:
        creates: Requests that start a track.
        reads: Every other request, bulk POSTs included.

    Example:
        half = RateLimits(creates=RateLimit(5), reads=RateLimit(30))
        client = AsyncClient(rate_limits=half)  # the rest is for another process
    """

    creates: RateLimit = attrs.field(default=RateLimit(10), converter=_creates)
    reads: RateLimit = attrs.field(default=RateLimit(60), converter=_reads)

    @classmethod
    def of(cls, value: object) -> RateLimits:
        """Take limits from anything that has `creates` and `reads`.

        Raises:
            InvalidRequestError: It has not, or a value is out of its range.
        """
        if isinstance(value, RateLimits):
            return value
        try:
            creates, reads = value.creates, value.reads  # type: ignore[attr-defined]  # duck type, checked by the except
        except AttributeError:
            raise InvalidRequestError(
                "rate_limits",
                value,
                "RateLimits, or an object with .creates and .reads",
            ) from None
        return cls(creates=creates, reads=reads)


DEFAULT_LIMITS: Final = RateLimits()


@attrs.frozen(kw_only=True)
class BudgetStatus:
    """One budget at one moment.

    Attributes:
        limit: Requests allowed in any `per` seconds, as used now; `None` if not paced.
        per: Seconds; `None` if not paced.
        available: Requests that could go out at this moment; `None` if not paced and
            not held.
        next_free_in: Seconds until one could, at least 0; ``inf`` if that depends on an
            answer which is still out.
        waiting: Calls that wait for a turn.
        closed_for: Seconds for which a 429 still holds everybody; 0 if none does.
        service_limit: ``X-RateLimit-Limit`` as the service last sent it.
        service_remaining: ``X-RateLimit-Remaining``, likewise.
        service_spoke_ago: Seconds since that answer.

    Example:
        await client.me()
        creates = client.rate_limit_status().creates
        print(creates.available, "now, the next in", creates.next_free_in, "s")
    """

    limit: int | None
    per: float | None
    available: int | None
    next_free_in: float
    waiting: int
    closed_for: float
    service_limit: int | None
    service_remaining: int | None
    service_spoke_ago: float | None


@attrs.frozen(kw_only=True)
class RateLimitStatus:
    """Both budgets at one moment; `AsyncClient.rate_limit_status` makes it.

    Example:
        await client.me()
        status = client.rate_limit_status()
        print(status.creates.waiting, "creates and", status.reads.waiting, "reads wait")
    """

    creates: BudgetStatus
    reads: BudgetStatus
