"""One poll loop for every waiter of an account.

There is no background task. Those who wait register; one of them holds *the wheel*: it
sleeps until something is due, has it read, and gives every waiter its news. When it
leaves, whether served or cancelled, it hands the wheel to another. With the last waiter
the loop is gone.

The wheel is held only inside `Poller.wait`, so never while a caller's code runs. A read
is made in a child task of the driver: it survives the driver's cancellation, and what
it says reaches the others. A driver that leaves in mid-read hands the wheel on at once,
so that deadlines are kept whatever a read does; the next read begins when that one has
ended.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, TypeGuard

import anyio

from finetuning_async._errors import (
    APIStatusError,
    AuthenticationError,
    ClientClosedError,
    FinetuningError,
    PermissionDeniedError,
)
from finetuning_async._evidence import NoAnswer
from finetuning_async._lists import Lists
from finetuning_async._news import News
from finetuning_async._next_read import Read, choose
from finetuning_async._poll_schedule import Outlook, Pace
from finetuning_async._poll_trouble import Trouble
from finetuning_async._retry import Repeatable
from finetuning_async._shield import Guarded
from finetuning_async._watch_list import Waiter, Watched, Watcher, WatchList
from finetuning_async._wire import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from finetuning_async._inflight import InFlight
    from finetuning_async._pipeline import Pipeline
    from finetuning_async._poll_sharing import Sharing
    from finetuning_async._poll_words import PollCoordinator
    from finetuning_async._server_clock import ServerClock
    from finetuning_async._transport import Pool
    from finetuning_async._types import Kind

GRACE_OF_A_READ: Final = 2.0
"""Seconds for which a read on the wire goes on once its driver has to leave."""

PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""The 4xx that say nothing about the track that was asked for."""

_ANY_READ: Final = Call(method="GET", path="/v1/generations")


class _Leaves(Exception):  # noqa: N818 - never leaves the poller
    """The driver is served while a read is under way."""


class Poller:
    """The poll loop of one account.

    Args:
        inflight: The register; tracks that end are taken out of it.
        clock: The service's, to learn when tracks of unknown age were accepted.
        limit: Reads allowed in `per` seconds.
        per: Seconds.
    """

    _reader: Waiter
    """Who reads, while a read is under way: `_read` and `_keep_time` begin with it, and
    so need no closure of each read."""

    def __init__(
        self, inflight: InFlight, clock: ServerClock, *, limit: int, per: float
    ) -> None:
        self._pace = Pace(limit=limit, per=per)
        scale, turn = self._pace.scale, self._pace.interval
        outlook = Outlook(scale=scale)
        self._list = WatchList(inflight, outlook, scale=scale)
        self._lists = Lists(scale=scale)
        self._news = News(
            self._list, self._lists, inflight, outlook, clock, scale=scale, turn=turn
        )
        self._idle: dict[Waiter, None] = {}
        self._driver: Waiter | None = None
        self._sleeping_until = -inf
        self._is_reading = False
        self._reading: Sequence[Watched] = ()
        self._trouble = Trouble(scale=scale)
        self._sharing: Sharing | None = None

    def __repr__(self) -> str:
        return (
            f"<Poller tracks={len(self._list)} waiters={len(self._idle)}"
            f" driven={self._driver is not None} reading={self._is_reading}"
            f" failures={self._trouble.failures}>"
        )

    def share(self, coordinator: PollCoordinator) -> None:
        """Read for other processes, or let one of them read for this one."""
        # Most clients share with nobody, and do without it.
        from finetuning_async._poll_sharing import Sharing

        self._sharing = Sharing(
            coordinator, self._list, self._news, scale=self._pace.scale
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
        self._list.drop_alarm(waiter)
        self._list.release_all()

    def notice(self, track_id: str) -> None:
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

    def close(self, pool: Pool) -> None:
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
                    await waiter.parked()  # no frame of our own, for thousands
                finally:
                    del self._idle[waiter]
        finally:
            self._hand_on()

    async def _drive(self, driver: Waiter) -> None:
        self._driver = driver
        try:
            while not driver.ready:
                step = self._step(driver)
                if step is not None:
                    await step
            if self._sharing is not None and not self._idle:
                await self._sharing.leave()
        finally:
            self._let_go(driver)

    def _let_go(self, driver: Waiter) -> None:
        """Leave the wheel; a driver that has left already does nothing here."""
        driver.drop_alarm()
        if self._driver is driver:
            self._driver = None
            self._hand_on()

    def _hand_on(self) -> None:
        if self._driver is not None:
            return
        if self._idle:
            next(iter(self._idle)).wake()
        else:
            self._trouble.rest()

    def _step(self, driver: Waiter) -> Awaitable[None] | None:
        """What to wait for next; `None` if the driver has to leave."""
        now = anyio.current_time()
        self._ring(driver, now)
        if driver.ready:
            return None
        self._list.follow_inflight(now)
        meeting = inf if self._sharing is None else self._sharing.next_meeting
        look = self._next_look(now)
        if self._sharing is not None and meeting <= now:
            return self._sharing.meet()
        if look <= now:
            return self._look(driver)
        return self._sleep(driver, min(look, self._list.next_alarm(), meeting))

    def _next_look(self, now: float) -> float:
        """When to read next: something is due, its turn has come, none is under way."""
        if self._is_reading or not self._may_read(now):
            return inf
        look = self._list.next_look()
        if look <= now:
            self._list.due(now)  # a track that was due may have left
            look = self._list.next_look()
        return max(look, self._pace.next_turn(urgent=look == -inf))

    def _may_read(self, now: float, track: Watched | None = None) -> bool:
        return self._sharing is None or self._sharing.may_read(now, track)

    def _sleep(self, driver: Waiter, moment: float) -> Awaitable[None]:
        self._sleeping_until = moment
        return driver.parked_until(moment)

    def _stir(self, moment: float) -> None:
        """Wake a driver that would sleep over what has just been registered.

        One that does not sleep is not harmed.
        """
        if self._driver is not None and moment < self._sleeping_until:
            self._driver.wake()

    def _ring(self, driver: Waiter, now: float) -> None:
        if self._list.next_alarm() <= now:
            limiter = driver.pipeline.limiter
            turn_comes = limiter.earliest(_ANY_READ.route) <= now
            may_look = turn_comes and not self._trouble.failures
            self._list.ring(now, may_look=may_look, reading=self._reading)

    # One read.

    async def _look(self, driver: Waiter) -> None:
        guarded = Guarded(self._read, grace=GRACE_OF_A_READ, place=driver)
        self._is_reading, self._reader = True, driver
        try:
            await guarded.run(self._keep_time)
        except _Leaves:
            pass
        finally:
            self._is_reading, self._reading = False, ()
            del self._reader
            if self._driver is not None:
                self._driver.wake()

    async def _keep_time(self, under_way: Guarded[None]) -> None:
        """Ring alarms while a read is under way, however long it takes.

        A driver that has to leave meanwhile hands the wheel on at once.
        """
        driver = self._reader
        try:
            while not under_way.is_done:
                self._ring(driver, anyio.current_time())
                if driver.ready:
                    break
                self._sleeping_until = alarm = self._list.next_alarm()
                await driver.parked_until(alarm)
        except BaseException:
            self._let_go(driver)
            raise
        if not under_way.is_done:  # it has to leave
            self._let_go(driver)
            raise _Leaves

    async def _read(self, guarded: Guarded[None]) -> None:
        """Take a turn, then read what is due at that moment. Runs in a child task."""
        read: Read | None = None
        driver = self._reader
        try:
            permit = await driver.pipeline.turn(_ANY_READ)
            try:
                await guarded.checkpoint()
                read = self._begin(driver.pipeline)
            finally:
                if read is None:
                    permit.unsent()
            if read is not None:
                with guarded.held():
                    answer = await driver.pipeline.send(read.call, permit)
                    driver.pipeline.check(read.call, answer)
                    self._news.take(read, answer)
                    self._trouble.over(anyio.current_time())
                    await driver.pipeline.limiter.flush()
        except (NoAnswer, Repeatable, FinetuningError) as failure:
            self._failed(driver.pipeline, read, failure)

    def _begin(self, pipeline: Pipeline) -> Read | None:
        """Choose what to read; whatever comes of it, not again at once."""
        now = anyio.current_time()
        limit = pipeline.limiter.status().reads.limit
        if limit is not None:  # the service may have named a lower one
            self._pace.keep_to(limit)
        due = []
        for track in self._list.due(now, soon=self._pace.interval):
            if self._may_read(now, track):
                due.append(track)
            else:
                self._list.look_at(track, now + self._pace.interval)
        if not due:
            return None
        read = choose(due, now=now, lists=self._lists)
        self._reading = read.tracks
        self._pace.spent(now)
        for track in read.tracks:
            track.is_urgent = False
            if not read.is_filtered:  # it may show no state of theirs
                track.looked_at = now
            self._list.look_at(track, now + self._pace.interval)
        return read

    # What became of it.

    def _failed(
        self, pipeline: Pipeline, read: Read | None, failure: Exception
    ) -> None:
        """Sort a failure: of the client, of the account, of one read, or passing."""
        now = anyio.current_time()
        error = failure.error if isinstance(failure, Repeatable) else failure
        if isinstance(error, ClientClosedError):
            self.close(pipeline.transport.pool)
        elif isinstance(error, AuthenticationError | PermissionDeniedError):
            self._end(lambda _: error)
        elif read is not None and _is_refusal(error):
            self._trouble.over(now)
            self._news.refused(read, error)
        else:
            self._pace.spent(now, self._trouble.failed(now, error))
            if read is not None:
                self._news.failed(read, error)


def _is_refusal(error: Exception) -> TypeGuard[APIStatusError]:
    """Whether asking again would be answered in the same way."""
    return (
        isinstance(error, APIStatusError)
        and error.status_code < 500
        and error.status_code not in PASSING_STATUSES
    )


def _closed(waiter: Waiter) -> ClientClosedError:
    return ClientClosedError(
        "the client was closed while this call waited; a track under way goes on and"
        " can be waited for again by its id",
        generation_id=waiter.track_id if isinstance(waiter, Watcher) else None,
    )
