"""What a request does, told: a line of the log, and an event for the hook.

Nothing here is called for a hook that is not set, nor builds a line that nobody reads.
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

NOTICEABLE: Final = 0.001
"""Seconds; what is shorter was no waiting, but the time that it takes to look."""

logger = logging.getLogger("finetuning_async")


def sent(hook: Hook, call: Call, attempt: int, limiter: RateLimiter) -> None:
    """A request goes to the wire."""
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


def answered(
    hook: Hook | None,
    call: Call,
    answer: Response,
    facts: ResponseFacts,
    attempt: int,
    limiter: RateLimiter,
) -> None:
    """A response was read."""
    took = answer.received_at - answer.sent_at
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "%s %s: %d in %.0f ms (attempt %d, %s %s left)",
            call.method,
            call.path,
            answer.status,
            took * 1000,
            attempt,
            _available(limiter, call.route),
            call.route,
        )
    if hook is not None:
        hook(
            ResponseReceived(
                at=answer.received_at,
                method=call.method,
                path=call.path,
                attempt=attempt,
                budget=call.route,
                status=answer.status,
                code=facts.code,
                duration=took,
                request_id=answer.request_id,
                remaining=facts.remaining,
            )
        )


def _available(limiter: RateLimiter, route: Route) -> int | None:
    """How many could go out at this moment; `None` if that is not limited."""
    status = limiter.status()
    each = {"creates": status.creates, "reads": status.reads}
    chosen = [each[route]] if route in each else each.values()
    numbers = [one.available for one in chosen if one.available is not None]
    return min(numbers, default=None)


def unanswered(
    hook: Hook | None, call: Call, error: BaseException, attempt: int, since: float
) -> None:
    """A request got no answer, for whatever reason."""
    reason = error.reason if isinstance(error, NoResponse) else type(error).__name__
    now = anyio.current_time()
    logger.debug(
        "%s %s: no answer after %.0f ms (attempt %d): %s",
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
                not_sent=was_not_sent(error),
                duration=now - since,
            )
        )


def was_not_sent(error: BaseException) -> bool:
    """Whether what ended a request says that no byte of it left."""
    if isinstance(error, NoResponse):
        return error.evidence == "not_sent"
    return isinstance(error, ClientClosedError)


def rate_limited(
    hook: Hook | None,
    call: Call,
    answer: Response,
    facts: ResponseFacts,
    opens_at: float,
) -> None:
    """A 429 closed a gate that was open."""
    now = anyio.current_time()
    # A limiter shared with other machines may learn of it later.
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
                request_id=answer.request_id,
            )
        )


def rate_limit_waited(
    hook: Hook, call: Call, attempt: int, since: float, budget: str
) -> None:
    """A turn came, or a place in the queue; if it was there at once, say nothing."""
    now = anyio.current_time()
    if now - since >= NOTICEABLE:
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


def retries(
    hook: Hook | None, method: str, path: str
) -> Callable[[int, float, FinetuningError], None] | None:
    """Who is told of the repetitions of a call; `None` for nobody."""
    if hook is None:
        return None

    def tell(attempt: int, pause: float, error: FinetuningError) -> None:
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

    return tell
