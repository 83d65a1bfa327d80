"""What waits: for a track's end, for its states, for a place in the service's queue.

Composes the poll loop, the register and the submitter; each of them knows nothing of
the others.
"""

from __future__ import annotations

import copy
import inspect
import logging
from contextlib import aclosing, contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from finetuning_async._errors import InvalidRequestError, WaitTimeoutError
from finetuning_async._inflight import Ticket
from finetuning_async._types import FINAL_STATUSES
from finetuning_async._watch_list import Waiter, Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from finetuning_async._inflight import InFlight
    from finetuning_async._models import Generation, SoundEffect
    from finetuning_async._order import Order
    from finetuning_async._pipeline import Pipeline
    from finetuning_async._poller import Poller
    from finetuning_async._types import Kind, UpdateCallback
    from finetuning_async._watch_list import AnyTrack

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
        final: Any = None
        async with aclosing(self.states(track, timeout=timeout)) as states:
            async for final in states:
                if on_update is not None:
                    told = on_update(final)
                    if inspect.isawaitable(told):
                        await told
        return final

    async def states(
        self, track: Generation | SoundEffect | str, *, timeout: float | None
    ) -> AsyncGenerator[AnyTrack]:
        """The states as they change, the final one last; see `AsyncClient.watch`."""
        track_id, latest, kind = _identify(track)
        if latest is not None and latest.is_final:
            yield latest
            return
        longest = inf if timeout is None else check_timeout(timeout)
        deadline = anyio.current_time() + longest
        watcher = Watcher(self._pipeline, track_id, latest, deadline=deadline)
        self._poller.watch(watcher, kind)
        told = None if latest is None else latest.status
        try:
            while told not in FINAL_STATUSES:
                state = await self._next(watcher, told, longest)
                told = state.status
                yield state
        finally:
            self._poller.unwatch(watcher)

    async def _next(
        self, watcher: Watcher, told: str | None, longest: float
    ) -> AnyTrack:
        """The next state that differs from the last one told.

        News that came before an error or the deadline go first.

        Raises:
            WaitTimeoutError: None came in time.
        """
        while True:
            watcher.ready = False
            latest = watcher.latest
            if latest is not None and latest.status != told:
                return latest
            if watcher.error is not None:
                raise copy.copy(watcher.error)
            if watcher.is_over:
                raise _time_over(watcher, longest)
            await self._poller.wait(watcher)

    async def for_a_place(self, order: Order) -> None:
        """Wait until the service's queue takes one more, and enter it.

        A create that waits here watches every track of ours, waited for or not, and
        drives the poll loop like anybody else. Cancelled here, it leaves the line.
        """
        waiter = Waiter(self._pipeline)
        ticket = Ticket(waiter.make_ready)
        self._inflight.stand_in_line(ticket, first=order.attempts > 0)
        if self._inflight.opens(ticket) == -inf:
            self._inflight.enter(ticket)
            return
        try:
            with self._watching_all(waiter):
                await self._until_open(waiter, ticket)
        except BaseException:
            self._inflight.leave_line(ticket)
            raise

    async def _until_open(self, waiter: Waiter, ticket: Ticket) -> None:
        while True:
            waiter.ready = False
            opens = self._inflight.opens(ticket)
            if opens <= anyio.current_time():
                self._inflight.enter(ticket)
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


def check_timeout(timeout: float, name: str = "timeout") -> float:
    """Check a number of seconds.

    Raises:
        InvalidRequestError: It is negative, NaN, or no number.
    """
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if is_number and timeout >= 0:
        return float(timeout)
    raise InvalidRequestError(
        name, timeout, "seconds, at least 0, or None for no limit"
    )


def _identify(
    track: Generation | SoundEffect | str,
) -> tuple[str, AnyTrack | None, Kind]:
    if isinstance(track, str):
        if not track.strip(". \t\r\n"):
            raise InvalidRequestError("generation_or_id", track, "the id of a track")
        return track, None, "music"
    return track.id, track, cast("Kind", track.kind)


def _time_over(watcher: Watcher, waited: float) -> WaitTimeoutError:
    latest = watcher.latest
    status = "not seen" if latest is None else latest.status
    advice = (
        " More than 5 minutes in processing may be a failure that the service did not"
        " record; its advice is to contact support."
        if status == "processing" and waited >= STUCK_AFTER
        else ""
    )
    return WaitTimeoutError(
        f"{watcher.track_id} did not end within {waited:g} s; its last status is"
        f" {status!r}. It goes on and stays paid: wait again by its id, do not create"
        f" it again.{advice}",
        generation_id=watcher.track_id,
        generation=latest,
        safe_to_retry=True,
    )
