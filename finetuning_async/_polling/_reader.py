"""One read of the poll loop: permit, choice, request, dispatch.

A read runs in a child task of the driver. It chooses what to read only once it has its
permit, since the wait for that may take a while and another track may be due by then.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from finetuning_async._api import Call
from finetuning_async._errors import (
    AuthenticationError,
    ClientClosedError,
    FinetuningError,
    PermissionDeniedError,
)
from finetuning_async._http import NoResponse, RetryableFailure
from finetuning_async._polling._failure_tracker import is_refusal, is_unclear
from finetuning_async._polling._read_planner import Read, choose
from finetuning_async._polling._reads_in_flight import ReadInFlight
from finetuning_async._runtime import ShieldedCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from finetuning_async._http import ClientPool
    from finetuning_async._polling._dispatch import StateDispatcher
    from finetuning_async._polling._failure_tracker import FailureTracker
    from finetuning_async._polling._listing_health import ListingHealth
    from finetuning_async._polling._reads_in_flight import ReadsInFlight
    from finetuning_async._polling._schedule import ReadPacer
    from finetuning_async._polling._waiters import Waiter
    from finetuning_async._polling._watch_list import Watched, WatchList
    from finetuning_async._runtime import ShieldedGroup

READ_GRACE: Final = 2.0
"""Seconds that a read on the wire gets once its driver has to leave."""

ANY_READ: Final = Call(method="GET", path="/v1/generations")
"""Takes the permit of a read that is not chosen yet."""


class PollLoop(Protocol):
    """What a read needs of the poll loop that sends it."""

    def may_read(self, now: float, track: Watched | None = None) -> bool:
        """Whether this process reads, or leaves it to another one."""

    def wake_driver(self) -> None:
        """Wake the driver, whatever it waits for."""

    def fail_waiters(self, error: Callable[[Waiter], FinetuningError]) -> None:
        """End all waits with an error."""

    def close(self, pool: ClientPool) -> None:
        """End the waits of a client that was closed."""


class Reader:
    """Sends the reads of one poll loop.

    Args:
        loop: The poll loop.
        watch_list: The watched tracks.
        listings: Which lists can be used.
        dispatcher: Takes what is read.
        pacer: Spaces the reads.
        failures: Counts reads that fail in a row.
        reads: The reads in flight.
    """

    def __init__(
        self,
        loop: PollLoop,
        *,
        watch_list: WatchList,
        listings: ListingHealth,
        dispatcher: StateDispatcher,
        pacer: ReadPacer,
        failures: FailureTracker,
        reads: ReadsInFlight,
    ) -> None:
        self._loop = loop
        self._watch_list = watch_list
        self._listings = listings
        self._dispatcher = dispatcher
        self._pacer = pacer
        self._failures = failures
        self._reads = reads
        self._last_success_at = -inf

    def start(self, driver: Waiter, group: ShieldedGroup) -> None:
        """Start a read in a child task of the driver."""
        in_flight = ReadInFlight(driver)
        in_flight.shielded_call = ShieldedCall(
            partial(self._run, in_flight), grace=READ_GRACE, wakeup=driver
        )
        self._reads.add(in_flight)
        group.start(in_flight.shielded_call)

    async def _run(self, in_flight: ReadInFlight, shielded: ShieldedCall[None]) -> None:
        """Take a permit, then read what is due at that moment. Runs in a child task."""
        pipeline = in_flight.reader.pipeline
        try:
            permit = await pipeline.acquire_permit(ANY_READ)
            try:
                await shielded.checkpoint()
                read = self._choose_read(in_flight)
            finally:
                if in_flight.read is None:
                    permit.unsent()
            if read is not None:
                with shielded.shielded():
                    response = await pipeline.send(read.call, permit)
                    pipeline.raise_for_status(read.call, response)
                    self._dispatcher.dispatch(read, response)
                    self._last_success_at = anyio.current_time()
                    self._failures.on_success(self._last_success_at)
                    await pipeline.limiter.flush()
        except (NoResponse, RetryableFailure, FinetuningError) as failure:
            self._on_failure(in_flight, failure)
        finally:
            self.forget(in_flight)
            self._loop.wake_driver()

    def forget(self, in_flight: ReadInFlight) -> None:
        """Forget a read that got a response, failed or was abandoned."""
        self._reads.discard(in_flight)

    def _choose_read(self, in_flight: ReadInFlight) -> Read | None:
        """Choose what to read, and schedule the next look at what it covers.

        The choice is made with the permit held: while it was awaited, tracks may have
        become due, ended or been abandoned.
        """
        now = anyio.current_time()
        limit = in_flight.reader.pipeline.limiter.status().reads.limit
        if limit is not None:  # the service may allow fewer than was configured
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
            if not read.is_filtered:  # a list of completed tracks shows no other state
                track.looked_at = now
            # Whatever comes of this read, not again at once.
            self._watch_list.schedule_look(track, now + self._pacer.pause)
        return read

    def _report_hanging(self, now: float) -> None:
        """Report reads that hang: of one list, or all alike."""
        for in_flight in self._reads.hanging(now):
            if in_flight.read is not None and in_flight.read.offset is not None:
                self._listings.page_unanswered(
                    in_flight.read.listing, in_flight.sent_at, now
                )
            else:
                self._listings.other_read_failed(in_flight.sent_at)

    def _due_here(self, now: float) -> list[Watched]:
        """The due tracks that this process reads; others are left to the leader."""
        due = []
        for track in self._watch_list.due(now, soon=self._pacer.interval):
            if self._loop.may_read(now, track) or self._watch_list.is_last_look(track):
                due.append(track)
            else:
                self._watch_list.schedule_look(track, now + self._pacer.interval)
        return due

    # A read that failed.

    def _on_failure(
        self,
        in_flight: ReadInFlight,
        failure: NoResponse | RetryableFailure | FinetuningError,
    ) -> None:
        """Handle a failure: of the client, of the account, of one read, or passing."""
        now, read = anyio.current_time(), in_flight.read
        error = failure.error if isinstance(failure, RetryableFailure) else failure
        cannot_work = False
        if isinstance(error, NoResponse):
            cannot_work = error.is_permanent and self._last_success_at == -inf
            error = error.as_error(ANY_READ if read is None else read.call)
        if isinstance(error, ClientClosedError):
            self._loop.close(in_flight.reader.pipeline.transport.pool)
        elif read is not None and _is_final(read, error):
            self._on_refusal(read, error, in_flight.sent_at)
        else:
            # If a read that was sent later has worked since, this failure is over.
            if in_flight.sent_at >= self._last_success_at:
                self._pacer.use_slots(now, self._failures.on_failure(now, error))
            if read is not None:
                self._dispatcher.read_failed(read, error, in_flight.sent_at)
            if cannot_work or self._failures.persists(now):
                self._loop.fail_waiters(lambda _: error)

    def _on_refusal(self, read: Read, error: FinetuningError, sent_at: float) -> None:
        """Handle a refusal of the service: of the account, or of what was read."""
        ends_all = isinstance(error, AuthenticationError | PermissionDeniedError)
        if ends_all and not read.is_guess:
            self._loop.fail_waiters(lambda _: error)
            return
        self._failures.on_success(anyio.current_time())
        self._dispatcher.read_refused(read, error, sent_at)


def _is_final(read: Read, error: FinetuningError) -> bool:
    """Whether a read is not repeated; a guess is not worth a repetition anyway."""
    return is_refusal(error) or (read.is_guess and is_unclear(error))
