"""Log lines and events about requests.

Without a hook and without debug logging nothing here is called or formatted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._errors import ClientClosedError
from finetuning_async._events import (
    RateLimited,
    RateLimitWaited,
    RequestFailed,
    RequestSent,
    ResponseReceived,
    RetryScheduled,
)
from finetuning_async._http._delivery import NoResponse
from finetuning_async._rate_codes import rate_budget_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._api import Call, Response, ResponseFacts, Route
    from finetuning_async._errors import FinetuningError
    from finetuning_async._event_hook import Hook
    from finetuning_async._pacing import RateLimiter

MIN_WAIT: Final = 0.001
"""Seconds; a shorter wait is only the time that it takes to look, and not reported."""

logger = logging.getLogger("finetuning_async")


def request_sent(hook: Hook, call: Call, attempt: int, limiter: RateLimiter) -> None:
    """A request is handed to the transport."""
    hook(
        RequestSent(
            at=anyio.current_time(),
            method=call.method,
            path=call.path,
            attempt=attempt,
            budget=call.route,
            available=_available(limiter, call.route),
        )
    )


def response_received(
    hook: Hook | None,
    call: Call,
    response: Response,
    facts: ResponseFacts,
    attempt: int,
    limiter: RateLimiter,
) -> None:
    """A response was read."""
    took = response.received_at - response.sent_at
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "%s %s: %d in %.0f ms (attempt %d, %s %s left)",
            call.method,
            call.path,
            response.status,
            took * 1000,
            attempt,
            _available(limiter, call.route),
            call.route,
        )
    if hook is not None:
        hook(
            ResponseReceived(
                at=response.received_at,
                method=call.method,
                path=call.path,
                attempt=attempt,
                budget=call.route,
                status=response.status,
                code=facts.code,
                duration=took,
                request_id=response.request_id,
                remaining=facts.remaining,
            )
        )


def _available(limiter: RateLimiter, route: Route) -> int | None:
    """How many requests could go out now; `None` if they are not limited."""
    status = limiter.status()
    budgets = {"creates": status.creates, "reads": status.reads}
    # A route whose budget is not known takes a permit of both.
    chosen = [budgets[route]] if route in budgets else budgets.values()
    numbers = [one.available for one in chosen if one.available is not None]
    return min(numbers, default=None)


def request_failed(
    hook: Hook | None,
    call: Call,
    error: BaseException,
    attempt: int,
    since: float,
    *,
    not_sent: bool,
) -> None:
    """A request got no response, for whatever reason."""
    reason = error.reason if isinstance(error, NoResponse) else type(error).__name__
    now = anyio.current_time()
    logger.debug(
        "%s %s: no response after %.0f ms (attempt %d): %s",
        call.method,
        call.path,
        (now - since) * 1000,
        attempt,
        reason,
    )
    if hook is not None:
        hook(
            RequestFailed(
                at=now,
                method=call.method,
                path=call.path,
                attempt=attempt,
                budget=call.route,
                reason=reason,
                not_sent=not_sent,
                duration=now - since,
            )
        )


def was_not_sent(error: BaseException) -> bool:
    """Whether an exception that ended a request proves that no byte of it left."""
    if isinstance(error, NoResponse):
        return error.evidence == "not_sent"
    return isinstance(error, ClientClosedError)


def rate_limited(
    hook: Hook | None,
    call: Call,
    response: Response,
    facts: ResponseFacts,
    opens_at: float,
) -> None:
    """A 429 closed a gate that was open."""
    now = anyio.current_time()
    # A limiter that is shared with other machines may learn of the pause later.
    pause = max(opens_at - now, facts.retry_after or 0.0)
    budget = rate_budget_of(facts.code) or call.route
    logger.warning(
        "%s %s was refused (%s): all %s wait for %.1f s",
        call.method,
        call.path,
        facts.code or "429",
        budget,
        pause,
    )
    if hook is not None:
        hook(
            RateLimited(
                at=now,
                budget=budget,
                duration=pause,
                code=facts.code,
                request_id=response.request_id,
            )
        )


def rate_limit_waited(
    hook: Hook, call: Call, attempt: int, since: float, budget: str
) -> None:
    """A request got its permit, or its slot in the service's queue, after a wait."""
    now = anyio.current_time()
    if now - since >= MIN_WAIT:
        hook(
            RateLimitWaited(
                at=now,
                method=call.method,
                path=call.path,
                attempt=attempt,
                budget=budget,
                duration=now - since,
            )
        )


def permit_waited(
    hook: Hook, call: Call, attempt: int, since: float, parked: float
) -> None:
    """A request got its permit after a wait.

    Args:
        hook: Where events go.
        call: The request.
        attempt: Its number.
        since: When the wait began, on the loop's clock.
        parked: Seconds of it for which only the service's queue was full.
    """
    now = anyio.current_time()
    rate_limit_waited(hook, call, attempt, now - parked, "queue")
    rate_limit_waited(hook, call, attempt, since + parked, call.route)


def retry_callback(
    hook: Hook | None, method: str, path: str
) -> Callable[[int, float, FinetuningError], None] | None:
    """The `on_retry` of `RetryPolicy.run` that reports retries to a hook, if any."""
    if hook is None:
        return None

    def report(attempt: int, pause: float, error: FinetuningError) -> None:
        hook(
            RetryScheduled(
                at=anyio.current_time(),
                method=method,
                path=path,
                attempt=attempt,
                pause=pause,
                reason=type(error).__name__,
                code=error.code,
                request_id=error.request_id,
            )
        )

    return report
