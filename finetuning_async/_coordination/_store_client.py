"""One event loop of a process and its store: when it exchanges, and what it reports.

There is no background task. Calls that wait for a permit register here, and one of them
drives: it sends all that there is to send, wakes every waiter whose permit came, and
sleeps until the ledger has said that another exchange is useful. When it leaves, served
or cancelled, it promotes another waiter. What happened to requests is put into an
`Outbox` at once and sent with the next exchange.

A store that fails, or takes longer than `EXCHANGE_TIMEOUT`, is left alone for a while.
The calls that waited for it are woken and continue without it (see `_shared_limiter`).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import count, islice
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._coordination._exchange_messages import (
    ExchangeRequest,
    PermitRequest,
)
from finetuning_async._coordination._outbox import Outbox
from finetuning_async._errors import FinetuningError
from finetuning_async._pacing import FairQueue, check_pause
from finetuning_async._runtime import Wakeup
from finetuning_async._secrets import scrub

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from finetuning_async._api import Route
    from finetuning_async._coordination._exchange_messages import (
        Exchanger,
        ExchangeReply,
        RateLimitSnapshot,
        RequestEvent,
    )
    from finetuning_async._pacing import QueueGate, RateLimits, Terms

logger = logging.getLogger("finetuning_async")

EXCHANGE_TIMEOUT: Final = 1.0
"""Seconds that an exchange may take."""

PROBE_INTERVAL: Final = 1.0
"""Seconds until an unavailable store is tried again: every process that works without
it has to notice within `REPORT_WINDOW` seconds that it is available again."""

MAX_QUEUED: Final = 20
"""Requests of a process in one queue of the ledger at a time, those that go next. So
the queues stay short, and a process where many wait alternates with the others."""

WATCH_AFTER: Final = 2.0
"""Seconds until a create that waits for the store watches the tracks in progress. Most
have their permit by then, and a process that watches may take the lead in polling."""

ASSUMED_PROCESSES: Final = 4
"""Processes that are assumed while the store has never been reached."""

MAX_ERROR_LENGTH: Final = 200
"""Characters of the error of a failing store in the log."""


class PermitWaiter(Wakeup):
    """One call that waits for a permit of the store.

    Attributes:
        permit_request: What it sends.
        max_pause: Seconds that a 429 may ask for.
        is_sent: Whether the store may know of it.
        is_granted: Whether it has its permit.
        error: Why it will get none.
        gate: The service's queue, which it watches while it drives; `None` if that is
            no concern.
    """

    __slots__ = (
        "arrival",
        "error",
        "gate",
        "is_granted",
        "is_queued",
        "is_repetition",
        "is_sent",
        "max_pause",
        "permit_request",
        "rank",
        "share",
    )

    def __init__(
        self,
        permit_request: PermitRequest,
        max_pause: float,
        gate: QueueGate | None,
        arrival: int,
    ) -> None:
        super().__init__()
        self.permit_request = permit_request
        self.rank = permit_request.rank
        self.share = permit_request.share
        self.is_repetition = permit_request.first
        self.arrival = arrival
        self.is_queued = False
        self.gate = gate
        self.max_pause = max_pause
        self.is_sent = False
        self.is_granted = False
        self.error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has a permit or an error."""
        return self.is_granted or self.error is not None


class StoreClient:
    """The connection of one event loop to the ledger of its account.

    Args:
        store: The ledger, in a store.
        limits: The limits of this process.
        timeout: As `ExchangeRequest.timeout`.
        rng: Where ids come from.
        tracks_in_progress: Returns how many tracks of this process are in progress.
        polling: Returns how many processes share their polling: those for which another
            one reads send no requests, so the ledger of the limits does not know them.

    Attributes:
        is_up: Whether the last exchange succeeded; true before the first.
        probe_at: When an unavailable store is tried again, on the loop's clock.
        down_since: When the first exchange began that failed.
        snapshots: Each budget, as of the last reply.
        snapshots_at: When that exchange began.
    """

    def __init__(
        self,
        store: Exchanger,
        limits: RateLimits | None,
        *,
        timeout: float,
        rng: random.Random,
        tracks_in_progress: Callable[[], int],
        polling: Callable[[], int],
    ) -> None:
        self._store = store
        self._limits = limits
        self._timeout = timeout
        self._rng = rng
        self._tracks_in_progress = tracks_in_progress
        self._polling = polling
        per = 60.0 if limits is None else max(limits.creates.per, limits.reads.per)
        self._outbox = Outbox(timeout, per)
        self._process = self.new_id()
        self._number = 0
        self._epoch: str | None = None
        self._lock = anyio.Lock(fast_acquire=True)
        self._driver: PermitWaiter | None = None
        self._arrivals = count()
        self._waiters: dict[Route, FairQueue[PermitWaiter]] = {
            "creates": FairQueue(),
            "reads": FairQueue(),
        }
        self._must_exchange = False
        self._next_exchange_at = -inf
        self._degraded: dict[anyio.CancelScope, None] = {}
        self.is_up = True
        self.probe_at = -inf
        self.down_since = -inf
        self._processes = ASSUMED_PROCESSES
        self.snapshots: dict[Route, RateLimitSnapshot] = {}
        self.snapshots_at = -inf

    def __repr__(self) -> str:
        state = "up" if self.is_up else "down"
        waiting = sum(map(len, self._waiters.values()))
        return f"<StoreClient {state} waiting={waiting} outbox={len(self._outbox)}>"

    def new_id(self) -> str:
        """Return an id that no other process uses."""
        return f"{self._rng.getrandbits(80):020x}"

    @property
    def processes(self) -> int:
        """How many processes share the store, as far as known."""
        return max(self._processes, self._polling())

    def queue(self, budget: Route) -> FairQueue[PermitWaiter]:
        """Return the calls of this loop that wait for a permit of a budget."""
        return self._waiters[budget]

    def waiting(self, budget: Route) -> int:
        """Return how many calls of this loop wait for a permit of a budget."""
        return len(self._waiters[budget])

    # Permits of the store.

    async def acquire(
        self, budget: Route, *, first: bool, max_pause: float, terms: Terms
    ) -> str | None:
        """Wait for a permit; return its id, or `None` if the store is unavailable.

        A cancelled call leaves the queue, and a permit that it had goes to the next.

        Raises:
            RateLimitError: A 429 closed the gate for longer than `max_pause` seconds.
        """
        request = PermitRequest(
            id=self.new_id(),
            budget=budget,
            first=first,
            rank=terms.rank,
            share=terms.share,
        )
        waiter = PermitWaiter(request, max_pause, terms.gate, next(self._arrivals))
        self._enqueue(waiter)
        try:
            while not waiter.is_done and self.is_up:
                if self._driver is None:
                    await self._drive(waiter)
                else:
                    await waiter.wait()
        except BaseException:
            self._leave(waiter)
            raise
        if waiter.is_granted:
            return request.id
        self._leave(waiter)
        if waiter.error is not None:
            raise waiter.error
        return None

    def _enqueue(self, waiter: PermitWaiter) -> None:
        waiters = self._waiters[waiter.permit_request.budget]
        ahead = waiters.surely_ahead_of(waiter.rank, waiter.share)
        waiters.add(waiter)
        # Else it is sent once an earlier one has left.
        if waiter.is_repetition or ahead < MAX_QUEUED:
            self._wake_driver()

    def _leave(self, waiter: PermitWaiter) -> None:
        request = waiter.permit_request
        self._waiters[request.budget].discard(waiter)
        # The store may have granted it meanwhile, even if the reply was lost.
        if waiter.is_sent:
            self.report("unsent", request.id, request.budget)
        self._wake_driver()
        self._promote_next()

    # The driver.

    async def _drive(self, driver: PermitWaiter) -> None:
        if driver.gate is None:
            await self._exchange_until_done(driver)
            return
        # Perhaps no other call waits for the tracks in progress, and their ends make
        # room in the service's queue for all processes.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_tracks, driver, driver.gate)
            try:
                await self._exchange_until_done(driver)
            finally:
                driver.gate.wake()
                tasks.cancel_scope.cancel()

    async def _watch_tracks(self, driver: PermitWaiter, gate: QueueGate) -> None:
        await anyio.sleep(WATCH_AFTER)
        try:
            while True:
                await gate.wait(inf)
                self._wake_driver()  # a track has ended, which the ledger has to know
        except FinetuningError as error:  # raised again in the task that waits
            driver.error = error
            driver.wake()

    async def _exchange_until_done(self, driver: PermitWaiter) -> None:
        self._driver = driver
        try:
            while not driver.is_done and self.is_up:
                now = anyio.current_time()
                if self._must_exchange or now >= self._next_exchange_at:
                    await self._exchange()
                else:
                    await driver.wait_until(self._next_exchange_at)
        finally:
            driver.cancel_timer()
            self._driver = None
            self._promote_next()

    def _promote_next(self) -> None:
        """Wake a waiter, which then finds that there is no driver."""
        if self._driver is None:
            for waiters in self._waiters.values():
                head = waiters.head()
                if head is not None:
                    head.wake()
                    return

    def _wake_driver(self) -> None:
        """Have the driver exchange now, because there is something to send."""
        self._must_exchange = True
        if self._driver is not None:
            self._driver.wake()

    async def flush(self) -> None:
        """Send the reports, unless a driver does or the store is unavailable."""
        if self._outbox and not self.is_up:
            await self.probe()
        while self._outbox and self.is_up and not self._lock.locked():
            if self._driver is not None:
                self._wake_driver()
                return
            await self._exchange()

    # One exchange.

    async def _exchange(self, *, probing: bool = False) -> None:
        async with self._lock:
            if not (self.is_up or probing):
                return
            request = self._new_request()
            asked_at = anyio.current_time()
            try:
                with anyio.fail_after(EXCHANGE_TIMEOUT):
                    reply = await self._store.exchange(request)
            except Exception as error:  # whatever a store's library raises
                self._on_failure(error, asked_at)
            except BaseException:
                # Cancelled: it may have been applied or not. The next driver exchanges
                # at once and sends the same reports and permit requests, which the
                # ledger applies once by their numbers and ids.
                self._must_exchange = True
                raise
            else:
                self._on_reply(request, reply, asked_at)

    def _new_request(self) -> ExchangeRequest:
        now = anyio.current_time()
        self._must_exchange = False
        self._number += 1
        sent = [w for waiters in self._waiters.values() for w in _next_of(waiters)]
        for waiter in sent:
            waiter.is_sent = True
        return ExchangeRequest(
            process=self._process,
            number=self._number,
            epoch=self._epoch,
            limits=self._limits,
            timeout=self._timeout,
            permit_requests=tuple(waiter.permit_request for waiter in sent),
            creates_waiting=tuple(self._waiters["creates"].counts()),
            reports=self._outbox.reports(now),
            tracks_in_progress=self._tracks_in_progress(),
            degraded_for=0.0 if self.is_up else now - self.down_since,
        )

    def _on_reply(
        self, request: ExchangeRequest, reply: ExchangeReply, asked_at: float
    ) -> None:
        self._outbox.on_received(request.reports)
        if self._epoch not in (None, reply.epoch):  # the store lost the old ledger
            self._outbox.add_everything_again()
            self._wake_driver()
        self._epoch = reply.epoch
        self.snapshots, self.snapshots_at = dict(reply.snapshots), asked_at
        self._processes = max(reply.processes, 1)
        self._next_exchange_at = anyio.current_time() + reply.wait
        self._on_recovery()
        for waiters in self._waiters.values():
            self._notify(waiters, reply)

    def _notify(self, waiters: FairQueue[PermitWaiter], reply: ExchangeReply) -> None:
        now = anyio.current_time()
        for waiter in list(waiters):
            request = waiter.permit_request
            if request.id in reply.granted:
                waiters.deal(waiter)
                self._outbox.on_granted(request.id, request.budget, now)
                waiter.is_granted = True
                waiter.wake()
            else:
                self._check_gate(waiter, now)
        if not all(waiter.is_sent for waiter in _next_of(waiters)):
            self._wake_driver()

    def _check_gate(self, waiter: PermitWaiter, now: float) -> None:
        try:
            budget = waiter.permit_request.budget
            check_pause(budget, self.opens_at(budget), now, waiter.max_pause)
        except Exception as error:  # raised again in the task that waits
            waiter.error = error
            waiter.wake()

    def opens_at(self, budget: Route) -> float:
        """When the gate opens, as of the last reply; in the past if it is open."""
        snapshot = self.snapshots.get(budget)
        if snapshot is None or not snapshot.status.closed_for:
            return -inf
        return self.snapshots_at + snapshot.status.closed_for

    # Reports.

    def report(
        self, event: RequestEvent, request_id: str, budget: Route, **facts: object
    ) -> None:
        """Keep what happened to a request until the store has received it."""
        self._outbox.add(anyio.current_time(), event, request_id, budget, **facts)

    # Without the store.

    def _on_failure(self, error: Exception, asked_at: float) -> None:
        if self.is_up:
            self.is_up, self.down_since = False, asked_at
            logger.warning(
                "the store of the rate limits is unavailable (%s); using 1/%d of the"
                " limits until it is back",
                _describe(error),
                self.processes,
            )
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.wake()
        self.probe_at = anyio.current_time() + PROBE_INTERVAL
        self._schedule_probe()

    def _on_recovery(self) -> None:
        if not self.is_up:
            self.is_up = True
            logger.warning(
                "the store of the rate limits is available again; using the full limits"
            )
            # All that wait for the local share join the store's queue instead.
            for scope in self._degraded:
                scope.cancel()

    async def probe(self) -> None:
        """Try an unavailable store again if that is due."""
        now = anyio.current_time()
        if now >= self.probe_at and not self._lock.locked():
            # Moved on first, so that no other task probes at the same time.
            self.probe_at = now + EXCHANGE_TIMEOUT + PROBE_INTERVAL
            await self._exchange(probing=True)

    @contextmanager
    def degraded(self) -> Generator[None]:
        """Wait without the store; left early when it is back, or to probe it."""
        scope = anyio.CancelScope()
        self._degraded[scope] = None
        self._schedule_probe()
        try:
            with scope:
                yield
        finally:
            del self._degraded[scope]
            self._schedule_probe()

    def _schedule_probe(self) -> None:
        """Let the first of the calls that wait without the store probe it in time.

        One is enough, and there is no background task that could do it. Its scope ends
        at `probe_at`; it then probes before it waits again (see `_shared_limiter`).
        """
        for scope in self._degraded:
            scope.deadline = self.probe_at
            return


def _next_of(waiters: FairQueue[PermitWaiter]) -> list[PermitWaiter]:
    """Return those that the ledger is to know: the ones that go next."""
    return list(islice(waiters.in_order(), MAX_QUEUED))


def _describe(error: Exception) -> str:
    """Return the class of an error and its first line, without secrets."""
    message = scrub(str(error).strip().partition("\n")[0])[:MAX_ERROR_LENGTH]
    name = type(error).__name__
    return f"{name}: {message}" if message else name
