"""Which tracks are waited for, by whom, and when each is worth a look. No I/O.

Waiter       somebody who waits: for a state, for a slot in the queue, for a time
  Watcher      waits for the states of one track
Watched      one track under watch, with its watchers
WatchList    all of them, and the schedule
"""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning_async._inflight import InFlight
    from finetuning_async._models import Generation, SoundEffect
    from finetuning_async._pipeline import Pipeline
    from finetuning_async._poll_schedule import Outlook
    from finetuning_async._types import Kind

    AnyTrack: TypeAlias = Generation | SoundEffect

Family: TypeAlias = Literal["generations", "sound_effects"]

LAST_LOOK: float = 1.0
"""Seconds before a deadline at which a track is looked at once more, at 60 reads a
minute: so that the answer is there in time."""


class Waiter:
    """Somebody who waits, in a task of its own, and who may be asked to drive.

    Attributes:
        pipeline: How this waiter's client reads.
        deadline: When it wakes at the latest, on the loop's clock.
        ready: Whether there is something for it: news, an error, or its deadline.
        error: What ended the watch, if something did.
    """

    __slots__ = ("_event", "deadline", "error", "pipeline", "ready")

    def __init__(self, pipeline: Pipeline, *, deadline: float = inf) -> None:
        self.pipeline = pipeline
        self.deadline = deadline
        self.ready = False
        self.error: Exception | None = None
        self._event: anyio.Event | None = None

    async def woken(self) -> None:
        """Wait until `wake` is called."""
        self._event = anyio.Event()
        await self._event.wait()

    def wake(self) -> None:
        """Let `woken` return; harmless if nobody waits there."""
        if self._event is not None:
            self._event.set()

    def make_ready(self) -> None:
        """There is something for this waiter."""
        self.ready = True
        self.wake()

    def fail(self, error: Exception) -> None:
        """End its watch with an error."""
        self.error = error
        self.make_ready()


class Watcher(Waiter):
    """Waits for the states of one track.

    The newest state wins: a slow consumer misses those in between, never the last.

    Attributes:
        track_id: Which.
        latest: The last state seen, or the one the caller brought.
    """

    __slots__ = ("latest", "track_id")

    def __init__(
        self,
        pipeline: Pipeline,
        track_id: str,
        latest: AnyTrack | None,
        *,
        deadline: float = inf,
    ) -> None:
        super().__init__(pipeline, deadline=deadline)
        self.track_id = track_id
        self.latest = latest

    def update(self, track: AnyTrack) -> None:
        """Take a state; wake the consumer if it says something new."""
        known = self.latest
        self.latest = track
        if known is None or known.status != track.status:
            self.make_ready()


class Watched:
    """One track under watch.

    Attributes:
        track_id: Which.
        family: Where it is listed.
        kind: What it is, as far as known.
        duration: The length asked for, in seconds, as far as known.
        accepted_at: On the loop's clock; `None` if nobody here knows.
        has_webhook: Whether the service will call when it ends.
        watchers: Who waits for it; may be empty while creates wait for any to end.
        next_look: When to look next, on the loop's clock.
        missing_since: When it was first answered with 404, if it was.
    """

    __slots__ = (
        "accepted_at",
        "duration",
        "family",
        "has_webhook",
        "kind",
        "last_pause",
        "latest",
        "missing_since",
        "next_look",
        "track_id",
        "watchers",
    )

    def __init__(self, track_id: str, kind: Kind) -> None:
        self.track_id = track_id
        self.family: Family = (
            "sound_effects" if kind == "sound_effect" else "generations"
        )
        self.kind: Kind = kind
        self.duration: float | None = None
        self.accepted_at: float | None = None
        self.has_webhook = False
        self.watchers: dict[Watcher, None] = {}
        self.latest: AnyTrack | None = None
        self.next_look = -inf
        self.last_pause = 0.0
        self.missing_since: float | None = None


class WatchList:
    """All tracks under watch and all who wait.

    Args:
        inflight: The account's register; what it knows of a track is used.
        outlook: How long tracks take.
        scale: Seconds per read of the budget.
    """

    def __init__(self, inflight: InFlight, outlook: Outlook, *, scale: float) -> None:
        self._inflight = inflight
        self._outlook = outlook
        self._scale = scale
        self._tracks: dict[str, Watched] = {}
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._numbers = count()
        self._watching_all = 0
        self._void = 0

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[Watched]:
        return iter(list(self._tracks.values()))

    def get(self, track_id: str) -> Watched | None:
        """The track, if it is under watch."""
        return self._tracks.get(track_id)

    def watchers(self) -> list[Watcher]:
        """Everybody who waits for a track."""
        return [w for track in self._tracks.values() for w in track.watchers]

    def add(self, watcher: Watcher, kind: Kind, now: float) -> Watched:
        """Put a track under watch, or join those who watch it."""
        track = self._tracks.get(watcher.track_id) or self._start(
            watcher.track_id, kind, now
        )
        track.watchers[watcher] = None
        self._look_before(track, watcher.deadline, now)
        self.set_alarm(watcher)
        if track.latest is not None:
            watcher.update(track.latest)
        return track

    def discard(self, watcher: Watcher) -> None:
        """Stop watching for somebody; a track that nobody watches is dropped."""
        track = self._tracks.get(watcher.track_id)
        if track is not None:
            track.watchers.pop(watcher, None)
            if not track.watchers and not self._watching_all:
                del self._tracks[watcher.track_id]

    def drop(self, track_id: str) -> list[Watcher]:
        """Take a track off the list; returns who watched it."""
        track = self._tracks.pop(track_id, None)
        return [] if track is None else list(track.watchers)

    def watch_all(self, now: float) -> None:
        """Watch every track of ours that is under way, until `release_all`."""
        self._watching_all += 1
        self.follow_inflight(now)

    def follow_inflight(self, now: float) -> None:
        """Put newly accepted tracks under watch, if all are watched."""
        if self._watching_all:
            for track_id, under_way in self._inflight.under_way.items():
                if track_id not in self._tracks:
                    self._start(track_id, under_way.kind, now)

    def release_all(self) -> None:
        """One of those who watched all has left."""
        self._watching_all -= 1
        if not self._watching_all:
            for track in [t for t in self._tracks.values() if not t.watchers]:
                del self._tracks[track.track_id]

    def _start(self, track_id: str, kind: Kind, now: float) -> Watched:
        track = Watched(track_id, kind)
        known = self._inflight.under_way.get(track_id)
        if known is None:
            track.next_look = now
        else:
            track.accepted_at = known.accepted_at
            track.duration = known.duration
            track.has_webhook = known.has_webhook
            self.plan(track, now, turn=0.0)
        self._tracks[track_id] = track
        return track

    def plan(self, track: Watched, now: float, *, turn: float) -> None:
        """Decide when a track that still runs is looked at again."""
        if track.accepted_at is None:
            pause = 0.0
        else:
            pause = self._outlook.next_look(
                self._outlook.expect(track.kind, track.duration),
                age=now - track.accepted_at,
                last_pause=track.last_pause,
                turn=turn,
            )
        track.last_pause = pause
        track.next_look = now + pause
        for watcher in track.watchers:
            self._look_before(track, watcher.deadline, now)

    def _look_before(self, track: Watched, deadline: float, now: float) -> None:
        last_chance = deadline - LAST_LOOK * self._scale
        if now < last_chance < track.next_look:
            track.next_look = last_chance

    def due(self, now: float) -> list[Watched]:
        """The tracks worth a look now, oldest first."""
        return [track for track in self._tracks.values() if track.next_look <= now]

    def next_look(self) -> float:
        """When the first of them is worth a look."""
        return min((track.next_look for track in self._tracks.values()), default=inf)

    def set_alarm(self, waiter: Waiter) -> None:
        """Have a waiter made ready at its deadline."""
        if waiter.deadline < inf:
            entry = (waiter.deadline, next(self._numbers), waiter)
            heapq.heappush(self._deadlines, entry)

    def next_alarm(self) -> float:
        """The first deadline; one that has become void is among them."""
        return self._deadlines[0][0] if self._deadlines else inf

    def ring(self, now: float) -> None:
        """Make everybody ready whose deadline has come."""
        while self._deadlines and self._deadlines[0][0] <= now:
            alarm_at, _, waiter = heapq.heappop(self._deadlines)
            if waiter.deadline == alarm_at:
                waiter.make_ready()

    def forget_alarm(self, waiter: Waiter) -> None:
        """Void the alarm of a waiter that leaves."""
        if waiter.deadline < inf:
            waiter.deadline = inf
            self._void += 1
        if self._void > 64 and self._void * 2 > len(self._deadlines):
            self._deadlines = [e for e in self._deadlines if e[2].deadline == e[0]]
            heapq.heapify(self._deadlines)
            self._void = 0
