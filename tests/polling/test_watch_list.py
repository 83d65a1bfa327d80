"""The watch list and its deadlines, without a loop."""

from __future__ import annotations

import random
from math import inf
from typing import Any, cast

from finetuning_async._api._models import Generation
from finetuning_async._coordination import WatchedTrack
from finetuning_async._pacing._in_flight import InFlight, TrackInProgress
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._reads_in_flight import ReadInFlight, ReadsInFlight
from finetuning_async._polling._schedule import (
    FIRST_LOOK,
    SHOWN_EVERY,
    SHOWN_SOONER,
    WEBHOOK_PAUSE,
    DurationEstimator,
)
from finetuning_async._polling._waiters import OVERTIME, Watcher
from finetuning_async._polling._watch_list import Watched, WatchList
from finetuning_async._polling._webhook_hints import TRUSTED_AFTER


def watcher(
    track_id: str, deadline: float = inf, overtime: float = OVERTIME
) -> Watcher:
    pipeline = cast("Any", None)
    return Watcher(pipeline, track_id, None, deadline=deadline, overtime=overtime)


def watch_list(
    *under_way: str, estimator: DurationEstimator | None = None
) -> tuple[WatchList, InFlight]:
    inflight = InFlight()
    for track_id in under_way:
        accepted = TrackInProgress(kind="music", accepted_at=0.0, duration=None)
        inflight.tracks[track_id] = accepted
    return WatchList(inflight, estimator or DurationEstimator(), scale=1.0), inflight


def test_a_track_is_watched_as_long_as_it_has_a_watcher() -> None:
    tracks, _ = watch_list()
    first, second = watcher("a"), watcher("a")
    tracks.add(first, "music", 0.0)
    tracks.add(second, "music", 0.0)
    assert len(tracks) == 1
    tracks.discard(first)
    assert len(tracks) == 1
    tracks.discard(second)
    tracks.discard(second)
    assert len(tracks) == 0


def test_a_watcher_that_joins_gets_the_last_state_at_once() -> None:
    tracks, _ = watch_list()
    track = tracks.add(watcher("a"), "music", 0.0)
    track.latest = Generation(id="a", status="processing")
    late = watcher("a")
    tracks.add(late, "music", 5.0)
    assert late.ready
    assert late.latest is track.latest


def test_what_the_register_knows_of_a_track_is_used() -> None:
    tracks, inflight = watch_list()
    inflight.tracks["fx"] = TrackInProgress(
        kind="sound_effect", accepted_at=7.0, duration=4.0
    )
    track = tracks.add(watcher("fx"), "music", 8.0)  # an id does not show its kind
    assert track.family == "sound_effects"
    assert (track.accepted_at, track.length) == (7.0, 4.0)


def test_a_track_of_unknown_age_is_due_at_once() -> None:
    tracks, _ = watch_list()
    track = tracks.add(watcher("a"), "music", 3.0)
    assert tracks.due(3.0) == [track]


def test_all_accepted_tracks_are_watched_between_watch_all_and_unwatch_all() -> None:
    tracks, inflight = watch_list("a", "b")
    tracks.watch_all(0.0)
    tracks.watch_all(0.0)
    assert len(tracks) == 2
    inflight.tracks["c"] = inflight.tracks["a"]
    tracks.follow_inflight(1.0)
    tracks.unwatch_all()
    assert len(tracks) == 3
    tracks.add(watcher("b"), "music", 1.0)
    tracks.unwatch_all()
    assert len(tracks) == 1


def test_tracks_due_soon_come_along_only_with_one_that_is_due() -> None:
    tracks, _ = watch_list("a", "b")
    a = tracks.add(watcher("a"), "music", 0.0)
    b = tracks.add(watcher("b"), "music", 0.0)
    tracks.schedule_look(a, 10.0)
    tracks.schedule_look(b, 11.0)
    assert tracks.due(9.9, soon=2.0) == []
    assert tracks.next_look() == 10.0
    assert tracks.due(10.0, soon=2.0) == [a, b]
    tracks.schedule_now(b)
    assert tracks.due(10.0, soon=2.0) == [b, a]
    assert tracks.next_look() == -inf


def test_an_unfinished_wait_is_planned_by_the_age_of_its_track() -> None:
    tracks, inflight = watch_list()
    inflight.tracks["a"] = TrackInProgress(
        kind="music", accepted_at=10.0, duration=None
    )
    assert tracks.add(watcher("a"), "music", 11.0).next_look == 10.0 + FIRST_LOOK


def test_what_others_wait_for_is_as_old_as_they_say_unless_it_is_known_here() -> None:
    tracks, _ = watch_list("ours")
    wanted = [
        WatchedTrack(id="ours", kind="music", age=30.0, length=60.0),
        WatchedTrack(id="foreign", kind="music", age=30.0, length=60.0),
        WatchedTrack(id="old", kind="music"),
    ]
    tracks.follow_foreign({track.id: track for track in wanted}, 100.0)
    found = [tracks.get(track.id) for track in wanted]
    assert [(track.accepted_at, track.length) for track in found if track] == [
        (0.0, None),
        (70.0, 60.0),
        (None, None),
    ]


def test_hints_about_a_track_are_followed_once_a_second() -> None:
    tracks, _ = watch_list("a")
    track = tracks.add(watcher("a"), "music", 0.0)

    def next_look_after_a_hint(now: float, planned: float) -> float:
        track.is_urgent = False
        tracks.schedule_look(track, planned)
        assert tracks.hint("a", now) is track
        assert track.is_urgent is (track.next_look == -inf)
        return track.next_look

    assert next_look_after_a_hint(10.0, 99.0) == -inf
    assert next_look_after_a_hint(10.5, 99.0) == 11.0
    assert next_look_after_a_hint(10.5, 10.7) == 10.7
    assert next_look_after_a_hint(11.0, 99.0) == -inf


def test_a_hint_about_a_track_is_used_when_that_is_watched() -> None:
    tracks, _ = watch_list("a", "b")
    assert tracks.hint("a", 0.0) is None
    assert tracks.add(watcher("a"), "music", 1.0).is_urgent
    assert not tracks.add(watcher("b"), "music", 1.0).is_urgent


def test_a_track_whose_webhook_is_awaited_is_rarely_read_until_it_was_hinted() -> None:
    estimator = DurationEstimator()
    for seconds in (50.0, 150.0) * 50:
        estimator.learn("music", None, shortest=seconds, longest=seconds)
    tracks, _ = watch_list("a", estimator=estimator)
    track = tracks.add(watcher("a"), "music", 0.0)

    def pause() -> float:
        tracks.plan(track, 100.0)
        return track.next_look - 100.0

    track.has_webhook = True
    assert pause() == 0.0, "it is not known whether webhooks arrive"
    for number in range(TRUSTED_AFTER):
        tracks.hints.record_end(str(number), announced=True)
    assert pause() == WEBHOOK_PAUSE
    tracks.hint("a", 100.0)
    assert pause() == 0.0
    track.has_webhook, track.hinted_at = False, -inf
    assert pause() == 0.0


def look(*_: object) -> bool:
    return True


def no_look(*_: object) -> bool:
    return False


def flying(*tracks: Watched, sent_at: float) -> ReadsInFlight:
    """One read on the wire."""
    in_flight = ReadInFlight(watcher("reader"), Read("generations", tracks), sent_at)
    flights = ReadsInFlight()
    flights.add(in_flight)
    return flights


def test_at_a_deadline_there_is_one_look_however_recent_the_last_one_is() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    track.looked_at = 29.9
    tracks.schedule_look(track, 100.0)
    tracks.expire_deadlines(
        30.0, can_look=look, pending_since=ReadsInFlight().pending_since
    )
    assert not waits.ready
    assert track.next_look == -inf
    assert tracks.is_last_look(track)
    assert tracks.next_deadline() == 30.0 + OVERTIME
    tracks.expire_deadlines(
        30.0 + OVERTIME, can_look=look, pending_since=ReadsInFlight().pending_since
    )
    assert waits.timed_out


def test_a_deadline_that_expires_late_still_gets_a_look() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(
        500.0, can_look=look, pending_since=ReadsInFlight().pending_since
    )
    assert tracks.next_deadline() == 500.0 + OVERTIME


def test_a_deadline_during_a_look_waits_for_its_response() -> None:
    tracks, _ = watch_list()
    waits, other = watcher("a", deadline=30.0), watcher("b", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    tracks.add(other, "music", 0.0)
    tracks.expire_deadlines(
        30.0, can_look=no_look, pending_since=flying(track, sent_at=29.6).pending_since
    )
    assert (waits.ready, other.timed_out) == (False, True)
    assert not track.is_urgent
    assert tracks.next_deadline() == 30.0 + OVERTIME
    track.end_overtime(29.6)
    assert waits.timed_out, "no other look is to come"


def test_a_look_sent_before_the_deadline_does_not_end_the_wait() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(
        30.0, can_look=look, pending_since=flying(track, sent_at=29.9).pending_since
    )
    track.end_overtime(29.9)
    assert not waits.timed_out
    track.is_urgent, track.looked_at = False, 30.0  # it is sent at once
    track.end_overtime(29.9)
    assert not waits.timed_out
    track.end_overtime(30.0)
    assert waits.timed_out


def test_a_timeout_of_0_waits_for_its_one_look() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0, overtime=12.0)
    tracks.add(waits, "music", 30.0)
    tracks.expire_deadlines(
        30.0, can_look=look, pending_since=ReadsInFlight().pending_since
    )
    assert tracks.next_deadline() == 42.0


def test_a_look_ends_overtime_and_nothing_else() -> None:
    tracks, _ = watch_list()
    over, waits = watcher("a", deadline=30.0), watcher("a")
    track = tracks.add(over, "music", 0.0)
    tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(
        30.0, can_look=look, pending_since=ReadsInFlight().pending_since
    )
    track.end_overtime(30.0)
    assert (over.timed_out, waits.timed_out, waits.ready) == (True, False, False)


def test_without_a_possible_look_there_is_no_overtime() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(
        30.0, can_look=no_look, pending_since=ReadsInFlight().pending_since
    )
    assert waits.timed_out
    assert not tracks.has_pending_last_look


def test_a_last_look_is_forgotten_once_it_is_sent_or_its_watcher_left() -> None:
    tracks, _ = watch_list()
    waits = [watcher(name, deadline=30.0) for name in ("a", "b")]
    a, _ = (tracks.add(each, "music", 0.0) for each in waits)
    tracks.expire_deadlines(
        30.0, can_look=look, pending_since=ReadsInFlight().pending_since
    )
    c = tracks.add(watcher("c"), "music", 0.0)
    tracks.schedule_now(c)
    assert not tracks.is_last_look(c), "however urgent it is"
    assert tracks.is_last_look(a)
    a.is_urgent = False
    assert not tracks.is_last_look(a)
    assert tracks.has_pending_last_look
    tracks.discard(waits[1])
    assert not tracks.has_pending_last_look


def test_a_partial_row_is_delivered_at_the_deadline() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    track.partial_row = Generation(id="a", status="failed")
    tracks.expire_deadlines(
        30.0, can_look=no_look, pending_since=ReadsInFlight().pending_since
    )
    assert waits.timed_out
    assert waits.latest is track.partial_row


def test_the_status_of_a_due_track_is_read_within_a_while() -> None:
    tracks, _ = watch_list("a")
    track = tracks.add(watcher("a"), "music", 0.0)
    assert (track.next_look, track.status_due_by) == (
        FIRST_LOOK,
        FIRST_LOOK + SHOWN_EVERY,
    )
    tracks.plan_unseen(track, 10.0)
    assert (track.next_look, track.status_due_by) == (10.0, FIRST_LOOK + SHOWN_EVERY)
    tracks.plan(track, 20.0)
    assert track.status_due_by == 20.0 + SHOWN_EVERY
    tracks.schedule_now(track)
    assert track.status_due_by == -inf


def test_the_status_of_an_overdue_track_is_read_sooner() -> None:
    estimator = DurationEstimator()
    for _ in range(100):
        estimator.learn("music", None, shortest=20.0, longest=20.0)
    tracks, _ = watch_list("a", estimator=estimator)
    track = tracks.add(watcher("a"), "music", 0.0)
    tracks.plan(track, 19.0)
    assert track.status_due_by == 19.0 + SHOWN_SOONER
    tracks.plan(track, 1.0)
    assert track.status_due_by == track.next_look + SHOWN_SOONER


def test_an_update_wakes_only_if_the_status_changes() -> None:
    waits = watcher("a")
    for status, is_news in (
        ("pending", True),
        ("pending", False),
        ("processing", True),
        ("completed", True),
    ):
        waits.ready = False
        waits.update(Generation(id="a", status=status), 0.0)
        assert waits.ready is is_news


def test_due_agrees_with_next_look_whatever_happens() -> None:
    rng = random.Random(1)
    tracks, _ = watch_list()
    waits = [watcher(str(n)) for n in range(30)]
    for step in range(2000):
        now = step / 10
        one = rng.choice(waits)
        track = tracks.get(one.track_id)
        if track is None:
            tracks.add(one, "music", now)
        elif rng.random() < 0.2:
            tracks.discard(one)
        else:
            tracks.schedule_look(track, now + rng.uniform(0, 20))
        first = min(
            (t.next_look for t in map(tracks.get, map(str, range(30))) if t),
            default=inf,
        )
        assert tracks.next_look() <= first
        tracks.due(now)
        assert tracks.next_look() == first
