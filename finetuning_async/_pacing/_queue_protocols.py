"""What a request brings to the line of a rate budget, and what the line shows.

WaitQueue    what the limiter needs of a queue: tokens, and how requests ended
Terms        how a create is dealt its turn: priority, share, place in the queue
QueueGate    the service's queue, which a create must find open as well
LineState    what a queue knows of those that wait, for a forecast
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from finetuning_async._pacing._dealer import NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._api import ResponseFacts
    from finetuning_async._pacing._limits import BudgetStatus
    from finetuning_async._pacing._rate_budget import RateBudget


class QueueGate(Protocol):
    """The service's queue, as one create meets it.

    Times are seconds of the loop's clock.

    Attributes:
        waited: Seconds for which the create waited for nothing but a place.
    """

    waited: float

    def opens_at(self) -> float:
        """When it takes one more: now or before, a time, or `inf` if not known."""

    def take(self) -> None:
        """Take a place: the create goes out."""

    async def wait(self, until: float) -> None:
        """Watch the tracks in progress until one ends, or until a time."""

    def wake(self) -> None:
        """End `wait`."""

    def close(self) -> None:
        """The create has its place, or needs none any more; may be called twice."""


@attrs.frozen(kw_only=True)
class LineState:
    """What a queue knows of those that wait, for a forecast. Times are from now.

    Attributes:
        first: How many go before the first of the new requests.
        last: How many go before the last of them.
        waiting: How many wait at each rank.
        tokens: When each token is back; empty if nothing is paced.
        lease: Seconds from a response until its token is back.
        gap: Seconds from one spaced request to the next.
    """

    first: int
    last: int
    waiting: tuple[int, ...]
    tokens: tuple[float, ...]
    lease: float
    gap: float

    @property
    def limit(self) -> int:
        """Requests of a burst."""
        return len(self.tokens)


@attrs.frozen
class Terms:
    """How a request is dealt its turn.

    Attributes:
        rank: Of its priority; see `RANKS`.
        share: For whom it is; `None` is a share as well.
        gate: The service's queue, if it must be open too; `None` if that is no concern.
    """

    rank: int = NORMAL
    share: str | None = None
    gate: QueueGate | None = None


class HasGate(Protocol):
    """A request that waits, as one that looks for its place sees it.

    Attributes:
        gate: The service's queue, as the request meets it; `None` if it has none.
    """

    gate: QueueGate | None


ANY_REQUEST: Final = Terms()
"""The terms of what has none: it is of normal priority and of the share `None`."""


class WaitQueue(Protocol):
    """The queue of one rate budget, as the limiter uses it.

    A reservation is whatever `take` returned. Times are seconds of the loop's clock.
    """

    @property
    def rate_budget(self) -> RateBudget:
        """What this process knows of the rate budget."""

    def __len__(self) -> int:
        """Number of requests that wait."""

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; a time in the past if it is open."""

    def try_take(
        self, now: float, *, first: bool = False, terms: Terms = ANY_REQUEST
    ) -> Any:
        """Take a token if one is free and no request is ahead; else `None`."""

    async def take(
        self, *, first: bool, max_pause: float, terms: Terms = ANY_REQUEST
    ) -> Any:
        """Wait for a token; a cancelled call takes none.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """

    def on_response(
        self, reservation: Any, now: float, facts: ResponseFacts | None
    ) -> None:
        """A response arrived; `None` if its facts may be of another rate budget."""

    def on_unsent(self, reservation: Any, now: float) -> None:
        """No byte of a request was sent."""

    def on_abandoned(self, reservation: Any, now: float, linger: float) -> None:
        """The response to a request will not be read."""

    def on_refused(
        self, now: float, retry_after: float | None, reservation: Any
    ) -> None:
        """A 429 of this rate budget arrived.

        It belongs to `reservation`, which is `None` if the request took no token here.
        """

    def earliest(self, now: float, terms: Terms = ANY_REQUEST) -> float:
        """When a new request could have a token: a lower bound."""

    def status(self, now: float) -> BudgetStatus:
        """The public snapshot."""

    def line_state(self, now: float, creates: int, terms: Terms) -> LineState:
        """What is known of the line, if `creates` requests joined it now."""

    def places(self) -> Iterable[tuple[int, HasGate]]:
        """The requests of this loop that wait, each with how many go before it."""

    def wake(self) -> None:
        """Let the head of the queue look again, since something has changed."""
