"""The rate limits of an account as the caller states them, and their snapshots."""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from finetuning_async._api import number, whole_number
from finetuning_async._errors import InvalidRequestError


class SupportsRateLimit(Protocol):
    """Any object with a `limit` (requests) and a `per` (seconds)."""

    @property
    def limit(self) -> int:
        """Requests allowed in any `per` seconds."""

    @property
    def per(self) -> float:
        """Length of the period in seconds."""


class SupportsRateLimits(Protocol):
    """Any object with `creates` and `reads`, such as the limits of the emulator.

    Pyright does not accept `RateLimits` as one because of its converters, so that
    parameters name both types.
    """

    @property
    def creates(self) -> SupportsRateLimit:
        """The limit of requests that start a track."""

    @property
    def reads(self) -> SupportsRateLimit:
        """The limit of all other requests."""


def _checked_limit(value: object) -> int:
    given = whole_number(value)
    if given is not None and given >= 1:
        return given
    raise InvalidRequestError("limit", value, "a whole number of at least 1")


def _checked_per(value: object) -> float:
    seconds = number(value)
    if seconds is not None and seconds > 0:
        return float(seconds)
    raise InvalidRequestError("per", value, "a number of seconds, above 0 and finite")


@attrs.frozen
class RateLimit:
    """At most `limit` requests in any `per` seconds.

    Attributes:
        limit: Number of requests, at least 1.
        per: Length of the period in seconds, above 0.

    Raises:
        InvalidRequestError: A value is out of its range.

    Example:
        client = AsyncClient(rate_limits=RateLimits(creates=RateLimit(5, per=60)))
    """

    limit: int = attrs.field(converter=_checked_limit)
    per: float = attrs.field(default=60.0, kw_only=True, converter=_checked_per)

    @classmethod
    def of(cls, field: str, value: object) -> RateLimit:
        """Convert any object that has `limit` and `per`.

        Raises:
            InvalidRequestError: An attribute is missing or out of its range.
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


def _checked_queue(value: object) -> int | None:
    given = None if value is None else whole_number(value)
    if value is None or (given is not None and given >= 1):
        return given
    raise InvalidRequestError("queue", value, "a whole number of at least 1, or None")


@attrs.frozen(kw_only=True)
class RateLimits:
    """The two rate limits of an account; the defaults are the documented ones.

    Attributes:
        creates: Limit of requests that start a track.
        reads: Limit of all other requests, bulk POSTs included.
        queue: How many tracks may be in progress at once, at least 1, where it is
            known; `None` to learn it from the first ``QUEUE_FULL``.

    Raises:
        InvalidRequestError: A value is out of its range.

    Example:
        half = RateLimits(creates=RateLimit(5), reads=RateLimit(30))
        client = AsyncClient(rate_limits=half)  # the rest is for another process
    """

    creates: RateLimit = attrs.field(default=RateLimit(10), converter=_creates)
    reads: RateLimit = attrs.field(default=RateLimit(60), converter=_reads)
    queue: int | None = attrs.field(default=None, converter=_checked_queue)

    @classmethod
    def of(cls, value: object) -> RateLimits:
        """Convert any object that has `creates` and `reads`.

        Raises:
            InvalidRequestError: An attribute is missing or out of its range.
        """
        if isinstance(value, RateLimits):
            return value
        try:
            creates, reads = value.creates, value.reads  # type: ignore[attr-defined]  # duck type, checked by the except
        except AttributeError:
            raise InvalidRequestError(
                "rate_limits",
                value,
                "a RateLimits, or an object with .creates and .reads",
            ) from None
        queue = getattr(value, "queue", None)
        return cls(creates=creates, reads=reads, queue=queue)


DEFAULT_LIMITS: Final = RateLimits()


@attrs.frozen(kw_only=True)
class BudgetStatus:
    """A snapshot of one rate budget.

    Attributes:
        limit: Requests allowed in any `per` seconds, the limit in use now; `None` if
            requests are not paced.
        per: Length of the period in seconds; `None` if requests are not paced.
        available: Requests that could go out now; `None` if requests are not paced and
            no 429 blocks them.
        next_free_in: Seconds until the next request could go out, at least 0; ``inf``
            if that depends on a response that has not arrived yet.
        waiting: Calls that wait for a permit.
        closed_for: Seconds for which the last 429 still blocks all requests; 0 if none
            does.
        service_limit: The last ``X-RateLimit-Limit`` header.
        service_remaining: The last ``X-RateLimit-Remaining`` header.
        service_spoke_ago: Seconds since the response with those headers; `None` if no
            response had any.

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
    """A snapshot of both rate budgets; see `AsyncClient.rate_limit_status`.

    Attributes:
        creates: Of requests that start a track.
        reads: Of all other requests.

    Example:
        await client.me()
        status = client.rate_limit_status()
        print(status.creates.waiting, "creates and", status.reads.waiting, "reads wait")
    """

    creates: BudgetStatus
    reads: BudgetStatus
