"""One poll loop for every waiter of an account.

There is no background task. Those who wait register; one of them holds *the wheel*: it
sleeps until something is due, reads, and gives every waiter its news. When it leaves,
whether served or cancelled, it hands the wheel to another. With the last waiter the
loop is gone.

The wheel is held only inside `Poller.wait`, so never while a caller's code runs. A read
is made in a child task of the driver: it survives the driver's cancellation, and what
it says reaches the others.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

from finetuning_async._errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    FinetuningError,
    NotFoundError,
    PermissionDeniedError,
)
from finetuning_async._poll_schedule import Outlook, Pace
from finetuning_async._shield import Guarded
from finetuning_async._sweep import Sweep
from finetuning_async._watch_list import Waiter, Watcher, WatchList

if TYPE_CHECKING:
    from finetuning_async._inflight import InFlight
    from finetuning_async._server_clock import ServerClock
    from finetuning_async._transport import Pool
    from finetuning_async._types import Kind
    from finetuning_async._watch_list import AnyTrack, Family, Watched

logger = logging.getLogger("finetuning_async")

GRACE_FOR_404: Final = 10.0
"""Seconds after acceptance in which a 404 may only mean that the service lags."""

LONGEST_TROUBLE_PAUSE: Final = 8
"""Turns between reads while they fail, at most."""


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
        self._inflight = inflight
        self._clock = clock
        self._pace = Pace(limit=limit, per=per)
        self._outlook = Outlook(scale=self._pace.scale)
        self._list = WatchList(inflight, self._outlook, scale=self._pace.scale)
        self._idle: dict[Waiter, None] = {}
        self._driver: Waiter | None = None
        self._bell: anyio.Event | None = None
        self._sleeping_until = inf
        self._failures = 0
        self._refused_lists: set[Family] = set()

    def __repr__(self) -> str:
        return (
            f"<Poller tracks={len(self._list)} waiters={len(self._idle)}"
            f" driven={self._driver is not None}>"
        )

    def watch(self, watcher: Watcher, kind: Kind) -> None:
        """Register somebody who waits for a track; end it with `unwatch`."""
        self._list.add(watcher, kind, anyio.current_time())
        self._ring_if_earlier()

    def unwatch(self, watcher: Watcher) -> None:
        """Take a watcher off the list."""
        self._list.discard(watcher)
        self._list.forget_alarm(watcher)

    def watch_all(self) -> None:
        """Watch every track of ours under way, until `unwatch_all`."""
        self._list.watch_all(anyio.current_time())
        self._ring_if_earlier()

    def unwatch_all(self, waiter: Waiter) -> None:
        """End `watch_all`."""
        self._list.release_all()
        self._list.forget_alarm(waiter)

    def notice(self, track_id: str) -> None:
        """Something happened to a track: look at the next turn, if it is watched."""
        track = self._list.get(track_id)
        if track is not None:
            track.next_look = -inf
            self._ring_if_earlier()

    def set_alarm(self, waiter: Waiter, at: float) -> None:
        """Make a waiter ready at a time of the loop's clock; the last one holds."""
        self._list.forget_alarm(waiter)
        waiter.deadline = at
        self._list.set_alarm(waiter)
        self._ring_if_earlier()

    def close(self, pool: Pool) -> None:
        """End the waits of a client that is closed."""
        waiters = {*self._list.watchers(), *self._idle}
        if self._driver is not None:
            waiters.add(self._driver)
        for waiter in waiters:
            if waiter.pipeline.transport.pool is pool:
                waiter.fail(_closed(waiter))

    async def wait(self, waiter: Waiter) -> None:
        """Return when there is something for a registered waiter; drive if nobody does.

        Cancelled here, the wheel goes to another waiter.
        """
        try:
            while not waiter.ready:
                if self._driver is None:
                    await self._drive(waiter)
                else:
                    await self._rest(waiter)
        finally:
            self._hand_on()

    async def _rest(self, waiter: Waiter) -> None:
        self._idle[waiter] = None
        try:
            await waiter.woken()
        finally:
            del self._idle[waiter]

    def _hand_on(self) -> None:
        if self._driver is None and self._idle:
            next(iter(self._idle)).wake()

    async def _drive(self, driver: Waiter) -> None:
        self._driver = driver
        try:
            while not driver.ready:
                await self._step(driver)
        finally:
            self._driver = None

    async def _step(self, driver: Waiter) -> None:
        now = anyio.current_time()
        self._list.ring(now)
        if driver.ready:
            return
        self._list.follow_inflight(now)
        look = max(self._list.next_look(), self._pace.next_turn())
        if look <= now:
            await self._look(driver)
        else:
            await self._sleep_until(min(look, self._list.next_alarm()))

    async def _sleep_until(self, moment: float) -> None:
        self._bell = anyio.Event()
        self._sleeping_until = moment
        try:
            with anyio.move_on_at(moment):
                await self._bell.wait()
        finally:
            self._bell = None
            self._sleeping_until = inf

    def _ring_if_earlier(self) -> None:
        """Wake a driver that would sleep over what has just been registered."""
        if self._bell is None:
            return
        look = max(self._list.next_look(), self._pace.next_turn())
        if min(look, self._list.next_alarm()) < self._sleeping_until:
            self._bell.set()

    async def _look(self, driver: Waiter) -> None:
        guarded = Guarded(lambda guarded: self._sweep(driver, guarded))
        await guarded.run(meanwhile=lambda: self._keep_time(driver, guarded))

    async def _keep_time(self, driver: Waiter, reading: Guarded[None]) -> None:
        """Ring alarms while a read is under way, however long it takes."""
        while not reading.done.is_set():
            with anyio.move_on_at(self._list.next_alarm()):
                await reading.done.wait()
            self._list.ring(anyio.current_time())
            if driver.ready:
                reading.hurry()
                await reading.done.wait()

    async def _sweep(self, driver: Waiter, guarded: Guarded[None]) -> None:
        started = anyio.current_time()
        sweep = Sweep(driver.pipeline, guarded, seen=self._seen, gone=self._gone)
        due = self._list.due(started)
        for track in due:  # whatever happens below, not again at once
            track.next_look = started + self._pace.interval
        try:
            for family in ("generations", "sound_effects"):
                tracks = [track for track in due if track.family == family]
                if tracks:
                    await self._look_at(sweep, tracks)
        finally:
            self._settle(sweep, started)

    async def _look_at(self, sweep: Sweep, tracks: list[Watched]) -> None:
        family = tracks[0].family
        try:
            await sweep.look_at(tracks, lists_work=family not in self._refused_lists)
        except BadRequestError as error:
            logger.warning("the list of %s cannot be used to poll: %s", family, error)
            self._refused_lists.add(family)
        except (AuthenticationError, PermissionDeniedError, ClientClosedError) as error:
            self._end_all(error)

    def _settle(self, sweep: Sweep, started: float) -> None:
        self._failures = 0 if sweep.trouble is None else self._failures + 1
        pauses = min(2**self._failures - 1, LONGEST_TROUBLE_PAUSE)
        self._pace.spent(started, sweep.reads + pauses)

    def _seen(self, track: AnyTrack) -> None:
        """Give a state to everybody who waits for it."""
        watched = self._list.get(track.id)
        if track.is_final:
            self._inflight.ended(track.id)
        if watched is None:
            return
        now = anyio.current_time()
        watched.latest = track
        watched.missing_since = None
        for watcher in list(watched.watchers):
            watcher.update(track)
        if track.is_final:
            self._learn(watched, track, now)
            self._list.drop(track.id)
        else:
            self._date(watched, track, now)
            self._list.plan(watched, now, turn=self._pace.interval)

    def _learn(self, watched: Watched, track: AnyTrack, now: float) -> None:
        if watched.accepted_at is not None and track.status == "completed":
            self._outlook.learn(
                watched.kind,
                watched.duration,
                rendering=getattr(track, "generation_time", None),
                total=now - watched.accepted_at,
            )

    def _date(self, watched: Watched, track: AnyTrack, now: float) -> None:
        """Learn the age of a track that somebody else created."""
        if watched.accepted_at is None and track.created_at is not None:
            server_now = self._clock.not_before(now)
            if server_now is not None:
                age = (server_now - track.created_at).total_seconds()
                watched.accepted_at = now - max(age, 0.0)

    def _gone(self, track_id: str, error: NotFoundError) -> None:
        """A 404: straight after the create the service may lag; else it is the end."""
        watched = self._list.get(track_id)
        if watched is None:
            return
        now = anyio.current_time()
        accepted_at = watched.accepted_at
        grace = GRACE_FOR_404 * self._pace.scale
        if accepted_at is not None and now < accepted_at + grace:
            return
        self._inflight.ended(track_id)
        for watcher in self._list.drop(track_id):
            watcher.fail(error)

    def _end_all(self, error: FinetuningError) -> None:
        for waiter in {*self._list.watchers(), *self._idle}:
            waiter.fail(error)
        if self._driver is not None:
            self._driver.fail(error)


def _closed(waiter: Waiter) -> ClientClosedError:
    track_id = waiter.track_id if isinstance(waiter, Watcher) else None
    return ClientClosedError(
        "the client was closed while this call waited; a track under way goes on and"
        " can be waited for again by its id",
        generation_id=track_id,
    )
