"""One poll loop for every waiter of an account.

There is no background task. Those who wait register; one of them holds *the wheel*: it
sleeps until something is due, has it read, and gives every waiter its news. When it
leaves, whether served or cancelled, it hands the wheel to another. With the last waiter
the loop is gone.

The wheel is held only inside `Poller.wait`, so never while a caller's code runs. A read
is made in a child task of the driver: it survives the driver's cancellation, and what
it says reaches the others. The driver goes on beside it, so that deadlines are kept
whatever a read does, and another goes out when one hangs (`_poll_flights`). One that
leaves in mid-read hands the wheel on at once.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._api import Call
from finetuning_async._errors import (
    AuthenticationError,
    ClientClosedError,
    FinetuningError,
    PermissionDeniedError,
)
from finetuning_async._http import NoResponse, RetryableFailure
from finetuning_async._polling._dispatch import StateDispatcher
from finetuning_async._polling._failure_tracker import (
    FailureTracker,
    is_refusal,
    is_unclear,
)
from finetuning_async._polling._listing_health import ListingHealth
from finetuning_async._polling._read_planner import Read, choose
from finetuning_async._polling._reads_in_flight import (
    HANGS_AFTER,
    ReadInFlight,
    ReadsInFlight,
)
from finetuning_async._polling._schedule import DurationEstimator, ReadPacer
from finetuning_async._polling._watch_list import (
    OVERTIME,
    Waiter,
    Watched,
    Watcher,
    WatchList,
)
from finetuning_async._runtime import ShieldedCall, ShieldedGroup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from finetuning_async._coordination import PollCoordinator
    from finetuning_async._http import ClientPool, ServerClock
    from finetuning_async._pacing import InFlight
    from finetuning_async._polling._shared_polling import SharedPolling
    from finetuning_async._types import Kind

GRACE_OF_A_READ: Final = 2.0
"""Seconds for which a read on the wire goes on once its driver has to leave."""

CANDIDATES: Final = 32
"""Waiters among whom the next driver is chosen: thousands would take their time."""

_ANY_READ: Final = Call(method="GET", path="/v1/generations")


class Poller:
    """The poll loop of one account.

    Args:
        inflight: The register; tracks that end are taken out of it.
        clock: The service's, to learn when tracks of unknown age were accepted.
        limit: Reads allowed in `per` seconds.
        per: Seconds.
    """

    def __init__(
        self, inflight: InFlight, clock: ServerClock, *, limit: int, per: float
    ) -> None:
        self._pace = ReadPacer(limit=limit, per=per)
        scale, turn = self._pace.scale, self._pace.interval
        outlook = DurationEstimator(scale=scale)
        self._list = WatchList(inflight, outlook, scale=scale)
        self._lists = ListingHealth(scale=scale)
        self._news = StateDispatcher(
            self._list, self._lists, inflight, outlook, clock, scale=scale, turn=turn
        )
        self._idle: dict[Waiter, None] = {}
        self._driver: Waiter | None = None
        self._sleeping_until = -inf
        self._flights = ReadsInFlight()
        self._worked_at = -inf
        self._trouble = FailureTracker(scale=scale)
        self._sharing: SharedPolling | None = None

    def __repr__(self) -> str:
        return (
            f"<Poller tracks={len(self._list)} waiters={len(self._idle)}"
            f" driven={self._driver is not None} reading={len(self._flights)}"
            f" failures={self._trouble.failures}>"
        )

    def share(self, coordinator: PollCoordinator) -> None:
        """Read for other processes, or let one of them read for this one."""
        # Most clients share with nobody, and do without it.
        from finetuning_async._polling._shared_polling import SharedPolling

        self._sharing = SharedPolling(
            coordinator,
            self._list,
            self._news,
            self._trouble,
            scale=self._pace.scale,
        )

    async def tell(self) -> None:
        """Tell other processes what was noticed here."""
        if self._sharing is not None:
            await self._sharing.tell()

    # Who waits, and for what.

    def watch(self, watcher: Watcher, kind: Kind) -> None:
        """Register somebody who waits for a track; end it with `unwatch`."""
        now = anyio.current_time()
        track = self._list.add(watcher, kind, now)
        self._news.date(track, watcher.latest, now)
        self._stir(min(track.next_look, watcher.deadline))

    def unwatch(self, watcher: Watcher) -> None:
        """Take a watcher off the list."""
        self._list.discard(watcher)

    def age(self, track_id: str) -> float | None:
        """Seconds since a track under watch was accepted; `None` if nobody knows."""
        track = self._list.get(track_id)
        if track is None or track.accepted_at is None:
            return None
        return anyio.current_time() - track.accepted_at

    def watch_all(self) -> None:
        """Watch every track of ours under way, until `unwatch_all`."""
        self._list.watch_all(anyio.current_time())
        self._stir(self._list.next_look())

    def unwatch_all(self, waiter: Waiter) -> None:
        """End `watch_all`."""
        self._list.cancel_timer(waiter)
        self._list.release_all()

    def mark_changed(self, track_id: str) -> None:
        """Something happened to a track: look soon, or when it comes to be watched."""
        track = self._list.hint(track_id, anyio.current_time())
        if self._sharing is not None:
            self._sharing.hint(track_id)
            self._stir(-inf)
        elif track is not None:
            self._stir(track.next_look)

    def set_alarm(self, waiter: Waiter, at: float) -> None:
        """Make a waiter ready at a time of the loop's clock; the last one holds."""
        self._list.set_alarm(waiter, at)
        # A track that was accepted meanwhile may end before the driver wakes.
        self._list.follow_inflight(anyio.current_time())
        self._stir(min(at, self._list.next_look()))

    def close(self, pool: ClientPool) -> None:
        """End the waits of a client that is closed."""
        self._end(_closed, lambda waiter: waiter.pipeline.transport.pool is pool)

    def _end(
        self,
        error: Callable[[Waiter], FinetuningError],
        whose: Callable[[Waiter], bool] = lambda _: True,
    ) -> None:
        waiters = dict.fromkeys([*self._list.watchers(), *self._idle])
        if self._driver is not None:
            waiters[self._driver] = None
        for waiter in waiters:
            if whose(waiter):
                waiter.fail(error(waiter))

    # The wheel.

    async def wait(self, waiter: Waiter) -> None:
        """Return when there is something for a registered waiter; drive if nobody does.

        Cancelled here, the wheel goes to another waiter.
        """
        try:
            while not waiter.ready:
                if self._driver is None:
                    await self._drive(waiter)
                    continue
                self._idle[waiter] = None
                try:
                    await waiter.wait()  # no frame of our own, for thousands
                finally:
                    del self._idle[waiter]
        finally:
            self._hand_on()

    async def _drive(self, driver: Waiter) -> None:
        self._driver = driver
        try:
            async with ShieldedGroup(driver) as reads:
                try:
                    await self._steps(driver, reads)
                finally:
                    self._hurry(driver)
        finally:
            self._let_go(driver)
            for flight in self._flights.of(driver):
                self._landed(flight)

    async def _steps(self, driver: Waiter, reads: ShieldedGroup) -> None:
        while not driver.ready:
            step = self._step(driver, reads)
            if step is not None:
                await step
            reads.reap()
        if self._sharing is not None:
            await self._sharing.leave()

    def _hurry(self, driver: Waiter) -> None:
        """Hand the wheel on, and end the reads of a driver that leaves.

        Others may still have use for them; but that makes it late by `OVERTIME` at
        most, and what hangs is not worth it.
        """
        now = anyio.current_time()
        longest = GRACE_OF_A_READ
        if driver.ready:
            left = max(driver.deadline + OVERTIME - now, 0.0)
            longest = min(longest, left) if self._idle else 0.0
        under_way = self._flights.of(driver)
        if under_way:
            self._let_go(driver)
        for flight in under_way:
            hangs = driver.ready and now > flight.sent_at + HANGS_AFTER
            flight.work.cancel_after_grace(0.0 if hangs else longest)

    def _let_go(self, driver: Waiter) -> None:
        """Leave the wheel; a driver that has left already does nothing here."""
        driver.cancel_timer()
        if self._driver is driver:
            self._driver = None
            self._hand_on()

    def _hand_on(self) -> None:
        if self._driver is not None:
            return
        if self._idle:
            # The last to leave: a driver that leaves takes its reads along.
            some = islice(self._idle, CANDIDATES)
            max(some, key=lambda waiter: waiter.deadline).wake()
        else:
            self._trouble.rest()

    def _step(self, driver: Waiter, reads: ShieldedGroup) -> Awaitable[None] | None:
        """What to wait for next; `None` if nothing, or if the driver has to leave."""
        now = anyio.current_time()
        self._ring(driver, now)
        if driver.ready:
            return None
        self._list.follow_inflight(now)
        look = self._next_look(now)
        if look <= now:
            self._look(driver, reads)
            return None
        # After that: where the store is slow there is always something to say.
        sync = inf if self._sharing is None else self._sharing.next_sync
        if self._sharing is not None and sync <= now:
            return self._sharing.sync()
        return self._sleep(driver, min(look, self._list.next_alarm(), sync))

    def _next_look(self, now: float) -> float:
        """When to read next: what is due, at its turn, with none in the way."""
        last = self._list.awaits_last_look
        if not (last or self._may_read(now)):
            return inf
        free = self._flights.next_may_begin(now, is_last_look=last)
        if free == inf:
            return inf
        look = self._list.next_look()
        if look <= now:
            self._list.due(now)  # a track that was due may have left
            look = self._list.next_look()
        turn = self._pace.next_turn(urgent=look == -inf, last_look=last)
        return max(look, turn, free)

    def _may_read(self, now: float, track: Watched | None = None) -> bool:
        return self._sharing is None or self._sharing.may_read(now, track)

    def _sleep(self, driver: Waiter, moment: float) -> Awaitable[None]:
        self._sleeping_until = moment
        return driver.wait_until(moment)

    def _stir(self, moment: float) -> None:
        """Wake a driver that would sleep over what has just been registered.

        One that does not sleep is not harmed.
        """
        if self._driver is not None and moment < self._sleeping_until:
            self._driver.wake()

    def _ring(self, driver: Waiter, now: float) -> None:
        if self._list.next_alarm() > now:
            return
        # The limiter reads the clock for itself: it is later than `now`, if not much.
        permit = driver.pipeline.limiter.earliest(_ANY_READ.route)
        has_one = permit <= anyio.current_time() + OVERTIME
        turn = self._pace.next_turn(urgent=True, last_look=True)
        self._list.expire_deadlines(
            now,
            may_look=lambda watcher: has_one and turn <= now + watcher.overtime,
            asked_at=self._flights.asked_at,
        )

    def obstacle(self, watcher: Watcher) -> tuple[str, float | None]:
        """Why a track could not be looked at, as far as known.

        Returns:
            The reason, and in how many seconds it can be, if that is known.
        """
        now = anyio.current_time()
        track = self._list.get(watcher.track_id)
        if track is not None and track.absence is not None:
            return "the service says that there is no such track (404)", None
        if watcher.asked_at < inf:
            return f"no answer came within {now - watcher.asked_at:.1f} s", None
        pause = watcher.pipeline.limiter.earliest(_ANY_READ.route) - now
        if pause > OVERTIME:
            return f"the reads are used up, the next is free in {pause:.0f} s", pause
        failure = self._trouble.last or (track and track.failure)
        if failure:
            return f"the last look failed: {failure}", None
        return "its turn among the other looks did not come", None

    # One read.

    def _look(self, driver: Waiter, reads: ShieldedGroup) -> None:
        flight = ReadInFlight(driver)
        flight.work = ShieldedCall(
            partial(self._read, flight), grace=GRACE_OF_A_READ, wakeup=driver
        )
        self._flights.add(flight)
        reads.start(flight.work)

    async def _read(self, flight: ReadInFlight, guarded: ShieldedCall[None]) -> None:
        """Take a turn, then read what is due at that moment. Runs in a child task."""
        pipeline = flight.reader.pipeline
        try:
            permit = await pipeline.acquire_permit(_ANY_READ)
            try:
                await guarded.checkpoint()
                read = self._begin(flight)
            finally:
                if flight.read is None:
                    permit.unsent()
            if read is not None:
                with guarded.shielded():
                    answer = await pipeline.send(read.call, permit)
                    pipeline.raise_for_status(read.call, answer)
                    self._news.take(read, answer)
                    self._worked_at = anyio.current_time()
                    self._trouble.over(self._worked_at)
                    await pipeline.limiter.flush()
        except (NoResponse, RetryableFailure, FinetuningError) as failure:
            self._failed(flight, failure)
        finally:
            self._landed(flight)
            if self._driver is not None:
                self._driver.wake()

    def _landed(self, flight: ReadInFlight) -> None:
        """A read is over, whether it was answered, failed or was given up."""
        self._flights.discard(flight)
        if flight.read is not None:
            self._lists.given_up(flight.read.listing, flight.sent_at)

    def _begin(self, flight: ReadInFlight) -> Read | None:
        """Choose what to read; whatever comes of it, not again at once."""
        now = anyio.current_time()
        limit = flight.reader.pipeline.limiter.status().reads.limit
        if limit is not None:  # the service may have named a lower one
            self._pace.keep_to(limit)
        due = self._due(now)
        if not due:
            return None
        self._judge_lists(now)
        sweeps = self._news.absentees.sweeps
        read = choose(due, now=now, lists=self._lists, sweeps=sweeps)
        flight.read, flight.sent_at = read, now
        if read.offset is not None:
            self._lists.asked(read.listing, now)
        last_look = any(self._list.is_last_look(track) for track in read.tracks)
        self._pace.spent(now, last_look=last_look)
        for track in read.tracks:
            track.is_urgent = False
            if not read.is_filtered:  # it may show no state of theirs
                track.looked_at = now
            self._list.look_at(track, now + self._pace.interval)
        return read

    def _judge_lists(self, now: float) -> None:
        """What hangs speaks against its list, or against all reads alike."""
        for flight in self._flights.hanging(now):
            if flight.read is not None and flight.read.offset is not None:
                self._lists.got_none(flight.read.listing, flight.sent_at, now)
            else:
                self._lists.another_failed(flight.sent_at)

    def _due(self, now: float) -> list[Watched]:
        """The tracks to be looked at by this process; the others may wait."""
        due = []
        for track in self._list.due(now, soon=self._pace.interval):
            if self._may_read(now, track) or self._list.is_last_look(track):
                due.append(track)
            else:
                self._list.look_at(track, now + self._pace.interval)
        return due

    # What became of it.

    def _failed(
        self,
        flight: ReadInFlight,
        failure: NoResponse | RetryableFailure | FinetuningError,
    ) -> None:
        """Sort a failure: of the client, of the account, of one read, or passing."""
        now, read = anyio.current_time(), flight.read
        error = failure.error if isinstance(failure, RetryableFailure) else failure
        cannot_work = False
        if isinstance(error, NoResponse):
            cannot_work = error.is_permanent and self._worked_at == -inf
            error = error.as_error(_ANY_READ if read is None else read.call)
        if isinstance(error, ClientClosedError):
            self.close(flight.reader.pipeline.transport.pool)
        elif read is not None and _is_final(read, error):
            self._refused(read, error, flight.sent_at)
        else:
            if flight.sent_at >= self._worked_at:  # else a later one has worked
                self._pace.spent(now, self._trouble.failed(now, error))
            if read is not None:
                self._news.failed(read, error, flight.sent_at)
            if cannot_work or self._trouble.lasts(now):
                self._end(lambda _: error)

    def _refused(self, read: Read, error: FinetuningError, sent_at: float) -> None:
        """The service itself says no: to the account, or to what was asked for."""
        ends_all = isinstance(error, AuthenticationError | PermissionDeniedError)
        if ends_all and not read.is_guess:
            self._end(lambda _: error)
            return
        self._trouble.over(anyio.current_time())
        self._news.refused(read, error, sent_at)


def _is_final(read: Read, error: FinetuningError) -> bool:
    """Whether a read is not made again; a guess is not worth it in any case."""
    return is_refusal(error) or (read.is_guess and is_unclear(error))


def _closed(waiter: Waiter) -> ClientClosedError:
    return ClientClosedError(
        "the client was closed while this call waited; a track under way goes on and"
        " can be waited for again by its id",
        generation_id=waiter.track_id if isinstance(waiter, Watcher) else None,
    )
