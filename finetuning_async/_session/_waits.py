"""Waits: for a track's end, for its states, for a slot in the service's queue.

They put the account's poll loop (`Poller`), its register of tracks in progress
(`InFlight`) and the caller's call together; those two know nothing of each other's
waits.
"""

from __future__ import annotations

import copy
import inspect
from contextlib import contextmanager, nullcontext
from math import inf
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio

from finetuning_async._api import check_callback, check_timeout, validation
from finetuning_async._errors import (
    FinetuningError,
    InvalidRequestError,
    WaitTimeoutError,
)
from finetuning_async._pacing import HIGH, QueueSlot
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

STUCK_AFTER: Final = 300.0
"""Seconds of processing after which the service's page "Errors" speaks of a failure
that was not recorded."""


class Waits:
    """The waits of one client.

    Args:
        pipeline: How this client reads.
        inflight: The account's tracks in progress.
        poller: The account's poll loop.
    """

    def __init__(self, pipeline: Pipeline, inflight: InFlight, poller: Poller) -> None:
        self._gates = QueueGates(inflight, poller)
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
        # Not built on `states`: with thousands of waiters each frame counts.
        with self._register(track, timeout) as wait:
            del track  # the watcher keeps its latest state; the first may be freed
            while True:
                state = wait.next_state()
                if state is None:
                    await self._poller.wait(wait.watcher)
                    continue
                if on_update is not None:
                    result = on_update(state)
                    if inspect.isawaitable(result):
                        await result
                if state.is_final:
                    return state

    async def states(
        self, track: Generation | SoundEffect | str, *, timeout: float | None
    ) -> AsyncGenerator[AnyTrack]:
        """The states as they change, the final one last; see `AsyncClient.watch`."""
        with self._register(track, timeout) as wait:
            while wait.last_status not in FINAL_STATUSES:
                state = wait.next_state()
                if state is None:
                    # Only here may this waiter drive the poll loop. While it is
                    # suspended at the `yield`, another one drives: its consumer may
                    # never come back (P3).
                    await self._poller.wait(wait.watcher)
                else:
                    yield state

    def _register(
        self, track: Generation | SoundEffect | str, timeout: float | None
    ) -> RegisteredWait:
        track_id, latest, kind = _identify(track)
        longest = inf if timeout is None else check_timeout(timeout)
        watcher = Watcher(
            self._pipeline,
            track_id,
            latest,
            deadline=anyio.current_time() + longest,
            # A read in flight at the deadline may still finish. `timeout=0` asks for
            # one look, so that read has all the time that a request may take.
            overtime=OVERTIME if longest else self._pipeline.transport.max_read_time,
        )
        return RegisteredWait(self._poller, watcher, kind, longest)

    def queue_gate(self, submission: Submission) -> AccountQueueGate:
        """Return the service's queue as a create meets it in the line of its permit."""
        return AccountQueueGate(self._gates, self._pipeline, submission)

    async def for_queue_slot(self, submission: Submission) -> None:
        """Wait until the service's queue accepts one more track, and take that slot.

        For permits that come from a limiter of the caller's, or are reads. A create
        that waits here watches every track of ours, waited for or not, and drives the
        poll loop like any other waiter. Cancelled here, it leaves the line.
        """
        waiter = Waiter(self._pipeline)
        slot = QueueSlot(
            waiter.make_ready,
            rank=submission.rank,
            share=submission.share,
            # One that was already refused with QUEUE_FULL goes before new ones.
            first=submission.attempts > 0,
        )
        self._inflight.request_slot(slot)
        if self._inflight.slot_opens_at(slot) == -inf:  # the queue is not full
            self._inflight.take_slot(slot)
            return
        try:
            with self._watching_all(waiter):
                await self._until_open(waiter, slot)
        except BaseException:
            # Also when cancelled: a dead slot at the head would block all behind it.
            self._inflight.cancel_slot(slot)
            raise

    async def _until_open(self, waiter: Waiter, slot: QueueSlot) -> None:
        while True:
            # Reset before the look: what happens after it must wake this waiter again.
            waiter.ready = False
            opens = self._inflight.slot_opens_at(slot)
            if opens <= anyio.current_time():
                self._inflight.take_slot(slot)
                return
            self._poller.set_deadline(waiter, opens)
            await self._poller.wait(waiter)
            if waiter.error is not None:
                raise copy.copy(waiter.error)

    @contextmanager
    def _watching_all(self, waiter: Waiter) -> Generator[None]:
        self._poller.watch_all()
        try:
            yield
        finally:
            self._poller.cancel_deadline(waiter)
            self._poller.unwatch_all()


class QueueGates:
    """The service's queue, as all creates of one client meet it.

    Args:
        inflight: The account's tracks in progress.
        poller: The account's poll loop.

    Attributes:
        waiting: How many creates may still look.
    """

    def __init__(self, inflight: InFlight, poller: Poller) -> None:
        self.inflight = inflight
        self.poller = poller
        self.waiting = 0
        self._is_watching = False

    def watch(self) -> None:
        """Watch every track of ours, for its end makes room."""
        if not self._is_watching:
            self._is_watching = True
            self.poller.watch_all()

    def unwatch_if_idle(self) -> None:
        """Stop watching once no create waits any more.

        The creates come here one after another, each when it is first in the line of
        the permits. What the poll loop has learned of the tracks must not be lost
        between one that leaves and the next that comes.
        """
        if self._is_watching and not self.waiting:
            self._is_watching = False
            self.poller.unwatch_all()


class AccountQueueGate:
    """The service's queue, as one create meets it; see `QueueGate`.

    Args:
        gates: Those of the client.
        pipeline: How this client reads.
        submission: The create.

    Attributes:
        waited: Seconds for which it waited for nothing but room.
    """

    def __init__(
        self, gates: QueueGates, pipeline: Pipeline, submission: Submission
    ) -> None:
        self._gates = gates
        self._pipeline = pipeline
        self._submission = submission
        self._waiter: Waiter | None = None  # most creates never need one
        self._is_closed = False
        self.waited: float = 0.0
        gates.waiting += 1

    def opens_at(self) -> float:
        """When the queue takes one more; see `InFlight.room_at`."""
        return self._gates.inflight.room_at()

    def take(self) -> None:
        """Take a slot: the create goes out."""
        self._gates.inflight.take_room()
        self._submission.holds_queue_slot = True
        self.close()

    def close(self) -> None:
        """The create has its slot, or needs none any more; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._gates.waiting -= 1
            self._gates.unwatch_if_idle()

    async def wait(self, until: float) -> None:
        """Watch the tracks in progress until there may be room, or until a time.

        Like any other waiter it may be asked to drive the poll loop.

        Raises:
            FinetuningError: The poll loop failed for good, or the client was closed.
        """
        waiter = self._waiter = self._waiter or Waiter(self._pipeline)
        poller = self._gates.poller
        waiter.ready = False
        self._gates.watch()
        # A person who waits for nothing but a track's end should not wait for a look.
        is_high = self._submission.rank == HIGH
        is_parked = is_high and self.opens_at() > anyio.current_time()
        hurry = poller.hurry() if is_parked else nullcontext()
        with self._gates.inflight.parked(waiter.make_ready), hurry:
            try:
                poller.set_deadline(waiter, until)
                await poller.wait(waiter)
            finally:
                poller.cancel_deadline(waiter)
        if waiter.error is not None:
            raise copy.copy(waiter.error)

    def wake(self) -> None:
        """End `wait`."""
        if self._waiter is not None:
            self._waiter.make_ready()


class RegisteredWait:
    """One wait for one track, registered with the poll loop while its block runs.

    Args:
        poller: The account's poll loop.
        watcher: The waiter, with the state that the caller brought, if any.
        kind: The track's kind.
        longest: Seconds; for the message of the timeout.

    Attributes:
        last_status: The last status that the caller got, or already knew.
    """

    __slots__ = ("_kind", "_longest", "_poller", "last_status", "watcher")

    def __init__(
        self, poller: Poller, watcher: Watcher, kind: Kind, longest: float
    ) -> None:
        self._poller = poller
        self._kind = kind
        self._longest = longest
        self.watcher = watcher
        latest = watcher.latest
        # A state that the caller brought is not reported again, unless it is final:
        # then it is the result.
        self.last_status = None if latest is None or latest.is_final else latest.status

    def __enter__(self) -> Self:
        latest = self.watcher.latest
        if latest is None or not latest.is_final:  # a final state needs no read
            self._poller.watch(self.watcher, self._kind)
        return self

    def __exit__(self, *error: object) -> None:
        self._poller.unwatch(self.watcher)

    def next_state(self) -> AnyTrack | None:
        """The latest state, if its status is new to the caller; `None` if it is not.

        A state that came before an error or the deadline is returned first.

        Raises:
            WaitTimeoutError: The deadline passed.
            FinetuningError: An error ended the wait.
        """
        watcher = self.watcher
        watcher.ready = False
        latest = watcher.latest
        if latest is not None and latest.status != self.last_status:
            self.last_status = latest.status
            return latest
        if watcher.error is not None:
            raise _for_track(watcher.error, watcher.track_id)
        if watcher.timed_out:
            raise self._timeout_error()
        return None

    def _timeout_error(self) -> WaitTimeoutError:
        known, pause = self._describe()
        error = WaitTimeoutError(
            f"{self.watcher.track_id} {known} has been charged: wait for it again"
            " by its id. Creating it again costs another credit, unless that was done"
            f" with an idempotency key.{self._advice()}",
            generation_id=self.watcher.track_id,
            generation=self.watcher.latest,
            safe_to_retry=True,
        )
        error.retry_after = pause
        return error

    def _describe(self) -> tuple[str, float | None]:
        """What is known of the track, and in how many seconds it can be read again.

        There are three cases, and only the first may say that it is still in progress:
        it was read at the deadline or later; it was never read; it was read some time
        before, and something has prevented reads since then.
        """
        watcher, within = self.watcher, f"within {self._longest:.1f} s"
        latest, seen_at = watcher.latest, watcher.seen_at
        if latest is not None and seen_at >= watcher.deadline:
            return (
                f"is still in progress: it did not end {within}; its last status is"
                f" {latest.status!r}. It"
            ), None
        why, pause = self._poller.no_update_reason(watcher)
        if latest is None or seen_at == -inf:
            return f"could not be read {within}: {why}. If it exists, it", pause
        ago = anyio.current_time() - seen_at
        return (
            f"was not seen to end {within}: it was {latest.status!r} {ago:.1f} s ago,"
            f" and since then {why}. It"
        ), pause

    def _advice(self) -> str:
        latest = self.watcher.latest
        age = self._poller.age(self.watcher.track_id) or 0.0
        is_stuck = max(self._longest, age) >= STUCK_AFTER
        if latest is None or latest.status != "processing" or not is_stuck:
            return ""
        return (
            " More than 5 minutes in processing may be a failure that the service did"
            " not record: contact its support, as its documentation says."
        )


def _for_track(error: Exception, track_id: str) -> Exception:
    """A copy of an error that ended many waits, for the waiter of one track."""
    copied = copy.copy(error)
    if isinstance(copied, FinetuningError):
        copied.generation_id = track_id
    return copied


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
        return track, None, "music"  # a guess; the first read shows what it is
    return track.id, track, cast("Kind", track.kind)
