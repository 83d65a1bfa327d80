"""The poll loop of an account: one for all its waiters.

There is no background task. Waiters register, and one of them is *the driver*: it
sleeps until a read is due, has it sent, and everything that is read is dispatched to
all waiters. When the driver leaves, because it is served or cancelled, it promotes
another waiter. When the last waiter leaves, the loop does not exist any more, so there
is no task to leak.

What holds:

- The role is held only inside `Poller.wait`, so never while a caller's code runs.
- The driver sleeps until the first of: the next read, the next deadline, the next sync
  with other processes. Whatever moves one of these forward wakes it: a read that ended,
  a waiter that registered, a hint.
- Each change of state is made without an await, by the driver, by a read or by a waiter
  that registers. So at each await of the driver the watch list, the deadlines and the
  reads in flight agree with each other, and it starts each step from them anew.
- A read runs in a child task of the driver (`_reader`), shielded: it survives the
  driver's cancellation, and what it shows reaches the other waiters. The driver does
  not wait for it, so deadlines are kept even if a read hangs, and `ReadsInFlight` lets
  another one go out beside it.
- A driver that has to leave while reads are in flight gives up the role at once, and
  its call ends when its reads have, within `READ_GRACE` seconds.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._errors import ClientClosedError, FinetuningError
from finetuning_async._polling._dispatch import StateDispatcher
from finetuning_async._polling._failure_tracker import FailureTracker
from finetuning_async._polling._listing_health import ListingHealth
from finetuning_async._polling._reader import ANY_READ, READ_GRACE, Reader
from finetuning_async._polling._reads_in_flight import HANGS_AFTER, ReadsInFlight
from finetuning_async._polling._schedule import DurationEstimator, ReadPacer
from finetuning_async._polling._waiters import OVERTIME, Waiter, Watcher
from finetuning_async._polling._watch_list import Watched, WatchList
from finetuning_async._runtime import ShieldedGroup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from finetuning_async._coordination import PollCoordinator
    from finetuning_async._http import ClientPool, ServerClock
    from finetuning_async._pacing import InFlight
    from finetuning_async._polling._shared_polling import SharedPolling
    from finetuning_async._types import Kind

MAX_CANDIDATES: Final = 32
"""Waiters among which the next driver is chosen; to compare thousands takes long."""


class Poller:
    """The poll loop of one account.

    Args:
        inflight: The account's register; tracks that end are removed from it.
        clock: The service's clock, which dates tracks that were created elsewhere.
        limit: Reads allowed in `per` seconds.
        per: Seconds.
    """

    def __init__(
        self, inflight: InFlight, clock: ServerClock, *, limit: int, per: float
    ) -> None:
        self._pacer = ReadPacer(limit=limit, per=per)
        scale, interval = self._pacer.scale, self._pacer.interval
        estimator = self._estimator = DurationEstimator(scale=scale)
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
        self._failures = FailureTracker(scale=scale)
        self._shared_polling: SharedPolling | None = None
        self._reader = Reader(
            self,
            watch_list=self._watch_list,
            listings=self._listings,
            dispatcher=self._dispatcher,
            pacer=self._pacer,
            failures=self._failures,
            reads=self._reads,
        )

    def __repr__(self) -> str:
        return (
            f"<Poller tracks={len(self._watch_list)} waiters={len(self._idle_waiters)}"
            f" driven={self._driver is not None} reading={len(self._reads)}"
            f" failures={self._failures.failures}>"
        )

    def share(self, coordinator: PollCoordinator) -> None:
        """Share the reads with other processes: one of them reads for all."""
        # Imported here, since most clients do not share.
        from finetuning_async._polling._shared_polling import SharedPolling

        self._shared_polling = SharedPolling(
            coordinator,
            self._watch_list,
            self._dispatcher,
            self._failures,
            scale=self._pacer.scale,
        )

    async def publish_changes(self) -> None:
        """Publish what was learned here to the other processes."""
        if self._shared_polling is not None:
            await self._shared_polling.publish()

    # Registration: who waits, and for what.

    def watch(self, watcher: Watcher, kind: Kind) -> None:
        """Register a watcher of a track, until `unwatch`."""
        now = anyio.current_time()
        track = self._watch_list.add(watcher, kind, now)
        self._dispatcher.learn_age(track, watcher.latest, now)
        self._wake_driver_before(min(track.next_look, watcher.deadline))

    def unwatch(self, watcher: Watcher) -> None:
        """Remove a watcher."""
        self._watch_list.discard(watcher)

    def age(self, track_id: str) -> float | None:
        """Seconds since a watched track was accepted; `None` if that is unknown."""
        track = self._watch_list.get(track_id)
        if track is None or track.accepted_at is None:
            return None
        return anyio.current_time() - track.accepted_at

    def durations(self, kind: Kind) -> tuple[float, ...]:
        """What tracks of a kind took lately, in seconds, ascending; never empty."""
        return tuple(self._estimator.seen(kind))

    def typical_duration(self, kind: Kind) -> float:
        """Seconds that a track of a kind takes; 70 until four of them have ended."""
        seen = self._estimator.seen(kind)
        return sum(seen) / len(seen)

    def watch_all(self) -> None:
        """Watch every accepted track of ours, until `unwatch_all`."""
        self._watch_list.watch_all(anyio.current_time())
        self._wake_driver_before(self._watch_list.next_look())

    def unwatch_all(self) -> None:
        """End `watch_all`."""
        self._watch_list.unwatch_all()

    @contextmanager
    def hurry(self) -> Generator[None]:
        """Look more often while the block runs: a person waits for any track to end."""
        self._pacer.hurried += 1
        self._wake_driver_before(-inf)
        try:
            yield
        finally:
            self._pacer.hurried -= 1

    def cancel_deadline(self, waiter: Waiter) -> None:
        """End what `set_deadline` began."""
        self._watch_list.cancel_deadline(waiter)

    def mark_changed(self, track_id: str) -> None:
        """Look at a track soon, or as soon as it is watched."""
        track = self._watch_list.hint(track_id, anyio.current_time())
        if self._shared_polling is not None:
            self._shared_polling.hint(track_id)
            self._wake_driver_before(-inf)
        elif track is not None:
            self._wake_driver_before(track.next_look)

    def set_deadline(self, waiter: Waiter, at: float) -> None:
        """Make a waiter ready at a time, which replaces its earlier deadline."""
        self._watch_list.set_deadline(waiter, at)
        # A track that was accepted meanwhile may end before the driver wakes by itself.
        self._watch_list.follow_inflight(anyio.current_time())
        self._wake_driver_before(min(at, self._watch_list.next_look()))

    def close(self, pool: ClientPool) -> None:
        """End the waits of a client that was closed."""
        self.fail_waiters(
            _closed, lambda waiter: waiter.pipeline.transport.pool is pool
        )

    def fail_waiters(
        self,
        error: Callable[[Waiter], FinetuningError],
        whose: Callable[[Waiter], bool] = lambda _: True,
    ) -> None:
        """End all waits with an error, or only those that `whose` picks."""
        waiters = dict.fromkeys([*self._watch_list.watchers(), *self._idle_waiters])
        if self._driver is not None:
            waiters[self._driver] = None
        for waiter in waiters:
            if whose(waiter):
                waiter.fail(error(waiter))

    # The driver.

    async def wait(self, waiter: Waiter) -> None:
        """Return when a registered waiter is ready; drive the loop if no other does.

        If it is cancelled while it drives, another waiter becomes the driver.
        """
        try:
            while not waiter.ready:
                # A promoted waiter is only woken. It takes the role here, in its own
                # task, unless another one that was just called was faster.
                if self._driver is None:
                    await self._drive(waiter)
                    continue
                self._idle_waiters[waiter] = None
                try:
                    # Awaited directly: with thousands of waiters each frame counts.
                    await waiter.wait()
                finally:
                    del self._idle_waiters[waiter]
        finally:
            # Also if this waiter never drove: it may have been the one promoted, and
            # have been cancelled or made ready before it could take the role.
            self._promote_next()

    async def _drive(self, driver: Waiter) -> None:
        self._driver = driver
        try:
            async with ShieldedGroup(driver) as reads:
                try:
                    await self._run_steps(driver, reads)
                finally:
                    # Before the group waits for the reads: the others must not be
                    # without a driver until the slowest of them has ended.
                    self._hand_over(driver)
        finally:
            self._release_role(driver)
            # A child that was cancelled before its first step has no `finally`.
            for in_flight in self._reads.started_by(driver):
                self._reader.forget(in_flight)

    async def _run_steps(self, driver: Waiter, reads: ShieldedGroup) -> None:
        while not driver.ready:
            step = self._next_step(driver, reads)
            if step is not None:
                await step
            reads.reap()
        if self._shared_polling is not None:
            await self._shared_polling.leave()

    def _hand_over(self, driver: Waiter) -> None:
        """Release the role of a driver that leaves, and bound its reads in flight.

        Other waiters may still need what these show, so they get up to `READ_GRACE`
        seconds. But a driver that is served returns by its deadline plus `OVERTIME`,
        and does not wait for a read that hangs, or that only it needed.
        """
        now = anyio.current_time()
        longest = READ_GRACE
        if driver.ready:
            left = max(driver.deadline + OVERTIME - now, 0.0)
            longest = min(longest, left) if self._idle_waiters else 0.0
        in_flight = self._reads.started_by(driver)
        if in_flight:
            self._release_role(driver)
        for read in in_flight:
            hangs = driver.ready and now > read.sent_at + HANGS_AFTER
            read.shielded_call.cancel_after_grace(0.0 if hangs else longest)

    def _release_role(self, driver: Waiter) -> None:
        """Give up the role and promote another waiter; may be called twice."""
        driver.cancel_timer()
        if self._driver is driver:
            self._driver = None
            self._promote_next()

    def _promote_next(self) -> None:
        """Wake the waiter that is to drive next, if the role is free."""
        if self._driver is not None:
            return
        if self._idle_waiters:
            # The one with the latest deadline: each change of the driver may cut off
            # the reads in flight.
            some = islice(self._idle_waiters, MAX_CANDIDATES)
            max(some, key=lambda waiter: waiter.deadline).wake()
        else:
            self._failures.reset()

    def _next_step(
        self, driver: Waiter, reads: ShieldedGroup
    ) -> Awaitable[None] | None:
        """Do what is due; return what to await next, or `None` to call this again.

        The caller checks after each step whether the driver has become ready.
        """
        now = anyio.current_time()
        self._expire_deadlines(driver, now)
        if driver.ready:
            return None
        self._watch_list.follow_inflight(now)
        look = self._next_read_at(now)
        if look <= now:
            self._reader.start(driver, reads)
            return None
        # Reads go first: with a slow store a sync would always be due.
        sync = inf if self._shared_polling is None else self._shared_polling.next_sync
        if self._shared_polling is not None and sync <= now:
            return self._shared_polling.sync()
        return self._sleep(driver, min(look, self._watch_list.next_deadline(), sync))

    def _next_read_at(self, now: float) -> float:
        """When the next read may be sent; `inf` if something else has to happen first.

        The latest of: when a track is due, when the pacer has a slot, and when the
        reads in flight leave room for another.
        """
        last = self._watch_list.has_pending_last_look
        if not (last or self.may_read(now)):
            return inf
        free = self._reads.next_allowed_at(now, is_last_look=last)
        if free == inf:
            return inf
        look = self._watch_list.next_look()
        if look <= now:
            # `next_look` may be too early, for a track that is not watched any more.
            self._watch_list.due(now)
            look = self._watch_list.next_look()
        slot = self._pacer.next_slot(urgent=look == -inf, last_look=last)
        return max(look, slot, free)

    def may_read(self, now: float, track: Watched | None = None) -> bool:
        """Whether this process reads, or leaves it to the one that leads."""
        return self._shared_polling is None or self._shared_polling.may_read(now, track)

    def _sleep(self, driver: Waiter, moment: float) -> Awaitable[None]:
        self._sleeping_until = moment
        return driver.wait_until(moment)

    def _wake_driver_before(self, moment: float) -> None:
        """Wake the driver if it would sleep past this moment."""
        if moment < self._sleeping_until:
            self.wake_driver()

    def wake_driver(self) -> None:
        """Wake the driver, if there is one; if it is not asleep, that does no harm."""
        if self._driver is not None:
            self._driver.wake()

    def _expire_deadlines(self, driver: Waiter, now: float) -> None:
        if self._watch_list.next_deadline() > now:
            return
        # A last look is only granted if a permit and a slot are there: else the wait
        # would end late and still without a state. The limiter reads the clock itself,
        # so compare with a fresh time, not with `now`.
        permit = driver.pipeline.limiter.earliest(ANY_READ.route)
        has_one = permit <= anyio.current_time() + OVERTIME
        slot = self._pacer.next_slot(urgent=True, last_look=True)
        self._watch_list.expire_deadlines(
            now,
            can_look=lambda watcher: has_one and slot <= now + watcher.overtime,
            pending_since=self._reads.pending_since,
        )

    def no_update_reason(self, watcher: Watcher) -> tuple[str, float | None]:
        """Why a watcher has no newer state of its track, as far as is known.

        Returns:
            The reason, and in how many seconds a read is possible, if that is known.
        """
        now = anyio.current_time()
        track = self._watch_list.get(watcher.track_id)
        if track is not None and track.absence is not None:
            return "the service says that there is no such track (404)", None
        if watcher.pending_since < inf:
            waited = now - watcher.pending_since
            return f"a read of it has had no response for {waited:.1f} s", None
        pause = watcher.pipeline.limiter.earliest(ANY_READ.route) - now
        if pause > OVERTIME:
            return f"the rate limit allows the next read in {pause:.0f} s", pause
        failure = self._failures.last or (track and track.failure)
        if failure:
            return f"the last read failed: {failure}", None
        return "other tracks were read first", None


def _closed(waiter: Waiter) -> ClientClosedError:
    return ClientClosedError(
        "the client was closed while this call waited; the track continues at"
        " the service: wait for it by its id with a new AsyncClient",
        generation_id=waiter.track_id if isinstance(waiter, Watcher) else None,
    )
