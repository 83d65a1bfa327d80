"""Which tracks are watched, by whom, and when each is due to be read. No I/O.

Watched     one watched track, with its watchers and what is known of it
WatchList   all of them, their schedule, and the deadlines of all waiters

A *look* at a track is a read that may show it: its own ``GET`` or a page of a list. A
*last look* is the one that a wait gets when its deadline comes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from finetuning_async._polling._waiters import NEVER, Waiter, Watcher
from finetuning_async._polling._webhook_hints import WebhookHints
from finetuning_async._runtime import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from finetuning_async._coordination import WatchedTrack
    from finetuning_async._pacing import InFlight
    from finetuning_async._polling._absence import Absence
    from finetuning_async._polling._schedule import DurationEstimator
    from finetuning_async._polling._waiters import AnyTrack
    from finetuning_async._types import Family, Kind


class Watched:
    """One watched track. Times are seconds of the loop's clock.

    Attributes:
        track_id: Its id.
        kind: Its kind, as far as known.
        length: The seconds asked for, as far as known.
        accepted_at: When it was accepted; `None` if that is not known here.
        watchers: The waits for it; may be empty while creates wait for any track to
            end, or if only another process waits.
        latest: The last state read.
        partial_row: A final row of a list that lacks a field which the final state
            should have.
        next_look: When to look next.
        status_due_by: From when on a read must show its status, whatever it is; until
            then the list of completed tracks will do.
        looked_at: When the last look was sent.
        seen_running_at: When the last read was sent that showed it running.
        offset: The offset of the list page that should show it; `None` if none does.
        is_urgent: Whether to look before the next regular slot.
        failures: Reads of it alone that failed in a row.
        failure: Why the last look failed; `None` if it did not.
        unclear_since: Since when its reads get responses that may not be the
            service's; `inf` if they do not.
        absence: The checks of whether it exists, since its ``GET`` responded 404.
        has_webhook: Whether a create of this process registered a webhook for it.
        hinted_at: When the last hint about it arrived.
        watched_since: Since when it is watched.
    """

    __slots__ = (
        "absence",
        "accepted_at",
        "failure",
        "failures",
        "has_webhook",
        "hinted_at",
        "is_urgent",
        "kind",
        "latest",
        "length",
        "looked_at",
        "next_look",
        "offset",
        "partial_row",
        "seen_running_at",
        "status_due_by",
        "track_id",
        "unclear_since",
        "watched_since",
        "watchers",
    )

    def __init__(self, track_id: str, kind: Kind) -> None:
        self.track_id: str = track_id
        self.kind: Kind = kind
        self.length: float | None = None
        self.accepted_at: float | None = None
        self.watchers: dict[Watcher, None] = {}
        self.latest: AnyTrack | None = None
        self.partial_row: AnyTrack | None = None
        self.next_look: float = NEVER
        self.status_due_by: float = NEVER
        self.looked_at: float = NEVER
        self.seen_running_at: float = NEVER
        self.offset: int | None = 0
        self.is_urgent: bool = False
        self.failures: int = 0
        self.failure: Exception | None = None
        self.unclear_since: float = inf
        self.absence: Absence | None = None
        self.has_webhook: bool = False
        self.hinted_at: float = NEVER
        self.watched_since: float = NEVER

    @property
    def family(self) -> Family:
        """The list that shows it."""
        return "sound_effects" if self.kind == "sound_effect" else "generations"

    def end_overtime(self, began_at: float) -> None:
        """End the waits in overtime whose last look has ended.

        Args:
            began_at: When that look was sent, on the loop's clock.
        """
        for watcher in self.watchers:
            # A look that was sent before the deadline may have missed an end between
            # the two. It is the last only if no later one is in flight or to come.
            another = self.is_urgent or self.looked_at >= watcher.deadline
            is_last = began_at >= watcher.deadline or not another
            if watcher.in_overtime and is_last:
                watcher.time_out()


class WatchList:
    """All watched tracks, their schedule, and the deadlines of all waiters.

    Args:
        inflight: The account's register; what it knows of a track is used.
        estimator: How long tracks take.
        scale: Seconds per allowed read.

    Attributes:
        hints: The hints of webhooks, about watched and unknown tracks.
        foreign_ids: The tracks for which other processes wait.
    """

    def __init__(
        self, inflight: InFlight, estimator: DurationEstimator, *, scale: float
    ) -> None:
        self._inflight = inflight
        self._estimator = estimator
        self._scale = scale
        self._tracks: dict[str, Watched] = {}
        self._watching_all = 0
        self._soonest = inf  # of all `next_look`, or earlier than that
        self._deadlines: TimerHeap[Waiter] = TimerHeap()
        self._last_looks: list[Watched] = []
        self.hints = WebhookHints()
        self.foreign_ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._tracks)

    def get(self, track_id: str) -> Watched | None:
        """The track, if it is watched."""
        return self._tracks.get(track_id)

    def absent(self) -> list[Watched]:
        """The tracks whose ``GET`` responds 404."""
        return [t for t in self._tracks.values() if t.absence is not None]

    def watchers(self) -> Iterator[Watcher]:
        """The waits for a track."""
        return (w for track in self._tracks.values() for w in track.watchers)

    def add(self, watcher: Watcher, kind: Kind, now: float) -> Watched:
        """Watch a track for a watcher, which gets its latest state if one is known."""
        track = self._tracks.get(watcher.track_id)
        if track is None:
            track = self._start(watcher.track_id, kind, now)
        track.watchers[watcher] = None
        self._deadlines.schedule(watcher, watcher.deadline)
        if track.latest is not None:
            watcher.update(track.latest, track.seen_running_at)
        return track

    def discard(self, watcher: Watcher) -> None:
        """Stop watching for a watcher; a track that is not needed is removed."""
        self._deadlines.cancel(watcher)
        track = self._tracks.get(watcher.track_id)
        if track is not None:
            track.watchers.pop(watcher, None)
            if not self._is_needed(track):
                del self._tracks[watcher.track_id]

    def drop(self, track_id: str) -> None:
        """Remove a track."""
        self._tracks.pop(track_id, None)

    def watch_all(self, now: float) -> None:
        """Watch every accepted track of ours, until `unwatch_all`.

        Calls may nest: each create that waits for a queue slot makes one.
        """
        self._watching_all += 1
        self.follow_inflight(now)

    def follow_inflight(self, now: float) -> None:
        """Watch newly accepted tracks, if all are watched."""
        if self._watching_all:
            for track_id, in_progress in self._inflight.tracks.items():
                if track_id not in self._tracks:
                    self._start(track_id, in_progress.kind, now)

    def unwatch_all(self) -> None:
        """End one `watch_all`."""
        self._watching_all -= 1
        for track in [t for t in self._tracks.values() if not self._is_needed(t)]:
            del self._tracks[track.track_id]

    def follow_foreign(self, foreign: Mapping[str, WatchedTrack], now: float) -> None:
        """Watch the tracks for which other processes wait, instead of earlier ones."""
        self.foreign_ids = set(foreign)
        for track in [t for t in self._tracks.values() if not self._is_needed(t)]:
            del self._tracks[track.track_id]
        for track_id, wanted in foreign.items():
            if track_id not in self._tracks:
                track = self._start(track_id, wanted.kind, now)
                if track.accepted_at is None and wanted.age is not None:
                    track.accepted_at, track.length = now - wanted.age, wanted.length
                    self.plan(track, now)

    def own_tracks(self) -> Iterator[Watched]:
        """The tracks for which this process itself waits."""
        return (track for track in self._tracks.values() if self._is_ours(track))

    def _is_needed(self, track: Watched) -> bool:
        return self._is_ours(track) or track.track_id in self.foreign_ids

    def _is_ours(self, track: Watched) -> bool:
        ours = track.track_id in self._inflight.tracks
        return bool(track.watchers) or (self._watching_all > 0 and ours)

    def _start(self, track_id: str, kind: Kind, now: float) -> Watched:
        known = self._inflight.tracks.get(track_id)
        track = Watched(track_id, kind if known is None else known.kind)
        self._tracks[track_id] = track
        track.watched_since = now
        if known is not None:
            track.accepted_at = known.accepted_at
            track.length = known.duration
            track.has_webhook = known.has_webhook
        self.plan(track, now)
        if self.hints.take(track_id, now):
            self.mark_changed(track, now)
        return track

    def hint(self, track_id: str, now: float) -> Watched | None:
        """Take a hint; it is remembered for a while if the track is not watched."""
        track = self._tracks.get(track_id)
        if track is None:
            self.hints.remember(track_id, now)
        else:
            self.mark_changed(track, now)
        return track

    def mark_changed(self, track: Watched, now: float) -> None:
        """Look at a track soon because of a hint; at most once per `scale` seconds."""
        again = track.hinted_at + self._scale
        if now >= again:
            track.hinted_at = now
            self.schedule_now(track)
        elif again < track.next_look:
            self.schedule_look(track, again)

    def plan(self, track: Watched, now: float) -> None:
        """Schedule the next look at a track that was seen to run.

        Also decide from when on that must be a read that shows its status.
        """
        pause, end = 0.0, inf
        if track.accepted_at is not None:
            expected = self._estimator.expect(track.kind, track.length)
            end = track.accepted_at + expected.latest
            pauses = self._estimator.pause
            if self._awaits_hook(track):
                pauses = self._estimator.pause_for_hook
            pause = pauses(expected, age=now - track.accepted_at)
        look = now + pause
        self.schedule_look(track, look)
        track.status_due_by = self._estimator.status_due_by(look, end=end, now=now)

    def plan_unseen(self, track: Watched, now: float) -> None:
        """As `plan`, for a track of which only is known that it has not completed."""
        # The completed list does not show failures, so such a read must not put off the
        # one that does.
        status_due_by = track.status_due_by
        self.plan(track, now)
        track.status_due_by = min(status_due_by, track.status_due_by)

    def _awaits_hook(self, track: Watched) -> bool:
        was_hinted = track.hinted_at > -inf
        return track.has_webhook and self.hints.hooks_arrive and not was_hinted

    def schedule_look(self, track: Watched, moment: float) -> None:
        """Schedule a look at a track, at a time of the loop's clock."""
        track.next_look = moment
        self._soonest = min(self._soonest, moment)

    def schedule_now(self, track: Watched) -> None:
        """Look at a track as soon as the read budget allows."""
        track.is_urgent = True
        track.status_due_by = -inf
        self.schedule_look(track, -inf)

    def due(self, now: float, *, soon: float = 0.0) -> list[Watched]:
        """The tracks that are due; if there is one, also those of the next `soon` s.

        Urgent tracks come first, then the one that has been due longest.
        """
        # `_soonest` may be too early: its track may have been removed, or put off.
        moments = [track.next_look for track in self._tracks.values()]
        self._soonest = min(moments, default=inf)
        if self._soonest > now:
            return []
        due = [t for t in self._tracks.values() if t.next_look <= now + soon]
        return sorted(due, key=lambda track: track.next_look)

    def next_look(self) -> float:
        """When the first look is due, or earlier than that; `due` makes it exact."""
        return self._soonest

    def set_deadline(self, waiter: Waiter, at: float) -> None:
        """Make a waiter ready at a time, which replaces its earlier deadline."""
        waiter.deadline = at
        self._deadlines.schedule(waiter, at)

    def cancel_deadline(self, waiter: Waiter) -> None:
        """Remove the deadline of a waiter that leaves."""
        self._deadlines.cancel(waiter)

    def next_deadline(self) -> float:
        """The first deadline."""
        return self._deadlines.next_deadline()

    @property
    def has_pending_last_look(self) -> bool:
        """Whether a wait times out unless its track is read now."""
        if self._last_looks:
            self._last_looks = [
                t for t in self._last_looks if self._is_pending_last_look(t)
            ]
        return bool(self._last_looks)

    def is_last_look(self, track: Watched) -> bool:
        """Whether a read of a track now would be the last look of a wait."""
        return track in self._last_looks and self._is_pending_last_look(track)

    def _is_pending_last_look(self, track: Watched) -> bool:
        return track.is_urgent and self._tracks.get(track.track_id) is track

    def expire_deadlines(
        self,
        now: float,
        *,
        can_look: Callable[[Watcher], bool],
        pending_since: Callable[[Watched], float],
    ) -> None:
        """Time out the waits whose deadline has come, or grant them a last look.

        Args:
            now: On the loop's clock.
            can_look: Says whether a read can be sent in time for a watcher.
            pending_since: Says when the oldest read of a track was sent that is in
                flight; `inf` if there is none.
        """
        for waiter in self._deadlines.pop_expired(now):
            if not isinstance(waiter, Watcher):
                waiter.make_ready()
            elif not self._grant_last_look(waiter, now, can_look, pending_since):
                self._time_out(waiter, pending_since)

    def _time_out(
        self, watcher: Watcher, pending_since: Callable[[Watched], float]
    ) -> None:
        """End a wait; if its track is known to have ended, with that state."""
        track = self._tracks.get(watcher.track_id)
        if track is not None:
            watcher.pending_since = pending_since(track)
            if track.partial_row is not None:
                watcher.update(track.partial_row, track.looked_at)
        watcher.time_out()

    def _grant_last_look(
        self,
        watcher: Watcher,
        now: float,
        can_look: Callable[[Watcher], bool],
        pending_since: Callable[[Watched], float],
    ) -> bool:
        track = self._tracks.get(watcher.track_id)
        # Only one last look: what hangs must not keep the wait alive.
        if watcher.in_overtime or track is None:
            return False
        if can_look(watcher):
            self.schedule_now(track)
            self._last_looks.append(track)
        elif pending_since(track) == inf:  # no read now, and none in flight
            return False
        watcher.in_overtime = True
        self._deadlines.schedule(watcher, now + watcher.overtime)
        return True
