"""The protocol of `AsyncClient(rate_limiter=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._pacing._limits import RateLimitStatus


class RatePermit(Protocol):
    """The permission to send one request now.

    Exactly one of its methods ends it, as soon as the outcome is known; later calls do
    nothing. None of them waits: what other processes must know is sent by
    `RateLimiter.flush`.

    Example:
        permit = await LocalRateLimiter().acquire("reads")
        try:
            print("here the request is sent and its response read")
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
        """No byte of the request was sent: its token is free again at once."""

    def abandoned(self) -> None:
        """Bytes may have been sent, and no response will be read."""


class RateLimiter(Protocol):
    """The permits of one account.

    A route is ``creates``, ``reads``, or the name of an endpoint whose rate budget is
    not known; such a request takes from both until a response shows which one counts.
    Times are seconds of the event loop's clock.

    Example:
        class Patient(LocalRateLimiter):
            def try_acquire(self, route):
                return None  # every request goes through the queue

        limiter: RateLimiter = Patient()
        print(limiter.earliest("creates"), limiter.gate_opens("creates"))
        async with AsyncClient(rate_limiter=limiter) as client:
            await client.me()
        await limiter.flush()
        print(limiter.status().reads.available)
    """

    def try_acquire(self, route: Route) -> RatePermit | None:
        """Take a permit if one is free now and no call waits for it.

        It may always return `None`, as where permits cannot be had without waiting.

        Args:
            route: See above.
        """

    async def acquire(
        self, route: Route, *, first: bool = False, max_pause: float | None = None
    ) -> RatePermit:
        """Wait for a permit; first come, first served.

        A call that is cancelled while it waits takes no permit.

        Args:
            route: See above.
            first: Whether to go ahead of all calls that do not set this; for a request
                that was sent and refused.
            max_pause: Longest pause in seconds, at least 0, that a 429 may ask for;
                `None` for the limiter's own.

        Raises:
            RateLimitError: A 429, received before or while this waits, asks for a
                longer pause.
        """

    def earliest(self, route: Route) -> float:
        """When a new call could have a permit: a lower bound, as far as is known.

        Args:
            route: See above.
        """

    def gate_opens(self, route: Route) -> float:
        """When the gate of the last 429 opens; a time in the past if it is open.

        Args:
            route: See above.
        """

    def status(self) -> RateLimitStatus:
        """The last known state of both rate budgets."""

    async def flush(self) -> None:
        """Report to other processes how permits ended; called after each request.

        It does not raise. If it is cancelled, nothing is lost: the next `acquire` or
        `flush` sends what is left.
        """
