"""What waits in the poll loop: one task each, which may be asked to drive it. No I/O.

Waiter     waits until it is made ready: by an event, an error or its deadline
  Watcher  waits for the states of one track
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from finetuning_async._runtime import Wakeup

if TYPE_CHECKING:
    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._http import Pipeline

    AnyTrack: TypeAlias = Generation | SoundEffect

NEVER: Final = -inf
"""One object for all: each ``-inf`` would be another float for every waiter."""

OVERTIME: Final = 1.0
"""Seconds that a wait goes on after its deadline for a read that is in flight then, or
begins then: its last look."""


class Waiter(Wakeup):
    """A task that waits, and that may be asked to drive the poll loop.

    Attributes:
        pipeline: How this waiter's client sends reads.
        deadline: When it wakes at the latest, on the loop's clock.
        timer_id: The number of its timer in the heap of deadlines; 0 if it has none.
        ready: Whether it has something to do: a new state, an error, its deadline.
        error: What ended the wait, if an error did.
    """

    __slots__ = ("deadline", "error", "pipeline", "ready", "timer_id")

    def __init__(self, pipeline: Pipeline, *, deadline: float = inf) -> None:
        super().__init__()
        self.pipeline: Pipeline = pipeline
        self.deadline: float = deadline
        self.timer_id: int = 0
        self.ready: bool = False
        self.error: Exception | None = None

    def make_ready(self) -> None:
        """Wake the task, for it has something to do."""
        self.ready = True
        self.wake()

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        self.error = error
        self.make_ready()


class Watcher(Waiter):
    """Waits for the states of one track.

    It holds one state, the newest. So a slow consumer misses states in between, but
    never the last one.

    Attributes:
        track_id: The track.
        latest: The last state read, or the one that the caller had.
        overtime: Seconds that it waits after its deadline for its last look.
        seen_at: When the read of the last state was sent, on the loop's clock.
        pending_since: When the oldest read of its track was sent that was in flight as
            the wait timed out, likewise; `inf` if there was none.
        in_overtime: Whether its deadline has passed and its last look is in flight.
        timed_out: Whether the wait ends now: deadline and overtime have passed.
    """

    __slots__ = (
        "in_overtime",
        "latest",
        "overtime",
        "pending_since",
        "seen_at",
        "timed_out",
        "track_id",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        track_id: str,
        latest: AnyTrack | None,
        *,
        deadline: float = inf,
        overtime: float = OVERTIME,
    ) -> None:
        super().__init__(pipeline, deadline=deadline)
        self.track_id: str = track_id
        self.latest = latest
        self.overtime: float = overtime
        self.seen_at: float = NEVER
        self.pending_since: float = inf
        self.in_overtime: bool = False
        self.timed_out: bool = False

    def time_out(self) -> None:
        """End the wait since its time is over."""
        self.timed_out = True
        self.make_ready()

    def update(self, track: AnyTrack, seen_at: float) -> None:
        """Take a state; wake the consumer if its status is new."""
        known = self.latest
        self.latest = track
        self.seen_at = max(self.seen_at, seen_at)
        if known is None or known.status != track.status:
            self.make_ready()
