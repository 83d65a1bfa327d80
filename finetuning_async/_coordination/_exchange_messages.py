"""What a process and a store of turns say to each other. Plain values.

One exchange does everything: a process says who of it waits and what became of what it
sent, and is told who may go and when to ask again. Each word can be said twice with no
harm, for an answer may be lost: places and notes have names and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

import attrs

from finetuning_async._api import ResponseFacts, Route
from finetuning_async._pacing import BudgetStatus, RateLimits

RequestEvent: TypeAlias = Literal["sent", "answered", "refused", "unsent", "abandoned"]
"""What a note tells. ``sent`` is told of what went out without the store's leave;
``unsent`` gives up a place in the line, too."""


@attrs.frozen(kw_only=True)
class PermitRequest:
    """One request that waits for a turn.

    Attributes:
        id: Its name, from now until its end; random, so that no two processes share it.
        budget: ``creates`` or ``reads``.
        first: Whether it goes before all who do not say so.
    """

    id: str
    budget: Route
    first: bool = False


@attrs.frozen(kw_only=True)
class Report:
    """What became of a request.

    Attributes:
        serial: Of this process, ascending from 1. A note is taken once.
        id: Which request.
        budget: ``creates`` or ``reads``.
        event: What happened.
        ago: Seconds since then, at least 0.
        facts: What the answer said, if it speaks of this budget for certain.
        linger: For ``abandoned``: seconds for which its bytes may still arrive.
        retry_after: For ``refused``: the seconds asked for, if any.
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
class WaitingRequest:
    """What a process says.

    Attributes:
        process: Its name; random.
        number: Of the request, ascending from 1. An older one that arrives late is not
            acted on.
        epoch: `ExchangeReply.epoch` as this process knows it; `None` if it knows none.
        limits: What this process holds itself to; `None` for the gates of 429s alone.
        timeout: Seconds after which a turn given to a process that says no more of it
            is taken as sent and over.
        asks: All places in the lines that it wants, in order; others it had are given
            up.
        notes: What happened since.
        under_way: Accepted tracks of this process that it has not seen to end.
        alone: Seconds for which it has gone without the store; 0 if it has not.
    """

    process: str
    number: int
    limits: RateLimits | None
    timeout: float
    epoch: str | None = None
    asks: tuple[PermitRequest, ...] = ()
    notes: tuple[Report, ...] = ()
    under_way: int = 0
    degraded: float = 0.0


@attrs.frozen(kw_only=True)
class RateLimitSnapshot:
    """What a store says of one budget.

    Attributes:
        status: The snapshot that people look at.
        newcomer_in: Seconds until somebody who asks now can have a turn: a lower bound.
        free: Tokens that nobody holds.
    """

    status: BudgetStatus
    newcomer_in: float
    free: int = 0


@attrs.frozen(kw_only=True)
class ExchangeReply:
    """What a store answers.

    Attributes:
        epoch: The name of its memory; another one means that it has forgotten all.
        granted: The names of those who may go.
        wait: Seconds until it is worth asking again, if nothing else happens.
        budgets: What there is to say of each.
        processes: How many it has seen lately, this one included.
    """

    epoch: str
    granted: frozenset[str]
    wait: float
    budgets: Mapping[Route, RateLimitSnapshot]
    processes: int


class Exchanger(Protocol):
    """Where the turns of an account are kept for several processes.

    It belongs to one event loop.
    """

    async def exchange(self, request: WaitingRequest) -> ExchangeReply:
        """Say and be told, in one step that others see whole or not at all.

        Cancelled, or with an error, it may have been done or not; the caller then says
        the same again.

        Raises:
            Exception: Any; the store is then taken as gone for a while.
        """
