"""Which tracks are waited for, by whom, and when each is worth a look. No I/O.

Waiter       somebody who waits: for a state, for a slot in the queue, for a time
  Watcher      waits for the states of one track
Watched      one track under watch, with its watchers
WatchList    all of them, and the schedule
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from finetuning_async._polling._webhook_hints import WebhookHints
from finetuning_async._runtime import TimerHeap, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._coordination import WatchedTrack
    from finetuning_async._http import Pipeline
    from finetuning_async._pacing import InFlight
    from finetuning_async._polling._absence import Absence
    from finetuning_async._polling._schedule import DurationEstimator
    from finetuning_async._types import Family, Kind

    AnyTrack: TypeAlias = Generation | SoundEffect

NEVER: Final = -inf
"""One object for all: each ``-inf`` would be a float more, for thousands that wait."""

OVERTIME: Final = 1.0
"""Seconds for which a look that is under way at a deadline, or begins then, is heard
after it."""


class Waiter(Wakeup):
    """Somebody who waits, in a task of its own, and who may be asked to drive.

    Attributes:
        pipeline: How this waiter's client reads.
        deadline: When it wakes at the latest, on the loop's clock.
        timer_id: The number of its entry in the timer heap; 0 if it has none.
        ready: Whether there is something for it: news, an error, or its deadline.
        error: What ended the watch, if something did.
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
        overtime: Seconds after its deadline for which its last look is heard.
        seen_at: When the last state seen was asked for, on the loop's clock.
        asked_at: Since when an answer about its track was awaited when its time was
            over, likewise; `inf` if none was.
        in_overtime: Whether its deadline has passed and one last look is under way.
        is_over: Whether that has been, too.
    """

    __slots__ = (
        "asked_at",
        "in_overtime",
        "is_over",
        "latest",
        "overtime",
        "seen_at",
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
        self.asked_at: float = inf
        self.in_overtime: bool = False
        self.is_over: bool = False

    def end(self) -> None:
        """Its time is over."""
        self.is_over = True
        self.make_ready()

    def update(self, track: AnyTrack, seen_at: float) -> None:
        """Take a state; wake the consumer if it says something new."""
        known = self.latest
        self.latest = track
        self.seen_at = max(self.seen_at, seen_at)
        if known is None or known.status != track.status:
            self.make_ready()


class Watched:
    """One track under watch.

    Attributes:
        track_id: Which.
        kind: What it is, as far as known.
        length: The seconds asked for, as far as known.
        accepted_at: On the loop's clock; `None` if nobody here knows.
        watchers: Who waits for it; may be empty while creates wait for any to end.
        latest: The last state read.
        row: A final row of a list that lacks what the end should tell.
        next_look: When to look next, on the loop's clock.
        show_by: From when on only a read will do that shows it whatever its status,
            likewise.
        looked_at: When the last look began, on the loop's clock.
        ran_at: When it was last known to run, likewise.
        offset: Where the page of the list begins that should show it; `None` if it is
            on none.
        is_urgent: Whether it shall be looked at before its turn.
        failures: Looks at it alone that failed, one after another.
        failure: Why the last look failed; `None` if it did not.
        unclear_since: When they began to be answered by what may not be the service,
            on the loop's clock; `inf` if they are not.
        absence: What was said of it since its ``GET`` was answered with a 404.
        has_webhook: Whether a create of this process gave it one.
        noticed_at: When there was a hint about it, on the loop's clock.
    """

    __slots__ = (
        "absence",
        "accepted_at",
        "failure",
        "failures",
        "has_webhook",
        "is_urgent",
        "kind",
        "latest",
        "length",
        "looked_at",
        "next_look",
        "noticed_at",
        "offset",
        "ran_at",
        "row",
        "show_by",
        "track_id",
        "unclear_since",
        "watchers",
    )

    def __init__(self, track_id: str, kind: Kind) -> None:
        self.track_id = track_id
        self.kind: Kind = kind
        self.length: float | None = None
        self.accepted_at: float | None = None
        self.watchers: dict[Watcher, None] = {}
        self.latest: AnyTrack | None = None
        self.row: AnyTrack | None = None
        self.next_look = NEVER
        self.show_by = NEVER
        self.looked_at = NEVER
        self.ran_at = NEVER
        self.offset: int | None = 0
        self.is_urgent = False
        self.failures = 0
        self.failure: Exception | None = None
        self.unclear_since = inf
        self.absence: Absence | None = None
        self.has_webhook = False
        self.noticed_at = NEVER

    @property
    def family(self) -> Family:
        """Where it is listed."""
        return "sound_effects" if self.kind == "sound_effect" else "generations"

    def end_overtime(self, began_at: float) -> None:
        """A look has come to its end: no deadline waits for it any longer.

        Args:
            began_at: When that look was sent, on the loop's clock. What ended between
                a look and the deadline is seen by another, if one is to come.
        """
        for watcher in self.watchers:
            another = self.is_urgent or self.looked_at >= watcher.deadline
            is_last = began_at >= watcher.deadline or not another
            if watcher.in_overtime and is_last:
                watcher.end()


class WatchList:
    """All tracks under watch and all who wait.

    Args:
        inflight: The account's register; what it knows of a track is used.
        outlook: How long tracks take.
        scale: Seconds per read of the budget.

    Attributes:
        hints: What was said about tracks, watched or not.
        foreign: Those that only other processes wait for.
    """

    def __init__(
        self, inflight: InFlight, outlook: DurationEstimator, *, scale: float
    ) -> None:
        self._inflight = inflight
        self._outlook = outlook
        self._scale = scale
        self._tracks: dict[str, Watched] = {}
        self._watching_all = 0
        self._soonest = inf
        self._timers: TimerHeap[Waiter] = TimerHeap()
        self._last_looks: list[Watched] = []
        self.hints = WebhookHints()
        self.foreign: set[str] = set()

    def __len__(self) -> int:
        return len(self._tracks)

    def get(self, track_id: str) -> Watched | None:
        """The track, if it is under watch."""
        return self._tracks.get(track_id)

    def absent(self) -> list[Watched]:
        """The tracks that were not there when they were asked for."""
        return [t for t in self._tracks.values() if t.absence is not None]

    def watchers(self) -> Iterator[Watcher]:
        """Everybody who waits for a track."""
        return (w for track in self._tracks.values() for w in track.watchers)

    def add(self, watcher: Watcher, kind: Kind, now: float) -> Watched:
        """Put a track under watch, or join those who watch it."""
        track = self._tracks.get(watcher.track_id)
        if track is None:
            track = self._start(watcher.track_id, kind, now)
        track.watchers[watcher] = None
        self._timers.schedule(watcher, watcher.deadline)
        if track.latest is not None:
            watcher.update(track.latest, track.ran_at)
        return track

    def discard(self, watcher: Watcher) -> None:
        """Stop watching for somebody; a track that nobody needs is dropped."""
        self._timers.cancel(watcher)
        track = self._tracks.get(watcher.track_id)
        if track is not None:
            track.watchers.pop(watcher, None)
            if not self._is_needed(track):
                del self._tracks[watcher.track_id]

    def drop(self, track_id: str) -> None:
        """Take a track off the list."""
        self._tracks.pop(track_id, None)

    def watch_all(self, now: float) -> None:
        """Watch every track of ours that is under way, until `release_all`."""
        self._watching_all += 1
        self.follow_inflight(now)

    def follow_inflight(self, now: float) -> None:
        """Put newly accepted tracks under watch, if all are watched."""
        if self._watching_all:
            for track_id, under_way in self._inflight.tracks.items():
                if track_id not in self._tracks:
                    self._start(track_id, under_way.kind, now)

    def release_all(self) -> None:
        """One of those who watched all has left."""
        self._watching_all -= 1
        for track in [t for t in self._tracks.values() if not self._is_needed(t)]:
            del self._tracks[track.track_id]

    def follow(self, foreign: Mapping[str, WatchedTrack], now: float) -> None:
        """Watch what other processes wait for, and nothing else of theirs."""
        self.foreign = set(foreign)
        for track in [t for t in self._tracks.values() if not self._is_needed(t)]:
            del self._tracks[track.track_id]
        for track_id, wanted in foreign.items():
            if track_id not in self._tracks:
                track = self._start(track_id, wanted.kind, now)
                if track.accepted_at is None and wanted.age is not None:
                    track.accepted_at, track.length = now - wanted.age, wanted.length
                    self.plan(track, now)

    def wanted(self) -> Iterator[Watched]:
        """The tracks that this process waits for itself."""
        return (track for track in self._tracks.values() if self._is_ours(track))

    def _is_needed(self, track: Watched) -> bool:
        return self._is_ours(track) or track.track_id in self.foreign

    def _is_ours(self, track: Watched) -> bool:
        ours = track.track_id in self._inflight.tracks
        return bool(track.watchers) or (self._watching_all > 0 and ours)

    def _start(self, track_id: str, kind: Kind, now: float) -> Watched:
        known = self._inflight.tracks.get(track_id)
        track = Watched(track_id, kind if known is None else known.kind)
        self._tracks[track_id] = track
        if known is not None:
            track.accepted_at = known.accepted_at
            track.length = known.duration
            track.has_webhook = known.has_webhook
        self.plan(track, now)
        if self.hints.take(track_id, now):
            self.mark_changed(track, now)
        return track

    def hint(self, track_id: str, now: float) -> Watched | None:
        """There was a hint; remembered for a while if nobody watches the track."""
        track = self._tracks.get(track_id)
        if track is None:
            self.hints.unknown(track_id, now)
        else:
            self.mark_changed(track, now)
        return track

    def mark_changed(self, track: Watched, now: float) -> None:
        """Look at a track soon, since there was a hint; once a second is enough."""
        again = track.noticed_at + self._scale
        if now >= again:
            track.noticed_at = now
            self.hasten(track)
        elif again < track.next_look:
            self.look_at(track, again)

    def plan(self, track: Watched, now: float) -> None:
        """Decide when a track that was seen to run is looked at next, and by what."""
        pause, end = 0.0, inf
        if track.accepted_at is not None:
            expected = self._outlook.expect(track.kind, track.length)
            end = track.accepted_at + expected.latest
            pauses = self._outlook.pause
            if self._awaits_hook(track):
                pauses = self._outlook.pause_for_hook
            pause = pauses(expected, age=now - track.accepted_at)
        look = now + pause
        self.look_at(track, look)
        track.show_by = self._outlook.show_by(look, end=end, now=now)

    def plan_unseen(self, track: Watched, now: float) -> None:
        """The same for one of which is known only that it has not completed."""
        show_by = track.show_by
        self.plan(track, now)
        track.show_by = min(show_by, track.show_by)

    def _awaits_hook(self, track: Watched) -> bool:
        noticed = track.noticed_at > -inf
        return track.has_webhook and self.hints.hooks_arrive and not noticed

    def look_at(self, track: Watched, moment: float) -> None:
        """Look at a track at a time of the loop's clock."""
        track.next_look = moment
        self._soonest = min(self._soonest, moment)

    def hasten(self, track: Watched) -> None:
        """Look at a track as soon as can be."""
        track.is_urgent = True
        track.show_by = -inf
        self.look_at(track, -inf)

    def due(self, now: float, *, soon: float = 0.0) -> list[Watched]:
        """The tracks worth a look now; if there is one, those of the next `soon` s too.

        The most urgent first, then the one that has waited longest.
        """
        moments = [track.next_look for track in self._tracks.values()]
        self._soonest = min(moments, default=inf)
        if self._soonest > now:
            return []
        due = [t for t in self._tracks.values() if t.next_look <= now + soon]
        return sorted(due, key=lambda track: track.next_look)

    def next_look(self) -> float:
        """When the first of them is worth a look, or earlier; `due` makes it exact."""
        return self._soonest

    def set_alarm(self, waiter: Waiter, at: float) -> None:
        """Make a waiter ready at a time; the last one given holds."""
        waiter.deadline = at
        self._timers.schedule(waiter, at)

    def cancel_timer(self, waiter: Waiter) -> None:
        """Void the alarm of a waiter that leaves."""
        self._timers.cancel(waiter)

    def next_alarm(self) -> float:
        """The first deadline."""
        return self._timers.next_deadline()

    @property
    def awaits_last_look(self) -> bool:
        """Whether a wait has to end unless its track is looked at now."""
        if self._last_looks:
            self._last_looks = [t for t in self._last_looks if self._is_pressing(t)]
        return bool(self._last_looks)

    def is_last_look(self, track: Watched) -> bool:
        """Whether that would be one for a track."""
        return track in self._last_looks and self._is_pressing(track)

    def _is_pressing(self, track: Watched) -> bool:
        return track.is_urgent and self._tracks.get(track.track_id) is track

    def expire_deadlines(
        self,
        now: float,
        *,
        may_look: Callable[[Watcher], bool],
        asked_at: Callable[[Watched], float],
    ) -> None:
        """Make everybody ready whose deadline has come, or has a last look to wait for.

        Args:
            now: On the loop's clock.
            may_look: Whether there can be a look in time for a watcher.
            asked_at: Says since when an answer about a track is awaited; `inf` if none
                is.
        """
        for waiter in self._timers.pop_expired(now):
            if not isinstance(waiter, Watcher):
                waiter.make_ready()
            elif not self._looks_once_more(waiter, now, may_look, asked_at):
                self._end(waiter, asked_at)

    def _end(self, watcher: Watcher, asked_at: Callable[[Watched], float]) -> None:
        """Its time is over; if the end of its track is known, it is told that first."""
        track = self._tracks.get(watcher.track_id)
        if track is not None:
            watcher.asked_at = asked_at(track)
            if track.row is not None:
                watcher.update(track.row, track.looked_at)
        watcher.end()

    def _looks_once_more(
        self,
        watcher: Watcher,
        now: float,
        may_look: Callable[[Watcher], bool],
        asked_at: Callable[[Watched], float],
    ) -> bool:
        track = self._tracks.get(watcher.track_id)
        if watcher.in_overtime or track is None:
            return False
        if may_look(watcher):
            self.hasten(track)
            self._last_looks.append(track)
        elif asked_at(track) == inf:
            return False
        watcher.in_overtime = True
        self._timers.schedule(watcher, now + watcher.overtime)
        return True
