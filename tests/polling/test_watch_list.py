"""The watch list and its timers, without a loop."""

from __future__ import annotations

import random
from math import inf
from typing import Any, cast

from finetuning_async._api._models import Generation
from finetuning_async._pacing._in_flight import InFlight, TrackInProgress
from finetuning_async._polling._read_planner import Read
from finetuning_async._polling._reads_in_flight import ReadInFlight, ReadsInFlight
from finetuning_async._polling._schedule import (
    FIRST_LOOK,
    SHOWN_EVERY,
    SHOWN_SOONER,
    DurationEstimator,
)
from finetuning_async._polling._watch_list import OVERTIME, Watched, Watcher, WatchList


def watcher(
    track_id: str, deadline: float = inf, overtime: float = OVERTIME
) -> Watcher:
    pipeline = cast("Any", None)
    return Watcher(pipeline, track_id, None, deadline=deadline, overtime=overtime)


def watch_list(
    *under_way: str, outlook: DurationEstimator | None = None
) -> tuple[WatchList, InFlight]:
    inflight = InFlight()
    for track_id in under_way:
        accepted = TrackInProgress(kind="music", accepted_at=0.0, duration=None)
        inflight.tracks[track_id] = accepted
    return WatchList(inflight, outlook or DurationEstimator(), scale=1.0), inflight


def test_a_track_is_watched_as_long_as_somebody_watches_it() -> None:
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


def test_whoever_joins_is_told_the_last_state_at_once() -> None:
    tracks, _ = watch_list()
    track = tracks.add(watcher("a"), "music", 0.0)
    track.latest = Generation(id="a", status="processing")
    late = watcher("a")
    tracks.add(late, "music", 5.0)
    assert late.ready
    assert late.latest is track.latest


def test_what_the_register_knows_of_a_track_counts() -> None:
    tracks, inflight = watch_list()
    inflight.tracks["fx"] = TrackInProgress(
        kind="sound_effect", accepted_at=7.0, duration=4.0
    )
    track = tracks.add(watcher("fx"), "music", 8.0)  # an id says nothing of its kind
    assert track.family == "sound_effects"
    assert (track.accepted_at, track.length) == (7.0, 4.0)


def test_a_track_of_unknown_age_is_looked_at_at_once() -> None:
    tracks, _ = watch_list()
    track = tracks.add(watcher("a"), "music", 3.0)
    assert tracks.due(3.0) == [track]


def test_all_that_is_under_way_is_watched_while_somebody_asks_for_it() -> None:
    tracks, inflight = watch_list("a", "b")
    tracks.watch_all(0.0)
    tracks.watch_all(0.0)
    assert len(tracks) == 2
    inflight.tracks["c"] = inflight.tracks["a"]
    tracks.follow_inflight(1.0)
    tracks.release_all()
    assert len(tracks) == 3
    tracks.add(watcher("b"), "music", 1.0)
    tracks.release_all()
    assert len(tracks) == 1


def test_those_due_soon_come_along_but_only_with_one_that_is_due() -> None:
    tracks, _ = watch_list("a", "b")
    a = tracks.add(watcher("a"), "music", 0.0)
    b = tracks.add(watcher("b"), "music", 0.0)
    tracks.look_at(a, 10.0)
    tracks.look_at(b, 11.0)
    assert tracks.due(9.9, soon=2.0) == []
    assert tracks.next_look() == 10.0
    assert tracks.due(10.0, soon=2.0) == [a, b]
    tracks.hasten(b)
    assert tracks.due(10.0, soon=2.0) == [b, a]
    assert tracks.next_look() == -inf


def look(*_: object) -> bool:
    return True


def no_look(*_: object) -> bool:
    return False


def flying(*tracks: Watched, sent_at: float) -> ReadsInFlight:
    """One read on the wire."""
    flight = ReadInFlight(watcher("reader"), Read("generations", tracks), sent_at)
    flights = ReadsInFlight()
    flights.add(flight)
    return flights


def test_at_a_deadline_there_is_one_look_however_fresh_the_last_one_is() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    track.looked_at = 29.9
    tracks.look_at(track, 100.0)
    tracks.expire_deadlines(30.0, may_look=look, asked_at=ReadsInFlight().asked_at)
    assert not waits.ready
    assert track.next_look == -inf
    assert tracks.is_last_look(track)
    assert tracks.next_alarm() == 30.0 + OVERTIME
    tracks.expire_deadlines(
        30.0 + OVERTIME, may_look=look, asked_at=ReadsInFlight().asked_at
    )
    assert waits.is_over


def test_a_late_alarm_is_followed_by_a_look_all_the_same() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(500.0, may_look=look, asked_at=ReadsInFlight().asked_at)
    assert tracks.next_alarm() == 500.0 + OVERTIME


def test_a_deadline_in_the_middle_of_a_look_waits_for_what_it_shows() -> None:
    tracks, _ = watch_list()
    waits, other = watcher("a", deadline=30.0), watcher("b", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    tracks.add(other, "music", 0.0)
    tracks.expire_deadlines(
        30.0, may_look=no_look, asked_at=flying(track, sent_at=29.6).asked_at
    )
    assert (waits.ready, other.is_over) == (False, True)
    assert not track.is_urgent
    assert tracks.next_alarm() == 30.0 + OVERTIME
    track.end_overtime(29.6)
    assert waits.is_over, "no other look is to come"


def test_what_a_look_before_the_deadline_shows_is_not_the_last_word() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(
        30.0, may_look=look, asked_at=flying(track, sent_at=29.9).asked_at
    )
    track.end_overtime(29.9)
    assert not waits.is_over
    track.is_urgent = False  # it goes out
    track.end_overtime(30.1)
    assert waits.is_over


def test_the_look_of_a_wait_without_time_is_heard_to_its_end() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0, overtime=12.0)
    tracks.add(waits, "music", 30.0)
    tracks.expire_deadlines(30.0, may_look=look, asked_at=ReadsInFlight().asked_at)
    assert tracks.next_alarm() == 42.0


def test_a_look_ends_overtime_and_nothing_else() -> None:
    tracks, _ = watch_list()
    over, waits = watcher("a", deadline=30.0), watcher("a")
    track = tracks.add(over, "music", 0.0)
    tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(30.0, may_look=look, asked_at=ReadsInFlight().asked_at)
    track.end_overtime(30.0)
    assert (over.is_over, waits.is_over, waits.ready) == (True, False, False)


def test_no_overtime_where_no_look_can_be_had() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    tracks.add(waits, "music", 0.0)
    tracks.expire_deadlines(30.0, may_look=no_look, asked_at=ReadsInFlight().asked_at)
    assert waits.is_over
    assert not tracks.awaits_last_look


def test_a_last_look_is_forgotten_once_it_has_gone_out_or_nobody_waits() -> None:
    tracks, _ = watch_list()
    waits = [watcher(name, deadline=30.0) for name in ("a", "b")]
    a, _ = (tracks.add(each, "music", 0.0) for each in waits)
    tracks.expire_deadlines(30.0, may_look=look, asked_at=ReadsInFlight().asked_at)
    a.is_urgent = False
    assert tracks.awaits_last_look
    tracks.discard(waits[1])
    assert not tracks.awaits_last_look


def test_an_end_of_which_not_all_is_known_is_told_at_the_deadline() -> None:
    tracks, _ = watch_list()
    waits = watcher("a", deadline=30.0)
    track = tracks.add(waits, "music", 0.0)
    track.row = Generation(id="a", status="failed")
    tracks.expire_deadlines(30.0, may_look=no_look, asked_at=ReadsInFlight().asked_at)
    assert waits.is_over
    assert waits.latest is track.row


def test_a_track_that_is_due_is_shown_within_a_while_whatever_its_status() -> None:
    tracks, _ = watch_list("a")
    track = tracks.add(watcher("a"), "music", 0.0)
    assert (track.next_look, track.show_by) == (FIRST_LOOK, FIRST_LOOK + SHOWN_EVERY)
    tracks.plan_unseen(track, 10.0)
    assert (track.next_look, track.show_by) == (10.0, FIRST_LOOK + SHOWN_EVERY)
    tracks.plan(track, 20.0)
    assert track.show_by == 20.0 + SHOWN_EVERY
    tracks.hasten(track)
    assert track.show_by == -inf


def test_an_overdue_track_is_shown_sooner() -> None:
    outlook = DurationEstimator()
    for _ in range(100):
        outlook.learn("music", None, shortest=20.0, longest=20.0)
    tracks, _ = watch_list("a", outlook=outlook)
    track = tracks.add(watcher("a"), "music", 0.0)
    tracks.plan(track, 19.0)
    assert track.show_by == 19.0 + SHOWN_SOONER
    tracks.plan(track, 1.0)
    assert track.show_by == track.next_look + SHOWN_SOONER


def test_an_update_is_news_only_if_the_status_changes() -> None:
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


def test_due_agrees_with_the_next_look_whatever_happens() -> None:
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
            tracks.look_at(track, now + rng.uniform(0, 20))
        first = min(
            (t.next_look for t in map(tracks.get, map(str, range(30))) if t),
            default=inf,
        )
        assert tracks.next_look() <= first
        tracks.due(now)
        assert tracks.next_look() == first
