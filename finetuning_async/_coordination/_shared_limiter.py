"""Turns that several processes share, and the local share when their store is gone.

Each line has the rules of its budget beside it and books what this process sends, with
the store or without. As long as the store answers, it alone decides. When it is gone,
the local rules do, for a share of the limit: what the others send is somebody else's to
them. What was sent meanwhile is told when the store is back.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio.lowlevel import current_token

from finetuning_async._coordination._exchange import LedgerStore
from finetuning_async._coordination._poll_coordinator import StorePollCoordinator
from finetuning_async._coordination._store_client import StoreClient
from finetuning_async._pacing import Limiter, LocalWaitQueue, RateBudget

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._coordination._poll_protocol import PollCoordinator
    from finetuning_async._coordination._store_protocol import StateStore
    from finetuning_async._pacing import (
        BudgetStatus,
        RateLimit,
        RateLimits,
        Reservation,
        WaitQueue,
    )

TIMEOUT: Final = 60.0
"""Seconds after which a request of a process that says no more is taken as over; longer
than a request takes by default."""


FRESH: Final = 2.0
"""Seconds for which the length of a line is taken to be what it was."""


@attrs.define(eq=False)
class Lease:
    """A token: of the store, and in the local books."""

    id: str
    ticket: Reservation


class StoreWaitQueue:
    """The waiters of a budget that several processes share; see `WaitQueue`.

    Args:
        name: Of the budget.
        limit: `None` if it is not paced.
        local: The books of this process.
        link: To the store.
    """

    def __init__(
        self,
        name: Route,
        limit: RateLimit | None,
        local: LocalWaitQueue,
        link: StoreClient,
    ) -> None:
        self._name = name
        self._limit = limit
        self._local = local
        self._link = link
        self._lost_at = -inf
        self._left = 0  # of the tokens, when the store was lost

    def __repr__(self) -> str:
        return f"{self._link!r} beside {self._local!r}"

    def __len__(self) -> int:
        return self._link.waiting(self._name) + len(self._local)

    @property
    def rate_budget(self) -> RateBudget:
        """The books of this process."""
        return self._local.rate_budget

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; in the past if none holds."""
        return max(self._local.opens_at, self._link.opens_at(self._name))

    def try_take(self, now: float, *, first: bool = False) -> Lease | None:
        """Take a token of the local share, if the store is gone; else wait for one."""
        if self._link.is_up or now >= self._link.probe_at:
            return None
        self._keep_to_the_share()
        ticket = self._local.try_take(now, first=first)
        return None if ticket is None else self._alone_with(ticket)

    async def take(self, *, first: bool, max_pause: float) -> Lease:
        """Wait for a token, of the store or of the local share.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        again = first
        while True:
            if self._link.is_up:
                name = await self._link.ask(
                    self._name, first=first, max_pause=max_pause
                )
                if name is not None:
                    return Lease(
                        name, self._local.rate_budget.send(anyio.current_time())
                    )
            lease = await self._alone(again, max_pause)
            if lease is not None:
                return lease
            again = True

    async def _alone(self, first: bool, max_pause: float) -> Lease | None:
        """Wait without the store; `None` if it is back, or may be."""
        await self._link.probe()
        if self._link.is_up:
            return None
        self._keep_to_the_share()
        with self._link.degraded():
            ticket = await self._local.take(first=first, max_pause=max_pause)
            return self._alone_with(ticket)
        return None

    def _keep_to_the_share(self) -> None:
        """Use what is this process's of the limit, however little the others know.

        All together have the tokens that each held when the store was lost, and an
        equal part of those that were free. A period later the first are back, and an
        equal part of all is each one's.
        """
        if self._limit is None:
            return
        now, link, budget = anyio.current_time(), self._link, self._local.rate_budget
        share = max(self._limit.limit // link.processes, 1)
        if self._lost_at != link.lost_at:
            self._lost_at, self._left = link.lost_at, self._left_over(share, now)
            budget.forget_credit()
        is_early = now < self._lost_at + self._limit.per
        budget.cap_tokens(min(share, self._left) if is_early else share)

    def _left_over(self, share: int, now: float) -> int:
        """Tokens for the first period without the store."""
        told = self._link.told.get(self._name)
        if told is None or self._link.told_at < self._link.lost_at - FRESH:
            return share  # nobody knows; so one request asks
        return self._local.rate_budget.charged(now) + told.free // self._link.processes

    def _alone_with(self, ticket: Reservation) -> Lease:
        lease = Lease(self._link.new_name(), ticket)
        self._link.note("sent", lease.id, self._name)
        return lease

    def on_response(
        self, ticket: Lease, now: float, facts: ResponseFacts | None
    ) -> None:
        """A request was answered."""
        self._local.on_response(ticket.ticket, now, facts)
        self._link.note("answered", ticket.id, self._name, facts=facts)

    def on_unsent(self, ticket: Lease, now: float) -> None:
        """No byte of a request left."""
        self._local.on_unsent(ticket.ticket, now)
        self._link.note("unsent", ticket.id, self._name)

    def on_abandoned(self, ticket: Lease, now: float, linger: float) -> None:
        """The answer of a request will not be read."""
        self._local.on_abandoned(ticket.ticket, now, linger)
        self._link.note("abandoned", ticket.id, self._name, linger=linger)

    def on_refused(
        self, now: float, retry_after: float | None, ticket: Lease | None
    ) -> None:
        """A 429 of this budget arrived."""
        self._local.on_refused(
            now, retry_after, None if ticket is None else ticket.ticket
        )
        name = "" if ticket is None else ticket.id
        self._link.note("refused", name, self._name, retry_after=retry_after)

    def earliest(self, now: float) -> float:
        """When a newcomer could have a token, as far as was told of late."""
        told = self._link.told.get(self._name)
        if not self._link.is_up or told is None:
            return self._local.earliest(now)
        if now > self._link.told_at + FRESH:
            return max(now, self.opens_at)
        return max(now, self._link.told_at + told.newcomer_in)

    def status(self, now: float) -> BudgetStatus:
        """The snapshot that people look at: what was told last."""
        told = self._link.told.get(self._name)
        if not self._link.is_up or told is None:
            return self._local.status(now)
        past = now - self._link.told_at
        ago = told.status.service_spoke_ago
        return attrs.evolve(
            told.status,
            next_free_in=max(told.status.next_free_in - past, 0.0),
            closed_for=max(told.status.closed_for - past, 0.0),
            service_spoke_ago=None if ago is None else ago + past,
        )

    def wake(self) -> None:
        """What was booked may change whose turn it is, here or elsewhere."""
        self._local.wake()


class StoreLimiter(Limiter):
    """The turns of an account, kept in a store.

    Args:
        connect: Makes the store in the running event loop, given the name of the
            account: a hash, never a key.
        account: What the name is made of; by default the base URL and the key of the
            first client.
        timeout: Seconds; see `TIMEOUT`.
        rng: Where jitter and names come from.
    """

    def __init__(
        self,
        connect: Callable[[str], StateStore],
        *,
        account: str | None,
        timeout: float,
        rng: random.Random,
    ) -> None:
        super().__init__(None, rng=rng)
        self._connect = connect
        self._account = account
        self._timeout = timeout
        self._is_bound = False
        self._bound_in: object = None
        self._registers: list[Callable[[], int]] = []
        self._coordinators: list[StorePollCoordinator] = []
        self._link: StoreClient | None = None
        self._states: StateStore | None = None
        self._states_in: object = None

    def bind(
        self, account: str, limits: RateLimits | None, under_way: Callable[[], int]
    ) -> None:
        """Learn whose turns these are; of several clients the first one's limits hold.

        Args:
            account: What tells it from others; not a secret.
            limits: What it may send; `None` for no pacing.
            under_way: Says how many tracks of a client are under way.
        """
        loop = current_token()
        if loop != self._bound_in:
            self._bound_in = loop
            self._registers.clear()
            self._coordinators.clear()
        self._registers.append(under_way)
        if not self._is_bound:
            self._is_bound = True
            self._account = self._account or account
            self._limits = limits

    def new_coordinator(self) -> PollCoordinator:
        """Where the processes of the account share their polling."""
        coordinator = StorePollCoordinator(self._states_here(), self._rng)
        self._coordinators.append(coordinator)
        return coordinator

    def _states_here(self) -> StateStore:
        """The states of the account, as the running event loop reaches them."""
        loop = current_token()
        if self._states is None or self._states_in != loop:
            self._states, self._states_in = self._connect(self._account or ""), loop
        return self._states

    async def flush(self) -> None:
        """Tell the store what became of permits."""
        if self._link is not None:
            await self._link.flush()

    def _new_queues(self) -> dict[Route, WaitQueue]:
        limits = self._limits
        self._link = link = StoreClient(
            LedgerStore(self._states_here(), self._rng),
            limits,
            timeout=self._timeout,
            rng=self._rng,
            under_way=lambda: sum(count() for count in self._registers),
            polling=lambda: max((c.processes for c in self._coordinators), default=0),
        )
        lines: dict[Route, WaitQueue] = {}
        for name in ("creates", "reads"):
            limit = None if limits is None else getattr(limits, name)
            local = LocalWaitQueue(name, RateBudget(limit, self._rng))
            lines[name] = StoreWaitQueue(name, limit, local, link)
        return lines
