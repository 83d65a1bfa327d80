"""What the reads of the poll loop tell, and who is told. No I/O.

A state goes to everybody who waits for its track; a final one takes the track off the
list and out of the register, and teaches how long tracks take.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async._api import parsing
from finetuning_async._errors import InternalServerError, NotFoundError
from finetuning_async._polling._failure_tracker import (
    ENOUGH,
    LASTS,
    is_refusal,
    is_unclear,
)
from finetuning_async._polling._missing_tracks import MissingTracks
from finetuning_async._polling._read_planner import missing

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
    from finetuning_async._polling._watch_list import AnyTrack, Watched, WatchList
    from finetuning_async._types import Kind

LONGEST_PAUSE: Final = 8
"""Turns until a track whose own read failed is looked at again, at most."""

CREATED_AT_STEP: Final = 1.0
"""Seconds by which ``createdAt`` may be early: lists show it in whole seconds (Q8)."""


class StateDispatcher:
    """Gives out what was read.

    Args:
        watched: The tracks under watch.
        lists: What is known of the lists.
        inflight: The account's register.
        outlook: Learns how long tracks take.
        clock: The service's.
        scale: Seconds per read of the budget.
        turn: Seconds between two turns of the poll loop.

    Attributes:
        absentees: The tracks that are not there.
        on_state: Told of each state that is read, and when it was asked for.
        on_refusal: Told of a track that the service will not show.
    """

    def __init__(
        self,
        watched: WatchList,
        lists: ListingHealth,
        inflight: InFlight,
        outlook: DurationEstimator,
        clock: ServerClock,
        *,
        scale: float,
        turn: float,
    ) -> None:
        self._list = watched
        self._lists = lists
        self._inflight = inflight
        self._outlook = outlook
        self._clock = clock
        self._scale = scale
        self._turn = turn
        self.absentees = MissingTracks(watched, lists)
        self.on_state: Callable[[AnyTrack, float], None] = _nobody
        self.on_refusal: Callable[[str], None] = _nobody

    def heard(self, state: AnyTrack, answer: Response) -> None:
        """Give out what another process read."""
        track = self._list.get(state.id)
        if state.is_final and (
            track is not None or self._inflight.is_in_progress(state.id)
        ):
            self._inflight.observe_final(state, () if track is None else _hooks(track))
        if track is not None:
            self._seen(track, state, answer)

    def take(self, read: Read, answer: Response) -> None:
        """Give out what a read showed.

        Raises:
            APIResponseError: It cannot be read.
        """
        if read.offset is not None:
            self._take_page(read, read.offset, answer)
        else:
            self._take_track(read, answer)
        self._lists.another_worked(answer.sent_at, anyio.current_time())

    def _take_track(self, read: Read, answer: Response) -> None:
        (track,) = read.tracks
        if read.family == "generations":
            self._seen(track, parsing.generation(answer), answer)
        else:
            self._seen(track, parsing.sound_effect(answer), answer)

    def _take_page(self, read: Read, offset: int, answer: Response) -> None:
        page: Page[AnyTrack]
        if read.family == "generations":
            page = parsing.generation_page(answer, offset=offset, known=self)
        else:
            page = parsing.sound_effect_page(answer, offset=offset, known=self)
        self._lists.worked(read.listing)
        self._inflight.mark_listed(row.id for row in page.items)
        for row in page.items:
            track = self._list.get(row.id)
            if row.is_final and (
                track is not None or self._inflight.is_in_progress(row.id)
            ):
                self._inflight.observe_final(
                    row, () if track is None else _hooks(track)
                )
            if track is not None:
                self._place(track, read, row)
                self._seen_in_list(track, row, answer)
        if read.is_filtered:
            self._take_absence(read, page, answer)
        else:
            self._look_further(read, page)
            for track, gone in self.absentees.read(read, offset, page, answer.sent_at):
                self._give_up(track, gone)

    def last(self, track_id: str) -> AnyTrack | None:
        """What was last seen of a track."""
        track = self._list.get(track_id)
        return None if track is None else track.latest

    def wants(self, track_id: str) -> bool:
        """Whether anybody wants to know of a track."""
        return self._list.get(track_id) is not None or self._inflight.is_in_progress(
            track_id
        )

    def _place(self, track: Watched, read: Read, row: AnyTrack) -> None:
        """Note what the whole list says about a track."""
        if not read.is_filtered:
            track.offset = read.offset
            if row.status == "completed":
                self._lists.has_completed(track)

    def _look_further(self, read: Read, page: Page[AnyTrack]) -> None:
        """Look soon for the tracks that a page of the whole list does not show."""
        now = anyio.current_time()
        reach = self._reach(page, now)
        if read.offset == 0:
            self._lists.first_page_spans(read.family, now - reach, now)
        for track in missing(read, page, reach=reach):
            if track.show_by == -inf:  # it was urgent, and is
                self._list.hasten(track)
            else:
                self._list.look_at(track, now)

    def _take_absence(self, read: Read, page: Page[AnyTrack], answer: Response) -> None:
        """Take what a page of completed tracks says about those it does not show."""
        now = anyio.current_time()
        reach = self._reach(page, now)
        for track in self._lists.not_completed(read.tracks, page, reach, now):
            track.ran_at = answer.sent_at
            self._list.plan_unseen(track, now)

    def _reach(self, page: Page[AnyTrack], now: float) -> float:
        """When the oldest row of a page was created, on the loop's clock.

        ``-inf`` if there is no other page, `inf` if nobody knows.
        """
        if not page.has_more:
            return -inf
        dates = [row.created_at for row in page.items if row.created_at is not None]
        age = self._age(min(dates), now) if dates else None
        return inf if age is None else now - age

    def _seen_in_list(self, track: Watched, row: AnyTrack, answer: Response) -> None:
        """Take a row; one that lacks what its end should tell gets one read more."""
        if track.watchers and _is_cut_short(row):
            track.row = row
            self._list.hasten(track)
        else:
            self._seen(track, row, answer)

    def _seen(self, track: Watched, state: AnyTrack, answer: Response) -> None:
        """Give a state to everybody who waits for it."""
        if answer.sent_at < track.ran_at and not state.is_final:
            return  # the answer to a later read was faster
        if track.absence is not None:
            track.kind, track.absence = cast("Kind", state.kind), None
        track.unclear_since = inf
        self.on_state(state, answer.sent_at)
        track.latest = state
        track.failures, track.failure = 0, None
        track.looked_at = max(track.looked_at, answer.sent_at)
        for watcher in list(track.watchers):
            watcher.update(state, answer.sent_at)
        if state.is_final:
            self._learn(track, state, answer.received_at)
            self._inflight.observe_final(state, _hooks(track))
            self._ended(track)
            return
        track.row = None
        track.ran_at = answer.sent_at
        self.date(track, state, answer.received_at)
        if not track.is_urgent:
            self._list.plan(track, anyio.current_time())
        track.end_overtime(answer.sent_at)

    def _ended(self, track: Watched) -> None:
        if track.has_webhook:
            announced = track.noticed_at > -inf
            self._list.hints.ended(track.track_id, announced=announced)
        self._inflight.remove(track.track_id)
        self._list.drop(track.track_id)

    def date(self, track: Watched, state: AnyTrack | None, now: float) -> None:
        """Learn the age of a track that somebody else created."""
        if track.accepted_at is not None or state is None or state.created_at is None:
            return
        age = self._age(state.created_at, now)
        if age is not None:
            track.accepted_at = now - age

    def _age(self, created_at: dt.datetime, now: float) -> float | None:
        """Seconds since a date of the service's, at least; `None` if nobody knows."""
        server_now = self._clock.not_before(now)
        if server_now is None:
            return None
        return max((server_now - created_at).total_seconds(), 0.0)

    def _learn(self, track: Watched, state: AnyTrack, now: float) -> None:
        """Learn that tracks fail, or how long one took, as far as that is known."""
        if state.status == "failed":
            self._outlook.saw_failure(now)
        if state.status != "completed":
            return
        least, most = _times_told(state)
        if track.accepted_at is not None and track.ran_at > -inf:
            least = max(least, track.ran_at - track.accepted_at)
            most = min(most, now - track.accepted_at)
        rendering = getattr(state, "generation_time", None)
        if rendering is not None:
            least = rendering
        if 0 < most < inf:
            self._outlook.learn(track.kind, track.length, shortest=least, longest=most)

    def refused(self, read: Read, error: Exception, sent_at: float) -> None:
        """The service will not show what was asked for.

        Args:
            read: What that was.
            error: Its word.
            sent_at: When it was asked, on the loop's clock.
        """
        if read.offset is not None:
            if is_refusal(error):
                self._lists.refused(read.listing, anyio.current_time())
            self._page_failed(read, sent_at)
            return
        (track,) = read.tracks
        if track.row is not None:
            self._end_with_row(track, track.row)
        elif isinstance(error, NotFoundError) or read.is_guess:
            self._not_there(track, read, sent_at)
        else:
            self._give_up(track, error)

    def _give_up(self, track: Watched, error: Exception) -> None:
        for watcher in track.watchers:
            watcher.fail(error)
        self._ended(track)
        self.on_refusal(track.track_id)

    def _not_there(self, track: Watched, read: Read, sent_at: float) -> None:
        """A ``GET`` was answered with a 404."""
        if not track.watchers and track.track_id in self._list.foreign:
            self._ended(track)
            self.on_refusal(track.track_id)  # who waits for it looks for itself
            return
        gone = self.absentees.said_404(track, read.family, sent_at)
        if gone is not None:
            self._give_up(track, gone)

    def failed(self, read: Read, error: Exception, sent_at: float) -> None:
        """A read failed for a reason that may pass.

        Args:
            read: Which.
            error: Why.
            sent_at: When it was sent, on the loop's clock.
        """
        now = anyio.current_time()
        for track in read.tracks:
            track.failure = error
        if read.offset is not None:
            if isinstance(error, InternalServerError) or is_unclear(error):
                self._lists.failed(read.listing, now)
            self._page_failed(read, sent_at)
            return
        self._lists.another_failed(sent_at)
        (track,) = read.tracks
        track.end_overtime(sent_at)
        track.failures += 1
        pause = self._turn * min(2**track.failures, LONGEST_PAUSE)
        if not track.is_urgent:
            self._list.look_at(track, now + pause)
        if track.row is not None:
            self._end_with_row(track, track.row)
        elif is_unclear(error):
            track.unclear_since = min(track.unclear_since, now)
            if track.failures >= ENOUGH and now >= track.unclear_since + LASTS:
                self._give_up(track, error)

    def _page_failed(self, read: Read, sent_at: float) -> None:
        self._lists.got_none(read.listing, sent_at, anyio.current_time())
        for track in read.tracks:
            track.end_overtime(sent_at)
        for track, gone in self.absentees.failed(read, sent_at):
            self._give_up(track, gone)

    def _end_with_row(self, track: Watched, row: AnyTrack) -> None:
        """Its end is known, if not all about it: the wait does not go on for that."""
        self.on_state(row, track.looked_at)
        for watcher in track.watchers:
            watcher.update(row, track.looked_at)
        self._ended(track)


def _nobody(*_: object) -> None:
    """Nobody else wants to know."""


def _hooks(track: Watched) -> set[Hook | None]:
    """Who is told of a track by those who wait for it."""
    return {watcher.pipeline.hook for watcher in track.watchers}


def _is_cut_short(row: AnyTrack) -> bool:
    """Whether a row of a list lacks what its end should tell."""
    if row.status == "failed":
        return row.error_message is None
    return row.status == "completed" and row.audio_url is None


def _times_told(state: AnyTrack) -> tuple[float, float]:
    """Between which seconds the service's own dates say that a track took."""
    if state.created_at is None or state.completed_at is None:
        return 0.0, inf
    total = (state.completed_at - state.created_at).total_seconds()
    return max(total - CREATED_AT_STEP, 0.0), total
