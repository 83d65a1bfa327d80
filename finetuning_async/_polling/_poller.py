"""One poll loop for every waiter of an account.

There is no background task. Those who wait register; one of them holds *the wheel*: it
sleeps until something is due, has it read, and gives every waiter its dispatcher. When it
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

READ_GRACE: Final = 2.0
"""Seconds for which a read on the wire goes on once its driver has to leave."""

MAX_CANDIDATES: Final = 32
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
        self._pacer = ReadPacer(limit=limit, per=per)
        scale, interval = self._pacer.scale, self._pacer.interval
        estimator = DurationEstimator(scale=scale)
        self._watch_list = WatchList(inflight, estimator, scale=scale)
        self._listings = ListingHealth(scale=scale)
        self._dispatcher = StateDispatcher(
            self._watch_list,
            self._listings,
            inflight,
            estimator,
            clock,
            scale=scale,
            interval=interval,
        )
        self._idle_waiters: dict[Waiter, None] = {}
        self._driver: Waiter | None = None
        self._sleeping_until = -inf
        self._reads = ReadsInFlight()
        self._last_success_at = -inf
        self._failures = FailureTracker(scale=scale)
        self._shared_polling: SharedPolling | None = None

    def __repr__(self) -> str:
        return (
            f"<Poller tracks={len(self._watch_list)} waiters={len(self._idle_waiters)}"
            f" driven={self._driver is not None} reading={len(self._reads)}"
            f" failures={self._failures.failures}>"
        )

    def share(self, coordinator: PollCoordinator) -> None:
        """Read for other processes, or let one of them read for this one."""
        # Most clients share with nobody, and do without it.
        from finetuning_async._polling._shared_polling import SharedPolling

        self._shared_polling = SharedPolling(
            coordinator,
            self._watch_list,
            self._dispatcher,
            self._failures,
            scale=self._pacer.scale,
        )

    async def publish_changes(self) -> None:
        """Tell other processes what was noticed here."""
        if self._shared_polling is not None:
            await self._shared_polling.publish()

    # Who waits, and for what.

    def watch(self, watcher: Watcher, kind: Kind) -> None:
        """Register somebody who waits for a track; end it with `unwatch`."""
        now = anyio.current_time()
        track = self._watch_list.add(watcher, kind, now)
        self._dispatcher.learn_age(track, watcher.latest, now)
        self._wake_driver(min(track.next_look, watcher.deadline))

    def unwatch(self, watcher: Watcher) -> None:
        """Take a watcher off the list."""
        self._watch_list.discard(watcher)

    def age(self, track_id: str) -> float | None:
        """Seconds since a track under watch was accepted; `None` if nobody knows."""
        track = self._watch_list.get(track_id)
        if track is None or track.accepted_at is None:
            return None
        return anyio.current_time() - track.accepted_at

    def watch_all(self) -> None:
        """Watch every track of ours under way, until `unwatch_all`."""
        self._watch_list.watch_all(anyio.current_time())
        self._wake_driver(self._watch_list.next_look())

    def unwatch_all(self, waiter: Waiter) -> None:
        """End `watch_all`."""
        self._watch_list.cancel_deadline(waiter)
        self._watch_list.unwatch_all()

    def mark_changed(self, track_id: str) -> None:
        """Something happened to a track: look soon, or when it comes to be watched."""
        track = self._watch_list.hint(track_id, anyio.current_time())
        if self._shared_polling is not None:
            self._shared_polling.hint(track_id)
            self._wake_driver(-inf)
        elif track is not None:
            self._wake_driver(track.next_look)

    def set_deadline(self, waiter: Waiter, at: float) -> None:
        """Make a waiter ready at a time of the loop's clock; the last one holds."""
        self._watch_list.set_deadline(waiter, at)
        # A track that was accepted meanwhile may end before the driver wakes.
        self._watch_list.follow_inflight(anyio.current_time())
        self._wake_driver(min(at, self._watch_list.next_look()))

    def close(self, pool: ClientPool) -> None:
        """End the waits of a client that is closed."""
        self._fail_waiters(
            _closed, lambda waiter: waiter.pipeline.transport.pool is pool
        )

    def _fail_waiters(
        self,
        error: Callable[[Waiter], FinetuningError],
        whose: Callable[[Waiter], bool] = lambda _: True,
    ) -> None:
        waiters = dict.fromkeys([*self._watch_list.watchers(), *self._idle_waiters])
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
                self._idle_waiters[waiter] = None
                try:
                    await waiter.wait()  # no frame of our own, for thousands
                finally:
                    del self._idle_waiters[waiter]
        finally:
            self._promote_next()

    async def _drive(self, driver: Waiter) -> None:
        self._driver = driver
        try:
            async with ShieldedGroup(driver) as reads:
                try:
                    await self._run_steps(driver, reads)
                finally:
                    self._hand_over(driver)
        finally:
            self._release_role(driver)
            for in_flight in self._reads.started_by(driver):
                self._on_read_ended(in_flight)

    async def _run_steps(self, driver: Waiter, reads: ShieldedGroup) -> None:
        while not driver.ready:
            step = self._next_step(driver, reads)
            if step is not None:
                await step
            reads.reap()
        if self._shared_polling is not None:
            await self._shared_polling.leave()

    def _hand_over(self, driver: Waiter) -> None:
        """Hand the wheel on, and end the reads of a driver that leaves.

        Others may still have use for them; but that makes it late by `OVERTIME` at
        most, and what hangs is not worth it.
        """
        now = anyio.current_time()
        longest = READ_GRACE
        if driver.ready:
            left = max(driver.deadline + OVERTIME - now, 0.0)
            longest = min(longest, left) if self._idle_waiters else 0.0
        under_way = self._reads.started_by(driver)
        if under_way:
            self._release_role(driver)
        for in_flight in under_way:
            hangs = driver.ready and now > in_flight.sent_at + HANGS_AFTER
            in_flight.shielded_call.cancel_after_grace(0.0 if hangs else longest)

    def _release_role(self, driver: Waiter) -> None:
        """Leave the wheel; a driver that has left already does nothing here."""
        driver.cancel_timer()
        if self._driver is driver:
            self._driver = None
            self._promote_next()

    def _promote_next(self) -> None:
        if self._driver is not None:
            return
        if self._idle_waiters:
            # The last to leave: a driver that leaves takes its reads along.
            some = islice(self._idle_waiters, MAX_CANDIDATES)
            max(some, key=lambda waiter: waiter.deadline).wake()
        else:
            self._failures.reset()

    def _next_step(
        self, driver: Waiter, reads: ShieldedGroup
    ) -> Awaitable[None] | None:
        """What to wait for next; `None` if nothing, or if the driver has to leave."""
        now = anyio.current_time()
        self._expire_deadlines(driver, now)
        if driver.ready:
            return None
        self._watch_list.follow_inflight(now)
        look = self._next_read_at(now)
        if look <= now:
            self._start_read(driver, reads)
            return None
        # After that: where the store is slow there is always something to say.
        sync = inf if self._shared_polling is None else self._shared_polling.next_sync
        if self._shared_polling is not None and sync <= now:
            return self._shared_polling.sync()
        return self._sleep(driver, min(look, self._watch_list.next_deadline(), sync))

    def _next_read_at(self, now: float) -> float:
        """When to read next: what is due, at its turn, with none in the way."""
        last = self._watch_list.has_pending_last_look
        if not (last or self._may_read(now)):
            return inf
        free = self._reads.next_allowed_at(now, is_last_look=last)
        if free == inf:
            return inf
        look = self._watch_list.next_look()
        if look <= now:
            self._watch_list.due(now)  # a track that was due may have left
            look = self._watch_list.next_look()
        turn = self._pacer.next_slot(urgent=look == -inf, last_look=last)
        return max(look, turn, free)

    def _may_read(self, now: float, track: Watched | None = None) -> bool:
        return self._shared_polling is None or self._shared_polling.may_read(now, track)

    def _sleep(self, driver: Waiter, moment: float) -> Awaitable[None]:
        self._sleeping_until = moment
        return driver.parked_until(moment)

    def _wake_driver(self, moment: float) -> None:
        """Wake a driver that would sleep over what has just been registered.

        One that does not sleep is not harmed.
        """
        if self._driver is not None and moment < self._sleeping_until:
            self._driver.wake()

    def _expire_deadlines(self, driver: Waiter, now: float) -> None:
        if self._watch_list.next_deadline() > now:
            return
        # The limiter reads the clock for itself: it is later than `now`, if not much.
        permit = driver.pipeline.limiter.earliest(_ANY_READ.route)
        has_one = permit <= anyio.current_time() + OVERTIME
        turn = self._pacer.next_slot(urgent=True, last_look=True)
        self._watch_list.expire_deadlines(
            now,
            can_look=lambda watcher: has_one and turn <= now + watcher.overtime,
            pending_since=self._reads.pending_since,
        )

    def no_update_reason(self, watcher: Watcher) -> tuple[str, float | None]:
        """Why a track could not be looked at, as far as known.

        Returns:
            The reason, and in how many seconds it can be, if that is known.
        """
        now = anyio.current_time()
        track = self._watch_list.get(watcher.track_id)
        if track is not None and track.absence is not None:
            return "the service says that there is no such track (404)", None
        if watcher.pending_since < inf:
            return f"no answer came within {now - watcher.pending_since:.1f} s", None
        pause = watcher.pipeline.limiter.earliest(_ANY_READ.route) - now
        if pause > OVERTIME:
            return f"the reads are used up, the next is free in {pause:.0f} s", pause
        failure = self._failures.last or (track and track.failure)
        if failure:
            return f"the last look failed: {failure}", None
        return "its turn among the other looks did not come", None

    # One read.

    def _start_read(self, driver: Waiter, reads: ShieldedGroup) -> None:
        in_flight = ReadInFlight(driver)
        in_flight.shielded_call = ShieldedCall(
            partial(self._read, in_flight), grace=READ_GRACE, place=driver
        )
        self._reads.add(in_flight)
        reads.start(in_flight.shielded_call)

    async def _read(
        self, in_flight: ReadInFlight, shielded: ShieldedCall[None]
    ) -> None:
        """Take a turn, then read what is due at that moment. Runs in a child task."""
        pipeline = in_flight.reader.pipeline
        try:
            permit = await pipeline.turn(_ANY_READ)
            try:
                await shielded.checkpoint()
                read = self._choose_read(in_flight)
            finally:
                if in_flight.read is None:
                    permit.unsent()
            if read is not None:
                with shielded.shielded():
                    answer = await pipeline.send(read.call, permit)
                    pipeline.check(read.call, answer)
                    self._dispatcher.dispatch(read, answer)
                    self._last_success_at = anyio.current_time()
                    self._failures.on_success(self._last_success_at)
                    await pipeline.limiter.flush()
        except (NoResponse, RetryableFailure, FinetuningError) as failure:
            self._on_failure(in_flight, failure)
        finally:
            self._on_read_ended(in_flight)
            if self._driver is not None:
                self._driver.wake()

    def _on_read_ended(self, in_flight: ReadInFlight) -> None:
        """A read is over, whether it was answered, failed or was given up."""
        self._reads.discard(in_flight)
        if in_flight.read is not None:
            self._listings.forget_page(in_flight.read.listing, in_flight.sent_at)

    def _choose_read(self, in_flight: ReadInFlight) -> Read | None:
        """Choose what to read; whatever comes of it, not again at once."""
        now = anyio.current_time()
        limit = in_flight.reader.pipeline.limiter.status().reads.limit
        if limit is not None:  # the service may have named a lower one
            self._pacer.lower_limit(limit)
        due = self._due_here(now)
        if not due:
            return None
        self._report_hanging(now)
        sweeps = self._dispatcher.missing_tracks.sweeps
        read = choose(due, now=now, listings=self._listings, sweeps=sweeps)
        in_flight.read, in_flight.sent_at = read, now
        if read.offset is not None:
            self._listings.page_sent(read.listing, now)
        last_look = any(self._watch_list.is_last_look(track) for track in read.tracks)
        self._pacer.use_slots(now, last_look=last_look)
        for track in read.tracks:
            track.is_urgent = False
            if not read.is_filtered:  # it may show no state of theirs
                track.looked_at = now
            self._watch_list.schedule_look(track, now + self._pacer.interval)
        return read

    def _report_hanging(self, now: float) -> None:
        """What hangs speaks against its list, or against all reads alike."""
        for in_flight in self._reads.hanging(now):
            if in_flight.read is not None and in_flight.read.offset is not None:
                self._listings.page_unanswered(
                    in_flight.read.listing, in_flight.sent_at, now
                )
            else:
                self._listings.other_read_failed(in_flight.sent_at)

    def _due_here(self, now: float) -> list[Watched]:
        """The tracks to be looked at by this process; the others may wait."""
        due = []
        for track in self._watch_list.due(now, soon=self._pacer.interval):
            if self._may_read(now, track) or self._watch_list.is_last_look(track):
                due.append(track)
            else:
                self._watch_list.schedule_look(track, now + self._pacer.interval)
        return due

    # What became of it.

    def _on_failure(
        self,
        in_flight: ReadInFlight,
        failure: NoResponse | RetryableFailure | FinetuningError,
    ) -> None:
        """Sort a failure: of the client, of the account, of one read, or passing."""
        now, read = anyio.current_time(), in_flight.read
        error = failure.error if isinstance(failure, RetryableFailure) else failure
        cannot_work = False
        if isinstance(error, NoResponse):
            cannot_work = error.lasts and self._last_success_at == -inf
            error = error.as_error(_ANY_READ if read is None else read.call)
        if isinstance(error, ClientClosedError):
            self.close(in_flight.reader.pipeline.transport.pool)
        elif read is not None and _is_final(read, error):
            self._on_refusal(read, error, in_flight.sent_at)
        else:
            if (
                in_flight.sent_at >= self._last_success_at
            ):  # else a later one has worked
                self._pacer.use_slots(now, self._failures.on_failure(now, error))
            if read is not None:
                self._dispatcher.read_failed(read, error, in_flight.sent_at)
            if cannot_work or self._failures.persists(now):
                self._fail_waiters(lambda _: error)

    def _on_refusal(self, read: Read, error: FinetuningError, sent_at: float) -> None:
        """The service itself says no: to the account, or to what was asked for."""
        ends_all = isinstance(error, AuthenticationError | PermissionDeniedError)
        if ends_all and not read.is_guess:
            self._fail_waiters(lambda _: error)
            return
        self._failures.on_success(anyio.current_time())
        self._dispatcher.read_refused(read, error, sent_at)


def _is_final(read: Read, error: FinetuningError) -> bool:
    """Whether a read is not made again; a guess is not worth it in any case."""
    return is_refusal(error) or (read.is_guess and is_unclear(error))


def _closed(waiter: Waiter) -> ClientClosedError:
    return ClientClosedError(
        "the client was closed while this call waited; a track under way goes on and"
        " can be waited for again by its id",
        generation_id=waiter.track_id if isinstance(waiter, Watcher) else None,
    )
