"""What `AsyncClient(rate_limiter=...)` takes: an account's turns, from anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._pacing._limits import RateLimitStatus


class RatePermit(Protocol):
    """One request that may be sent now.

    Exactly one of its methods ends it, as soon as it is known; further calls do
    nothing. None of them waits: what has to be told to others is told by
    `RateLimiter.flush`.

    Example:
        permit = await LocalRateLimiter().acquire("reads")
        try:
            print("here the request is made, and its answer read")
            permit.answered(ResponseFacts(status=200))
        finally:
            permit.abandoned()
    """

    def answered(self, facts: ResponseFacts) -> None:
        """The response was read to its end; it arrived now.

        Args:
            facts: What it says about the limits.
        """

    def unsent(self) -> None:
        """Nothing of the request left: its token is back at once."""

    def abandoned(self) -> None:
        """Bytes may have left, and no answer will be read."""


class RateLimiter(Protocol):
    """The turns of one account.

    A route is ``creates``, ``reads``, or the name of an endpoint whose budget is not
    known, which takes from both until an answer tells. Times are seconds of the event
    loop's clock.

    Example:
        class Patient(LocalRateLimiter):
            def try_acquire(self, route):
                return None  # everybody stands in line

        limiter: RateLimiter = Patient()
        print(limiter.earliest("creates"), limiter.gate_opens("creates"))
        async with AsyncClient(rate_limiter=limiter) as client:
            await client.me()
        await limiter.flush()
        print(limiter.status().reads.available)
    """

    def try_acquire(self, route: Route) -> RatePermit | None:
        """Take a turn if there is one at this moment and nobody waits for it.

        It may always return `None`, where a turn cannot be had without waiting.

        Args:
            route: See above.
        """

    async def acquire(
        self, route: Route, *, first: bool = False, max_pause: float | None = None
    ) -> RatePermit:
        """Wait for a turn; first come, first served.

        Cancelled while it waits, it takes none.

        Args:
            route: See above.
            first: Whether to wait before all who do not say so; for a request that had
                its turn and was refused.
            max_pause: Seconds, at least 0, that a 429 may ask for; `None` for the
                limiter's own.

        Raises:
            RateLimitError: A 429, before or while this waits, asks for more.
        """

    def earliest(self, route: Route) -> float:
        """When a newcomer could have its turn: a lower bound, as far as is known.

        Args:
            route: See above.
        """

    def gate_opens(self, route: Route) -> float:
        """When the gate of the last 429 opens; in the past if none is closed.

        Args:
            route: See above.
        """

    def status(self) -> RateLimitStatus:
        """Both budgets, as last known."""

    async def flush(self) -> None:
        """Tell others what became of permits; called after each request.

        It does not raise. Cancelled, it loses nothing: what was not told is told with
        the next `acquire` or `flush`.
        """
