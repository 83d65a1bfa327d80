"""Repeating what may be repeated, with tenacity, entered only after a first failure.

One `tenacity.AsyncRetrying` per failed call, with waits and stops of our own:
tenacity's ``stop_after_delay`` reads the process's clock and its random waits the
global random, and neither can be rehearsed.
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
    """An attempt failed in a way that a repetition may mend at no cost.

    Attributes:
        error: What is raised if it is not repeated.
        paced: Whether the limiter, not a pause here, decides when the repetition goes
            out: a 429 has closed its gate.
    """

    def __init__(self, error: FinetuningError, *, paced: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.paced = paced


@attrs.frozen(kw_only=True, eq=False)
class RetryPolicy:
    """How often and how long a call is repeated.

    Attributes:
        max_retries: Repetitions after the first attempt; at least 0.
        max_retry_wait: Seconds; the longest single pause that a 429 may ask for.
        backoff: The pauses where the service names none.
        rng: Where their jitter comes from.
    """

    max_retries: int
    max_retry_wait: float
    rng: random.Random
    backoff: Backoff = attrs.field(factory=Backoff)

    def limited_to(self, max_retries: int | None) -> RetryPolicy:
        """The same with as many repetitions as one call was given, if it was.

        Raises:
            InvalidRequestError: That is no whole number of at least 0.
        """
        if max_retries is None:
            return self
        return attrs.evolve(self, max_retries=check_retries(max_retries))

    async def again(
        self,
        first: RetryableFailure,
        attempt: Callable[[], Awaitable[T]],
        *,
        deadline: float = inf,
        on_retry: OnRetry | None = None,
    ) -> T:
        """Go on after a failed first attempt, which counts as number 1.

        Args:
            first: How it failed.
            attempt: Makes the next one; raises `RetryableFailure` to be called again.
            deadline: On the loop's clock; no pause is begun that does not fit.
            on_retry: Told before each pause: the number of the attempt to come, the
                seconds until then, and why.

        Raises:
            FinetuningError: The error of the last attempt.
        """
        failures = [first]

        async def next_attempt() -> T:
            if failures:
                raise failures.pop()
            return await attempt()

        retrying = AsyncRetrying(
            sleep=anyio.sleep,
            wait=self._pause,
            stop=lambda state: self._is_over(state, deadline),
            retry=retry_if_exception_type(RetryableFailure),
            before_sleep=lambda state: _tell(state, on_retry),
            reraise=True,
        )
        try:
            return await retrying(next_attempt)
        except RetryableFailure as last:
            error = last.error
        raise error

    def _pause(self, state: RetryCallState) -> float:
        failure = _failure(state)
        if failure.paced:
            return 0.0
        pause = self.backoff.delay(state.attempt_number, self.rng)
        return max(pause, failure.error.retry_after or 0.0)

    def _is_over(self, state: RetryCallState, deadline: float) -> bool:
        asked = _failure(state).error.retry_after or 0.0
        pause = max(state.upcoming_sleep, asked)
        return (
            state.attempt_number > self.max_retries
            or asked > self.max_retry_wait
            or anyio.current_time() + pause > deadline
        )


def _tell(state: RetryCallState, on_retry: OnRetry | None) -> None:
    number, pause, error = (
        state.attempt_number + 1,
        state.upcoming_sleep,
        _failure(state).error,
    )
    logger.debug("attempt %d begins in %.1f s, after: %s", number, pause, error)
    if on_retry is not None:
        on_retry(number, pause, error)


def _failure(state: RetryCallState) -> RetryableFailure:
    """The failure that tenacity asks about."""
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, RetryableFailure)  # noqa: S101 - the only class it retries
    return error
