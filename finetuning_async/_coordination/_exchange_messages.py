"""What a process and the ledger send each other in one exchange. Plain values.

One exchange does everything: a process states which of its requests wait and what
became of those that it sent, and learns which may go out and when to exchange again.
Each message can be sent twice without harm, because a reply may get lost: permit
requests have ids, and reports have numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

import attrs

from finetuning_async._api import ResponseFacts, Route
from finetuning_async._pacing import NORMAL, BudgetStatus, RateLimits

RequestEvent: TypeAlias = Literal["sent", "answered", "refused", "unsent", "abandoned"]
"""What happened to a request. ``sent``: it went out without a permit of the store.
``unsent``: no byte of it left, or it no longer waits."""


@attrs.frozen(kw_only=True)
class PermitRequest:
    """One request that waits for a permit.

    Attributes:
        id: Its id until its end; random, so that no two processes use the same.
        budget: ``creates`` or ``reads``.
        first: Whether it goes before those of its priority and share for which this is
            false.
        rank: Of its priority; see `RANKS`.
        share: For whom it is.
    """

    id: str
    budget: Route
    first: bool = False
    rank: int = NORMAL
    share: str | None = None


@attrs.frozen(kw_only=True)
class Report:
    """What happened to a request.

    Attributes:
        serial: Its number among the reports of this process, ascending from 1. Each is
            applied once.
        id: The id of the request.
        budget: ``creates`` or ``reads``.
        event: What happened.
        ago: Seconds since then, at least 0.
        facts: What the response says about the limits, if it certainly speaks of this
            budget.
        linger: For ``abandoned``: seconds for which its bytes may still arrive.
        retry_after: For ``refused``: the seconds that the 429 asks for, if any.
    """

    serial: int
    id: str
    budget: Route
    event: RequestEvent
    ago: float = 0.0
    facts: ResponseFacts | None = None
    linger: float = 0.0
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class ExchangeRequest:
    """What a process sends.

    Attributes:
        process: Its id; random.
        number: The number of the exchange, ascending from 1. One that arrives after a
            higher number is not applied.
        epoch: `ExchangeReply.epoch` of the last reply; `None` before the first.
        limits: The limits of this process; `None` if only the gates of 429s hold.
        timeout: Seconds after which a granted permit counts as sent and ended if this
            process does not report its end.
        permit_requests: Those that go next among all that wait here, in that order.
            Those that an earlier exchange had and this one has not are withdrawn.
        creates_waiting: How many creates wait here, by the rank of their priority.
        reports: What happened since.
        tracks_in_progress: Accepted tracks of this process that have not ended, as far
            as it knows.
        degraded_for: Seconds for which it has worked without the store; 0 if it has
            not.
    """

    process: str
    number: int
    limits: RateLimits | None
    timeout: float
    epoch: str | None = None
    permit_requests: tuple[PermitRequest, ...] = ()
    creates_waiting: tuple[int, ...] = (0, 0, 0)
    reports: tuple[Report, ...] = ()
    tracks_in_progress: int = 0
    degraded_for: float = 0.0


@attrs.frozen(kw_only=True)
class RateLimitSnapshot:
    """One budget of the ledger at the time of an exchange.

    Attributes:
        status: What `AsyncClient.rate_limit_status` shows.
        newcomer_in: Seconds until a request that joins the queue now can have a permit:
            a lower bound.
        free: Tokens that no process holds.
        tokens: Seconds until each token is back, as far as known.
        waiting: How many requests wait at each rank, in all processes.
    """

    status: BudgetStatus
    newcomer_in: float
    free: int = 0
    tokens: tuple[float, ...] = ()
    waiting: tuple[int, ...] = (0, 0, 0)


@attrs.frozen(kw_only=True)
class ExchangeReply:
    """What a process receives.

    Attributes:
        epoch: The name of the ledger; a new one means that the old one was lost.
        granted: The ids of the requests that may go out.
        wait: Seconds until the next exchange is useful, if nothing happens here.
        snapshots: Each budget.
        processes: How many were seen lately, this one included.
    """

    epoch: str
    granted: frozenset[str]
    wait: float
    snapshots: Mapping[Route, RateLimitSnapshot]
    processes: int


class Exchanger(Protocol):
    """The ledger of an account, as one event loop reaches it."""

    async def exchange(self, request: ExchangeRequest) -> ExchangeReply:
        """Apply a request to the ledger, atomically for all processes.

        After a cancellation or an error it may have been applied or not; the caller
        then sends the same content again.

        Raises:
            Exception: Any; the store then counts as unavailable for a while.
        """
