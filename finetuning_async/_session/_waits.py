"""What waits: for a track's end, for its states, for a place in the service's queue.

Composes the poll loop, the register and the submitter; each of them knows nothing of
the others.
"""

from __future__ import annotations

import copy
import inspect
import logging
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio

from finetuning_async._api import check_callback, check_timeout, validation
from finetuning_async._errors import (
    FinetuningError,
    InvalidRequestError,
    WaitTimeoutError,
)
from finetuning_async._pacing import QueueSlot
from finetuning_async._polling import OVERTIME, Waiter, Watcher
from finetuning_async._types import FINAL_STATUSES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight
    from finetuning_async._polling import AnyTrack, Poller
    from finetuning_async._submission import Submission
    from finetuning_async._types import Kind, UpdateCallback

logger = logging.getLogger("finetuning_async")

STUCK_AFTER: Final = 300.0
"""Seconds of processing after which the service itself speaks of a failure that was not
recorded (its page "Errors")."""


class Waiting:
    """The waits of one client.

    Args:
        pipeline: How this client reads.
        inflight: The account's register.
        poller: The account's poll loop.
    """

    def __init__(self, pipeline: Pipeline, inflight: InFlight, poller: Poller) -> None:
        self._pipeline = pipeline
        self._inflight = inflight
        self._poller = poller

    async def for_completion(
        self,
        track: Generation | SoundEffect | str,
        *,
        timeout: float | None,
        on_update: UpdateCallback | None,
    ) -> Any:
        """Wait for a track's final state; see `AsyncClient.wait_for_completion`."""
        check_callback(on_update, "on_update")
        # Not by `states`: with thousands of waiters each frame counts.
        with self._watch(track, timeout) as watch:
            del track  # its newest state is the watcher's to keep
            while True:
                state = watch.news()
                if state is None:
                    await self._poller.wait(watch.watcher)
                    continue
                if on_update is not None:
                    told = on_update(state)
                    if inspect.isawaitable(told):
                        await told
                if state.is_final:
                    return state

    async def states(
        self, track: Generation | SoundEffect | str, *, timeout: float | None
    ) -> AsyncGenerator[AnyTrack]:
        """The states as they change, the final one last; see `AsyncClient.watch`."""
        with self._watch(track, timeout) as watch:
            while watch.told not in FINAL_STATUSES:
                state = watch.news()
                if state is None:
                    await self._poller.wait(watch.watcher)
                else:
                    yield state

    def _watch(
        self, track: Generation | SoundEffect | str, timeout: float | None
    ) -> Watch:
        track_id, latest, kind = _identify(track)
        longest = inf if timeout is None else check_timeout(timeout)
        watcher = Watcher(
            self._pipeline,
            track_id,
            latest,
            deadline=anyio.current_time() + longest,
            overtime=OVERTIME if longest else self._pipeline.transport.max_read_time,
        )
        return Watch(self._poller, watcher, kind, longest)

    async def for_a_place(self, order: Submission) -> None:
        """Wait until the service's queue takes one more, and enter it.

        A create that waits here watches every track of ours, waited for or not, and
        drives the poll loop like anybody else. Cancelled here, it leaves the line.
        """
        waiter = Waiter(self._pipeline)
        ticket = QueueSlot(waiter.make_ready)
        self._inflight.request_slot(ticket, first=order.attempts > 0)
        if self._inflight.slot_opens_at(ticket) == -inf:
            self._inflight.take_slot(ticket)
            return
        try:
            with self._watching_all(waiter):
                await self._until_open(waiter, ticket)
        except BaseException:
            self._inflight.cancel_slot(ticket)
            raise

    async def _until_open(self, waiter: Waiter, ticket: QueueSlot) -> None:
        while True:
            waiter.ready = False
            opens = self._inflight.slot_opens_at(ticket)
            if opens <= anyio.current_time():
                self._inflight.take_slot(ticket)
                return
            self._poller.set_alarm(waiter, opens)
            await self._poller.wait(waiter)
            if waiter.error is not None:
                raise copy.copy(waiter.error)

    @contextmanager
    def _watching_all(self, waiter: Waiter) -> Generator[None]:
        self._poller.watch_all()
        try:
            yield
        finally:
            self._poller.unwatch_all(waiter)


class Watch:
    """One wait for one track, registered while its ``with`` block runs.

    Args:
        poller: The account's poll loop.
        watcher: Who waits; with the state that the caller brought, if any.
        kind: What it is.
        longest: Seconds; for the error that says that they are over.

    Attributes:
        told: The last status that was told, or that the caller knew.
    """

    __slots__ = ("_kind", "_longest", "_poller", "told", "watcher")

    def __init__(
        self, poller: Poller, watcher: Watcher, kind: Kind, longest: float
    ) -> None:
        self._poller = poller
        self._kind = kind
        self._longest = longest
        self.watcher = watcher
        latest = watcher.latest
        self.told = None if latest is None or latest.is_final else latest.status

    def __enter__(self) -> Self:
        latest = self.watcher.latest
        if latest is None or not latest.is_final:  # else there is nothing to ask
            self._poller.watch(self.watcher, self._kind)
        return self

    def __exit__(self, *error: object) -> None:
        self._poller.unwatch(self.watcher)

    def news(self) -> AnyTrack | None:
        """The next state that differs from the last one told; `None` if none came yet.

        News that came before an error or the deadline go first.

        Raises:
            WaitTimeoutError: None came in time.
            FinetuningError: The wait was ended by an error.
        """
        watcher = self.watcher
        watcher.ready = False
        latest = watcher.latest
        if latest is not None and latest.status != self.told:
            self.told = latest.status
            return latest
        if watcher.error is not None:
            raise _about(watcher.error, watcher.track_id)
        if watcher.is_over:
            raise self._time_over()
        return None

    def _time_over(self) -> WaitTimeoutError:
        known, pause = self._what_is_known()
        error = WaitTimeoutError(
            f"{self.watcher.track_id} {known} stays paid: wait again by its id, do not"
            f" create it again.{self._advice()}",
            generation_id=self.watcher.track_id,
            generation=self.watcher.latest,
            safe_to_retry=True,
        )
        error.retry_after = pause
        return error

    def _what_is_known(self) -> tuple[str, float | None]:
        """That it runs, that it ran a while ago, or that nobody could look.

        And in how many seconds somebody can, if that is known.
        """
        watcher, within = self.watcher, f"within {self._longest:g} s"
        latest, seen_at = watcher.latest, watcher.seen_at
        if latest is not None and seen_at >= watcher.deadline:
            return (
                f"still runs: it did not end {within}; its last status is"
                f" {latest.status!r}. It goes on and"
            ), None
        why, pause = self._poller.obstacle(watcher)
        if latest is None or seen_at == -inf:
            return f"could not be looked at {within}: {why}. If it is there, it", pause
        ago = anyio.current_time() - seen_at
        return (
            f"did not end {within}, as far as is known: it was {latest.status!r}"
            f" {ago:.1f} s ago, and since then {why}. It"
        ), pause

    def _advice(self) -> str:
        latest = self.watcher.latest
        age = self._poller.age(self.watcher.track_id) or 0.0
        is_stuck = max(self._longest, age) >= STUCK_AFTER
        if latest is None or latest.status != "processing" or not is_stuck:
            return ""
        return (
            " More than 5 minutes in processing may be a failure that the service did"
            " not record; its advice is to contact support."
        )


def _about(error: Exception, track_id: str) -> Exception:
    """What ended the waits of many, for the one who waits for a track."""
    mine = copy.copy(error)
    if isinstance(mine, FinetuningError):
        mine.generation_id = track_id
    return mine


def _identify(
    track: Generation | SoundEffect | str,
) -> tuple[str, AnyTrack | None, Kind]:
    track_id = track if isinstance(track, str) else getattr(track, "id", None)
    if not isinstance(track_id, str):
        raise InvalidRequestError("generation_or_id", track, "a track, or its id")
    problem = validation.identifier("generation_or_id", track_id)
    if problem is not None:
        raise problem
    if isinstance(track, str):
        return track, None, "music"
    return track.id, track, cast("Kind", track.kind)
