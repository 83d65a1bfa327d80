"""Permits that several processes share, and a local share while the store is down.

Each queue has the rules of its budget beside it and charges there what this process
sends, with the store or without. While the store is available, it alone decides. While
it is not, the local rules do, for a share of the limit: what the other processes send
then counts as another client's usage. What was sent meanwhile is reported when the
store is back.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio.lowlevel import current_token

from finetuning_async._coordination._exchange import LedgerExchanger
from finetuning_async._coordination._poll_coordinator import StorePollCoordinator
from finetuning_async._coordination._store_client import StoreClient
from finetuning_async._pacing import ANY_REQUEST, Limiter, LocalWaitQueue, RateBudget

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from finetuning_async._api import ResponseFacts, Route
    from finetuning_async._coordination._poll_messages import PollCoordinator
    from finetuning_async._coordination._store_protocol import StateStore
    from finetuning_async._pacing import (
        BudgetStatus,
        HasGate,
        LineState,
        RateLimit,
        RateLimits,
        Reservation,
        Terms,
        WaitQueue,
    )

TIMEOUT: Final = 60.0
"""Seconds after which a request counts as ended if its process does not report its end;
longer than a request takes by default."""

FRESH: Final = 2.0
"""Seconds for which a snapshot of the store counts as up to date."""


@attrs.define(eq=False)
class Lease:
    """A permit: its id in the store, and its reservation in the local budget."""

    id: str
    reservation: Reservation


class StoreWaitQueue:
    """The requests of this process that wait for a shared budget; see `WaitQueue`.

    Args:
        name: Of the budget.
        limit: `None` if it is not paced.
        local: The budget as this process knows it.
        store_client: Where permits come from.
    """

    def __init__(
        self,
        name: Route,
        limit: RateLimit | None,
        local: LocalWaitQueue,
        store_client: StoreClient,
    ) -> None:
        self._name = name
        self._limit = limit
        self._local = local
        self._store_client = store_client
        self._share_since = -inf  # `StoreClient.down_since` of the outage it is for
        self._first_share = 0  # tokens of the first period of that outage

    def __repr__(self) -> str:
        return f"{self._store_client!r} beside {self._local!r}"

    def __len__(self) -> int:
        return self._store_client.waiting(self._name) + len(self._local)

    @property
    def rate_budget(self) -> RateBudget:
        """The budget as this process knows it."""
        return self._local.rate_budget

    @property
    def opens_at(self) -> float:
        """When the gate of the last 429 opens; in the past if it is open."""
        return max(self._local.opens_at, self._store_client.opens_at(self._name))

    def try_take(
        self, now: float, *, first: bool = False, terms: Terms = ANY_REQUEST
    ) -> Lease | None:
        """Take a token of the local share if the store is down; else `None`."""
        if self._store_client.is_up or now >= self._store_client.probe_at:
            return None
        self._apply_share()
        reservation = self._local.try_take(now, first=first, terms=terms)
        return None if reservation is None else self._local_lease(reservation)

    async def take(
        self, *, first: bool, max_pause: float, terms: Terms = ANY_REQUEST
    ) -> Lease:
        """Wait for a permit of the store, or for a token of the local share.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        # After the first round this call has waited already. It goes before the calls
        # that begin to wait without the store.
        first_locally = first
        while True:
            if self._store_client.is_up:
                permit_id = await self._store_client.acquire(
                    self._name, first=first, max_pause=max_pause, terms=terms
                )
                if permit_id is not None:
                    if terms.gate is not None:  # the ledger has seen that it is open
                        terms.gate.take()
                    now = anyio.current_time()
                    return Lease(permit_id, self._local.rate_budget.send(now))
            lease = await self._take_local(first_locally, max_pause, terms)
            if lease is not None:
                return lease
            first_locally = True

    async def _take_local(
        self, first: bool, max_pause: float, terms: Terms
    ) -> Lease | None:
        """Wait without the store; `None` if it is back, or is to be probed."""
        await self._store_client.probe()
        if self._store_client.is_up:
            return None
        self._apply_share()
        with self._store_client.degraded():
            reservation = await self._local.take(
                first=first, max_pause=max_pause, terms=terms
            )
            return self._local_lease(reservation)
        return None

    def _apply_share(self) -> None:
        """Restrict the local budget to this process's share of the limit.

        In the first period of an outage, all processes together have the tokens that
        each held when it lost the store, and an equal part of those that were free. A
        period later the former are back, and each process has an equal part of all. So
        the sum never exceeds the limit (P1), although no process knows what the others
        do.
        """
        if self._limit is None:
            return
        now, client = anyio.current_time(), self._store_client
        budget = self._local.rate_budget
        share = max(self._limit.limit // client.processes, 1)
        if self._share_since != client.down_since:
            self._share_since = client.down_since
            self._first_share = self._share_of_first_period(share, now)
            budget.forget_credit()
        is_first_period = now < self._share_since + self._limit.per
        budget.cap_tokens(min(share, self._first_share) if is_first_period else share)

    def _share_of_first_period(self, share: int, now: float) -> int:
        """Return this process's tokens for the first period without the store."""
        client = self._store_client
        snapshot = client.snapshots.get(self._name)
        if snapshot is None or client.snapshots_at < client.down_since - FRESH:
            # How many are free is not known. `forget_credit` lets one request go first,
            # and its response says what is left.
            return share
        charged = self._local.rate_budget.charged(now)
        return charged + snapshot.free // client.processes

    def _local_lease(self, reservation: Reservation) -> Lease:
        """Make a lease that the store will learn of when it is back."""
        lease = Lease(self._store_client.new_id(), reservation)
        self._store_client.report("sent", lease.id, self._name)
        return lease

    def on_response(
        self, lease: Lease, now: float, facts: ResponseFacts | None
    ) -> None:
        """The response of a request arrived."""
        self._local.on_response(lease.reservation, now, facts)
        self._store_client.report("answered", lease.id, self._name, facts=facts)

    def on_unsent(self, lease: Lease, now: float) -> None:
        """No byte of a request left."""
        self._local.on_unsent(lease.reservation, now)
        self._store_client.report("unsent", lease.id, self._name)

    def on_abandoned(self, lease: Lease, now: float, linger: float) -> None:
        """The response of a request will not be read."""
        self._local.on_abandoned(lease.reservation, now, linger)
        self._store_client.report("abandoned", lease.id, self._name, linger=linger)

    def on_refused(
        self, now: float, retry_after: float | None, lease: Lease | None
    ) -> None:
        """A 429 of this budget arrived."""
        reservation = None if lease is None else lease.reservation
        self._local.on_refused(now, retry_after, reservation)
        request_id = "" if lease is None else lease.id
        self._store_client.report(
            "refused", request_id, self._name, retry_after=retry_after
        )

    def earliest(self, now: float, terms: Terms = ANY_REQUEST) -> float:
        """When a new request could have a permit, as of the last exchange."""
        snapshot = self._store_client.snapshots.get(self._name)
        if not self._store_client.is_up or snapshot is None:
            return self._local.earliest(now, terms)
        if now > self._store_client.snapshots_at + FRESH:
            return max(now, self.opens_at)
        return max(now, self._store_client.snapshots_at + snapshot.newcomer_in)

    def status(self, now: float) -> BudgetStatus:
        """Return the snapshot for users, as of the last exchange."""
        snapshot = self._store_client.snapshots.get(self._name)
        if not self._store_client.is_up or snapshot is None:
            return self._local.status(now)
        age = now - self._store_client.snapshots_at
        spoke_ago = snapshot.status.service_spoke_ago
        return attrs.evolve(
            snapshot.status,
            next_free_in=max(snapshot.status.next_free_in - age, 0.0),
            closed_for=max(snapshot.status.closed_for - age, 0.0),
            service_spoke_ago=None if spoke_ago is None else spoke_ago + age,
        )

    def places(self) -> Iterable[tuple[int, HasGate]]:
        """Return the requests here, each with how many go before it in all processes.

        As of the last exchange.
        """
        client = self._store_client
        snapshot = client.snapshots.get(self._name)
        if not client.is_up:
            return self._local.places()
        counts = None if snapshot is None else snapshot.waiting
        return client.queue(self._name).places(counts)

    def line_state(self, now: float, creates: int, terms: Terms) -> LineState:
        """Return what is known of the line, as of the last exchange."""
        client = self._store_client
        snapshot = client.snapshots.get(self._name)
        if not client.is_up or snapshot is None:
            return self._local.line_state(now, creates, terms)
        here = client.queue(self._name)
        counts = [max(n) for n in zip(here.counts(), snapshot.waiting, strict=True)]
        age = now - client.snapshots_at
        times = [max(seconds - age, 0.0) for seconds in snapshot.tokens]
        first, last = (
            here.ahead_of(terms.rank, terms.share, joined, counts)
            for joined in (0, creates - 1)
        )
        local = self._local.line_state_with(counts, times, 1, terms)
        return attrs.evolve(local, first=first, last=last)

    def wake(self) -> None:
        """Let the first request look again, because something was charged or freed."""
        self._local.wake()


class StoreLimiter(Limiter):
    """The permits of an account, kept in a store.

    Args:
        connect: Makes the store in the running event loop, given the name of the
            account: never the key, at most its hash.
        account: The name of the account; by default made of the base URL and the hash
            of the first client's key.
        timeout: Seconds; see `TIMEOUT`.
        rng: Where jitter and ids come from.
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
        self._bound_loop: object = None
        self._track_counts: list[Callable[[], int]] = []
        self._coordinators: list[StorePollCoordinator] = []
        self._store_client: StoreClient | None = None
        self._store: StateStore | None = None
        self._store_loop: object = None

    def bind(
        self, account: str, limits: RateLimits | None, under_way: Callable[[], int]
    ) -> None:
        """Set whose permits these are; of several clients the first one's limits hold.

        Args:
            account: A name that identifies the account; not a secret.
            limits: What it may send; `None` for no pacing.
            under_way: Returns how many tracks of a client are in progress.
        """
        loop = current_token()
        if loop != self._bound_loop:  # clients of an earlier event loop have ended
            self._bound_loop = loop
            self._track_counts.clear()
            self._coordinators.clear()
        self._track_counts.append(under_way)
        if not self._is_bound:
            self._is_bound = True
            self._account = self._account or account
            self._limits = limits

    def new_coordinator(self) -> PollCoordinator:
        """Return what lets the processes of the account share their polling."""
        coordinator = StorePollCoordinator(self._store_of_loop(), self._rng)
        self._coordinators.append(coordinator)
        return coordinator

    def _store_of_loop(self) -> StateStore:
        """Return the store as the running event loop reaches it."""
        loop = current_token()
        if self._store is None or self._store_loop != loop:
            self._store, self._store_loop = self._connect(self._account or ""), loop
        return self._store

    async def flush(self) -> None:
        """Report to the store what became of permits."""
        if self._store_client is not None:
            await self._store_client.flush()

    def _new_queues(self) -> dict[Route, WaitQueue]:
        limits = self._limits
        self._store_client = store_client = StoreClient(
            LedgerExchanger(self._store_of_loop(), self._rng),
            limits,
            timeout=self._timeout,
            rng=self._rng,
            tracks_in_progress=lambda: sum(count() for count in self._track_counts),
            polling=lambda: max((c.processes for c in self._coordinators), default=0),
        )
        queues: dict[Route, WaitQueue] = {}
        for name in ("creates", "reads"):
            limit = None if limits is None else getattr(limits, name)
            local = LocalWaitQueue(name, RateBudget(limit, self._rng))
            queues[name] = StoreWaitQueue(name, limit, local, store_client)
        return queues
