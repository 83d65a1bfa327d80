"""Retries with tenacity, entered only after a first failure.

One `tenacity.AsyncRetrying` per failed call, with our own waits and stops. tenacity's
``stop_after_delay`` reads the process's clock, and its random waits use the global
random generator; neither works under a virtual clock with a seed.
"""

from __future__ import annotations

import logging
import random
from math import inf
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import anyio
import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from finetuning_async._api import check_retries
from finetuning_async._http._backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._errors import FinetuningError

    OnRetry: TypeAlias = Callable[[int, float, FinetuningError], None]

T = TypeVar("T")

logger = logging.getLogger("finetuning_async")


class RetryableFailure(Exception):  # noqa: N818 - an error on its way to a second attempt
    """An attempt failed in a way that a retry may mend at no cost.

    Attributes:
        error: What is raised if there is no retry.
        paced: Whether the limiter, rather than a pause here, decides when the retry
            goes out: a 429 has closed its gate.
    """

    def __init__(self, error: FinetuningError, *, paced: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.paced = paced


@attrs.frozen(kw_only=True, eq=False)
class RetryPolicy:
    """How often and after which pauses a call is retried.

    Attributes:
        max_retries: Attempts after the first one; at least 0.
        max_retry_wait: Seconds; the longest single pause that a 429 may ask for.
        backoff: The pauses where the service asks for none.
        rng: The source of their jitter.
    """

    max_retries: int
    max_retry_wait: float
    rng: random.Random
    backoff: Backoff = attrs.field(factory=Backoff)

    def with_max_retries(self, max_retries: int | None) -> RetryPolicy:
        """The same policy with another number of retries; `None` keeps the number.

        Raises:
            InvalidRequestError: It is not a whole number of at least 0.
        """
        if max_retries is None:
            return self
        return attrs.evolve(self, max_retries=check_retries(max_retries))

    async def run(
        self,
        first: RetryableFailure,
        attempt: Callable[[], Awaitable[T]],
        *,
        deadline: float = inf,
        on_retry: OnRetry | None = None,
    ) -> T:
        """Retry after a first attempt has failed.

        The deadline covers all attempts, not each of them: a caller's timeout means
        the whole call. No pause is begun that would end after it, so the call fails
        with the error it has, at once, instead of with a timeout, later.

        Args:
            first: The failure of attempt 1.
            attempt: Makes the next attempt; raises `RetryableFailure` to be called
                again.
            deadline: On the loop's clock.
            on_retry: Called before each pause with the number of the next attempt, the
                seconds until then, and the error.

        Raises:
            FinetuningError: The error of the last attempt.
        """
        failures = [first]

        async def next_attempt() -> T:
            # tenacity counts attempts itself, so the first failure is replayed to it.
            if failures:
                raise failures.pop()
            return await attempt()

        retrying = AsyncRetrying(
            sleep=anyio.sleep,
            wait=self._pause,
            stop=lambda state: self._should_stop(state, deadline),
            retry=retry_if_exception_type(RetryableFailure),
            before_sleep=lambda state: _report_retry(state, on_retry),
            reraise=True,
        )
        try:
            return await retrying(next_attempt)
        except RetryableFailure as last:
            error = last.error
        raise error  # out of the handler, so that the wrapper is not its context

    def _pause(self, state: RetryCallState) -> float:
        failure = _failure(state)
        if failure.paced:
            return 0.0
        pause = self.backoff.delay(state.attempt_number, self.rng)
        return max(pause, failure.error.retry_after or 0.0)

    def _should_stop(self, state: RetryCallState, deadline: float) -> bool:
        asked = _failure(state).error.retry_after or 0.0
        # A paced retry pauses 0 s here, and then `asked` at the limiter's gate.
        pause = max(state.upcoming_sleep, asked)
        return (
            state.attempt_number > self.max_retries
            or asked > self.max_retry_wait
            or anyio.current_time() + pause > deadline
        )


def _report_retry(state: RetryCallState, on_retry: OnRetry | None) -> None:
    number, pause, error = (
        state.attempt_number + 1,
        state.upcoming_sleep,
        _failure(state).error,
    )
    logger.debug("attempt %d starts in %.1f s, after: %s", number, pause, error)
    if on_retry is not None:
        on_retry(number, pause, error)


def _failure(state: RetryCallState) -> RetryableFailure:
    """The failure that tenacity asks about."""
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, RetryableFailure)  # noqa: S101 - the only class it retries
    return error
