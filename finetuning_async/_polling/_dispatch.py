"""Dispatches what the poll loop reads. No I/O.

A state goes to all watchers of its track. A final state also removes the track from the
watch list and the register, and teaches how long tracks take.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async._api import parsing
from finetuning_async._errors import InternalServerError, NotFoundError
from finetuning_async._polling._failure_tracker import (
    BELIEVED_AFTER,
    BELIEVED_COUNT,
    is_refusal,
    is_unclear,
)
from finetuning_async._polling._missing_tracks import MissingTracks
from finetuning_async._polling._read_planner import relocate_missing

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from finetuning_async._api import Page, Response
    from finetuning_async._event_hook import Hook
    from finetuning_async._http import ServerClock
    from finetuning_async._pacing import InFlight
    from finetuning_async._polling._listing_health import ListingHealth
    from finetuning_async._polling._read_planner import Read
    from finetuning_async._polling._schedule import DurationEstimator
    from finetuning_async._polling._waiters import AnyTrack
    from finetuning_async._polling._watch_list import Watched, WatchList
    from finetuning_async._types import Kind

MAX_PAUSE: Final = 8
"""Slots until a track whose own read failed is looked at again, at most."""

CREATED_AT_STEP: Final = 1.0
"""Seconds by which ``createdAt`` may be early: lists show it in whole seconds (Q8)."""


class StateDispatcher:
    """Passes what was read to the watchers and the register.

    Args:
        watched: The watched tracks.
        listings: Which lists can be used.
        inflight: The account's register.
        estimator: Learns how long tracks take.
        clock: The service's clock.
        scale: Seconds per allowed read.
        interval: Seconds between two slots of the poll loop.

    Attributes:
        missing_tracks: The tracks whose ``GET`` responds 404.
        on_state: Called with each state that is read, and when its read was sent.
        on_refusal: Called with the id of a track that the service does not show.
    """

    def __init__(
        self,
        watched: WatchList,
        listings: ListingHealth,
        inflight: InFlight,
        estimator: DurationEstimator,
        clock: ServerClock,
        *,
        scale: float,
        interval: float,
    ) -> None:
        self._watch_list = watched
        self._listings = listings
        self._inflight = inflight
        self._estimator = estimator
        self._clock = clock
        self._scale = scale
        self._interval = interval
        self.missing_tracks = MissingTracks(watched, listings)
        self.on_state: Callable[[AnyTrack, float], None] = _ignore
        self.on_refusal: Callable[[str], None] = _ignore

    def dispatch_shared(self, state: AnyTrack, response: Response) -> None:
        """Dispatch a state that another process read."""
        track = self._watch_list.get(state.id)
        if track is not None:
            self._deliver(track, state, response)
        elif state.is_final and self._inflight.is_in_progress(state.id):
            self._observe_final(state, None)

    def dispatch(self, read: Read, response: Response) -> None:
        """Dispatch the response to a read.

        Raises:
            APIResponseError: It cannot be parsed.
        """
        if read.offset is not None:
            self._dispatch_page(read, read.offset, response)
        else:
            self._dispatch_track(read, response)
        # A page, too, is another read to the lists that it is not of. Its own is not
        # suspect any more: `page_worked` has said so.
        self._listings.other_read_worked(response.sent_at, anyio.current_time())

    def _dispatch_track(self, read: Read, response: Response) -> None:
        (track,) = read.tracks
        if read.family == "generations":
            self._deliver(track, parsing.generation(response), response)
        else:
            self._deliver(track, parsing.sound_effect(response), response)

    def _dispatch_page(self, read: Read, offset: int, response: Response) -> None:
        page: Page[AnyTrack]
        if read.family == "generations":
            page = parsing.generation_page(response, offset=offset, known=self)
        else:
            page = parsing.sound_effect_page(response, offset=offset, known=self)
        self._listings.page_worked(read.listing)
        self._inflight.mark_listed(row.id for row in page.items)
        for row in page.items:
            track = self._watch_list.get(row.id)
            if row.is_final and (
                track is not None or self._inflight.is_in_progress(row.id)
            ):
                self._observe_final(row, track)
            if track is not None:
                self._note_position(track, read, row)
                self._deliver_row(track, row, response)
        if read.is_filtered:
            self._note_not_completed(read, page, response)
        else:
            self._schedule_missing(read, page)
            for track, error in self.missing_tracks.on_page(
                read, offset, page, response.sent_at
            ):
                self._fail_waits(track, error)

    def last(self, track_id: str) -> AnyTrack | None:
        """The last state of a track; for the parser, which reuses an equal one."""
        track = self._watch_list.get(track_id)
        return None if track is None else track.latest

    def wants(self, track_id: str) -> bool:
        """Whether a track is watched or in the register; for the parser."""
        return self._watch_list.get(
            track_id
        ) is not None or self._inflight.is_in_progress(track_id)

    def _note_position(self, track: Watched, read: Read, row: AnyTrack) -> None:
        """Note where the whole list shows a track, and whether it has completed."""
        if not read.is_filtered:
            track.offset = read.offset
            if row.status == "completed":
                self._listings.note_completed(track)

    def _schedule_missing(self, read: Read, page: Page[AnyTrack]) -> None:
        """Schedule reads for the tracks that a page of the whole list did not show."""
        now = anyio.current_time()
        reach = self._reach(page, now)
        if read.offset == 0:
            self._listings.set_first_page_span(read.family, now - reach, now)
        for track in relocate_missing(read, page, reach=reach):
            if track.status_due_by == -inf:  # it was urgent, and still is
                self._watch_list.schedule_now(track)
            else:
                self._watch_list.schedule_look(track, now)

    def _note_not_completed(
        self, read: Read, page: Page[AnyTrack], response: Response
    ) -> None:
        """Note which tracks have not completed, by a page of the completed list."""
        now = anyio.current_time()
        reach = self._reach(page, now)
        for track in self._listings.not_completed(read.tracks, page, reach, now):
            track.seen_running_at = response.sent_at
            self._watch_list.plan_unseen(track, now)

    def _reach(self, page: Page[AnyTrack], now: float) -> float:
        """When the oldest row of a page was created, on the loop's clock.

        ``-inf`` if there is no other page, `inf` if that is unknown.
        """
        if not page.has_more:
            return -inf
        dates = [row.created_at for row in page.items if row.created_at is not None]
        age = self._age(min(dates), now) if dates else None
        return inf if age is None else now - age

    def _observe_final(self, state: AnyTrack, track: Watched | None) -> None:
        """Note that a track was seen to have ended; `track` if it is watched."""
        if track is None:
            self._inflight.observe_final(state)
            return
        late = self._noticed_after(state, track)
        self._inflight.observe_final(state, _hooks(track), noticed_after=late)

    def _noticed_after(self, state: AnyTrack, track: Watched) -> float | None:
        """Seconds, at most, for which a watched track had ended before it was seen."""
        now = anyio.current_time()
        latest = self._clock.not_after(now)
        if latest is None or state.completed_at is None:
            return None
        late = (latest - state.completed_at).total_seconds()
        return max(min(late, now - track.watched_since), 0.0)

    def _deliver_row(self, track: Watched, row: AnyTrack, response: Response) -> None:
        """Deliver a row; if it lacks a field of the final state, read the track first.

        Only if that read fails as well the row is delivered as it is.
        """
        if track.watchers and _is_cut_short(row):
            track.partial_row = row
            self._watch_list.schedule_now(track)
        else:
            self._deliver(track, row, response)

    def _deliver(self, track: Watched, state: AnyTrack, response: Response) -> None:
        """Deliver a state to all watchers of its track."""
        if response.sent_at < track.seen_running_at and not state.is_final:
            # With several reads in flight a response may be overtaken by that to a
            # later read. An older state must not replace a newer one, unless it is
            # final: an end stays an end.
            return
        # It exists after all. If only its id was known, its kind is known now as well.
        if track.absence is not None:
            track.kind, track.absence = cast("Kind", state.kind), None
        track.unclear_since = inf
        self.on_state(state, response.sent_at)
        track.latest = state
        track.failures, track.failure = 0, None
        track.looked_at = max(track.looked_at, response.sent_at)
        for watcher in list(track.watchers):
            watcher.update(state, response.sent_at)
        if state.is_final:
            self._learn_duration(track, state, response.received_at)
            self._observe_final(state, track)
            self._remove(track)
            return
        track.partial_row = None
        track.seen_running_at = response.sent_at
        self.learn_age(track, state, response.received_at)
        # A hint that arrived during this read is about a later state: keep its look.
        if not track.is_urgent:
            self._watch_list.plan(track, anyio.current_time())
        track.end_overtime(response.sent_at)

    def _remove(self, track: Watched) -> None:
        if track.has_webhook:
            announced = track.hinted_at > -inf
            self._watch_list.hints.record_end(track.track_id, announced=announced)
        self._inflight.remove(track.track_id)
        self._watch_list.drop(track.track_id)

    def learn_age(self, track: Watched, state: AnyTrack | None, now: float) -> None:
        """Learn the age of a track that was created elsewhere, from its date."""
        if track.accepted_at is not None or state is None or state.created_at is None:
            return
        age = self._age(state.created_at, now)
        if age is not None:
            track.accepted_at = now - age

    def _age(self, created_at: dt.datetime, now: float) -> float | None:
        """Seconds since a date of the service, at least; `None` if that is unknown."""
        server_now = self._clock.not_before(now)
        if server_now is None:
            return None
        return max((server_now - created_at).total_seconds(), 0.0)

    def _learn_duration(self, track: Watched, state: AnyTrack, now: float) -> None:
        """Learn that a track failed, or how long it took, as far as is known."""
        if state.status == "failed":
            self._estimator.record_failure(now)
        if state.status != "completed":
            return
        least, most = _dated_duration(state)
        if track.accepted_at is not None and track.seen_running_at > -inf:
            least = max(least, track.seen_running_at - track.accepted_at)
            most = min(most, now - track.accepted_at)
        # The service's own measure leaves out its queue, so it is the least that the
        # next track may take.
        rendering = getattr(state, "generation_time", None)
        if rendering is not None:
            least = rendering
        if 0 < most < inf:
            self._estimator.learn(
                track.kind, track.length, shortest=least, longest=most
            )

    def read_refused(self, read: Read, error: Exception, sent_at: float) -> None:
        """Handle a read that the service refused.

        Args:
            read: The read.
            error: The refusal.
            sent_at: When the read was sent, on the loop's clock.
        """
        if read.offset is not None:
            if is_refusal(error):
                self._listings.page_refused(read.listing, anyio.current_time())
            self._on_page_failed(read, sent_at)
            return
        (track,) = read.tracks
        # The list has shown that it ended; what failed is only the read for details.
        if track.partial_row is not None:
            self._end_with_row(track, track.partial_row)
        elif isinstance(error, NotFoundError) or read.is_guess:
            self._on_404(track, read, sent_at)
        else:
            self._fail_waits(track, error)

    def _fail_waits(self, track: Watched, error: Exception) -> None:
        for watcher in track.watchers:
            watcher.fail(error)
        self._remove(track)
        self.on_refusal(track.track_id)

    def _on_404(self, track: Watched, read: Read, sent_at: float) -> None:
        """Handle a 404 to a ``GET``."""
        if not track.watchers and track.track_id in self._watch_list.foreign_ids:
            self._remove(track)
            # Another process waits for it. It has to read for itself: only its own
            # waits can end with an error.
            self.on_refusal(track.track_id)
            return
        error = self.missing_tracks.on_404(track, read.family, sent_at)
        if error is not None:
            self._fail_waits(track, error)

    def read_failed(self, read: Read, error: Exception, sent_at: float) -> None:
        """Handle a read that failed for a reason that may pass.

        Args:
            read: The read.
            error: Why it failed.
            sent_at: When it was sent, on the loop's clock.
        """
        now = anyio.current_time()
        for track in read.tracks:
            track.failure = error
        if read.offset is not None:
            if isinstance(error, InternalServerError) or is_unclear(error):
                self._listings.page_failed(read.listing, now)
            self._on_page_failed(read, sent_at)
            return
        self._listings.other_read_failed(sent_at)
        (track,) = read.tracks
        track.end_overtime(sent_at)
        track.failures += 1
        pause = self._interval * min(2**track.failures, MAX_PAUSE)
        if not track.is_urgent:
            self._watch_list.schedule_look(track, now + pause)
        if track.partial_row is not None:
            self._end_with_row(track, track.partial_row)
        elif is_unclear(error):
            track.unclear_since = min(track.unclear_since, now)
            if (
                track.failures >= BELIEVED_COUNT
                and now >= track.unclear_since + BELIEVED_AFTER
            ):
                self._fail_waits(track, error)

    def _on_page_failed(self, read: Read, sent_at: float) -> None:
        self._listings.page_unanswered(read.listing, sent_at, anyio.current_time())
        for track in read.tracks:
            track.end_overtime(sent_at)
        for track, error in self.missing_tracks.on_page_failed(read, sent_at):
            self._fail_waits(track, error)

    def _end_with_row(self, track: Watched, row: AnyTrack) -> None:
        """End the waits with an incomplete row, since its track could not be read."""
        self.on_state(row, track.looked_at)
        for watcher in track.watchers:
            watcher.update(row, track.looked_at)
        self._remove(track)


def _ignore(*_: object) -> None:
    """Do nothing; the default of the two callbacks."""


def _hooks(track: Watched) -> set[Hook | None]:
    """The event hooks of the clients that wait for a track."""
    return {watcher.pipeline.hook for watcher in track.watchers}


def _is_cut_short(row: AnyTrack) -> bool:
    """Whether a row of a list lacks a field that the final state should have."""
    if row.status == "failed":
        return row.error_message is None
    return row.status == "completed" and row.audio_url is None


def _dated_duration(state: AnyTrack) -> tuple[float, float]:
    """The least and the most seconds that a track took, by the service's own dates."""
    if state.created_at is None or state.completed_at is None:
        return 0.0, inf
    total = (state.completed_at - state.created_at).total_seconds()
    return max(total - CREATED_AT_STEP, 0.0), total
