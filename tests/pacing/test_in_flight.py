"""Tracks in progress: claims, the line for a queue slot, and seeds in flight."""

from __future__ import annotations

from math import inf

import anyio
import attrs
import pytest

from finetuning_async import Event, GenerationEnded
from finetuning_async._api import parsing
from finetuning_async._event_hook import as_hook
from finetuning_async._pacing import _in_flight
from finetuning_async._pacing._in_flight import (
    LONGEST_TRACK,
    InFlight,
    QueueSlot,
    TrackInProgress,
)


def track(at: float = 0.0) -> TrackInProgress:
    return TrackInProgress(kind="music", accepted_at=at, duration=None)


def slot(woken: list[str] | None = None, name: str = "") -> QueueSlot:
    return QueueSlot(lambda: (woken if woken is not None else []).append(name))


def waiting_in(in_flight: InFlight) -> QueueSlot:
    request = slot()
    in_flight.request_slot(request)
    return request


def test_an_accepted_track_is_claimed_and_in_progress_until_it_ends() -> None:
    in_flight = InFlight()
    request = slot()
    in_flight.request_slot(request)
    in_flight.take_slot(request)
    in_flight.on_accepted("a", track())
    assert in_flight.is_claimed("a")
    assert list(in_flight.tracks) == ["a"]
    in_flight.remove("a")
    in_flight.remove("a")
    assert not in_flight.tracks
    assert in_flight.is_claimed("a")


def test_a_recovered_track_takes_no_slot_again() -> None:
    in_flight = InFlight()
    request = slot()
    in_flight.request_slot(request)
    in_flight.take_slot(request)
    in_flight.on_not_accepted()
    in_flight.adopt("a", track())
    assert in_flight._capacity.pending == 0
    assert list(in_flight.tracks) == ["a"]


def test_the_line_moves_when_its_head_takes_or_cancels_its_slot() -> None:
    in_flight, woken = InFlight(), list[str]()
    a, b, c = (slot(woken, name) for name in "abc")
    for request in (a, b, c):
        in_flight.request_slot(request)
    assert in_flight.slot_opens_at(a) == -inf
    assert in_flight.slot_opens_at(b) == inf
    in_flight.take_slot(a)
    assert woken == ["b"]
    in_flight.cancel_slot(b)
    assert woken == ["b", "c"]


def test_a_track_that_is_gone_moves_the_line_once() -> None:
    in_flight, woken, changes = InFlight(), list[str](), list[None]()
    in_flight.take_slot(waiting_in(in_flight))
    in_flight.on_accepted("a", track())
    in_flight.request_slot(slot(woken, "next"))
    in_flight.on_change = lambda: changes.append(None)
    for _ in range(2):
        in_flight.remove("a")
        assert (woken, len(changes)) == (["next"], 1)


def test_a_refused_create_goes_first() -> None:
    in_flight = InFlight()
    waiting, refused = slot(), QueueSlot(lambda: None, first=True)
    in_flight.request_slot(waiting)
    in_flight.request_slot(refused)
    assert in_flight.slot_opens_at(waiting) == inf
    assert in_flight.slot_opens_at(refused) == -inf


async def test_a_queue_full_of_others_is_tried_again_after_five_seconds() -> None:
    in_flight = InFlight()
    in_flight.take_slot(waiting_in(in_flight))
    in_flight.on_queue_full()
    expected = anyio.current_time() + 5
    assert in_flight.next_retry_at() == pytest.approx(expected, abs=0.001)
    in_flight.take_slot(waiting_in(in_flight))
    assert in_flight.next_retry_at() == -inf, "once that one has its response"


async def test_a_full_queue_with_one_of_ours_may_have_room_at_any_time() -> None:
    in_flight = InFlight()
    in_flight.adopt("ours", track())
    in_flight.take_slot(waiting_in(in_flight))
    in_flight.on_queue_full()
    assert in_flight.next_retry_at() == -inf


def test_old_claims_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_in_flight, "CLAIMS_KEPT", 3)
    in_flight = InFlight()
    for name in "abcd":
        in_flight.claim(name)
    assert [in_flight.is_claimed(name) for name in "abcd"] == [False, True, True, True]


async def test_of_what_was_listed_and_has_ended_as_much_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_in_flight, "CLAIMS_KEPT", 3)
    in_flight, events = InFlight(), list[Event]()
    in_flight.mark_listed("abcd")
    in_flight.mark_listed("bcd")
    assert in_flight.listed_at("a") == inf
    assert all(in_flight.listed_at(name) < inf for name in "bcd")
    for name in "abcdbcda":
        ended = parsing.generation_row({"id": name, "status": "completed"})
        in_flight.observe_final(ended, [as_hook(events.append)])
    assert [getattr(event, "generation_id", "") for event in events] == list("abcda")


def test_tracks_that_are_never_read_are_forgotten_after_an_hour() -> None:
    in_flight = InFlight()
    for number in range(1000):
        request = slot()
        in_flight.request_slot(request)
        in_flight.take_slot(request)
        in_flight.on_accepted(str(number), track(at=number * 60.0))
    assert len(in_flight.tracks) == LONGEST_TRACK / 60 + 1


async def test_an_end_is_reported_with_the_seconds_since_the_acceptance() -> None:
    in_flight, events = InFlight(), list[Event]()
    await anyio.sleep(100)
    accepted = attrs.evolve(track(anyio.current_time()), hook=as_hook(events.append))
    in_flight.on_accepted("a", accepted)
    await anyio.sleep(30)
    ended = parsing.generation_row({"id": "a", "status": "completed"})
    in_flight.observe_final(ended)
    (event,) = events
    assert isinstance(event, GenerationEnded)
    assert event.duration == pytest.approx(30)


async def test_an_end_is_reported_once_however_often_it_is_seen() -> None:
    in_flight, events = InFlight(), list[Event]()
    for track_id in ("a", "b", "a", "b"):
        track = parsing.generation_row({"id": track_id, "status": "completed"})
        in_flight.observe_final(track, [as_hook(events.append)])
    assert [getattr(event, "generation_id", None) for event in events] == ["a", "b"]


def test_a_seed_is_shared_once_two_creates_with_it_are_in_flight() -> None:
    in_flight = InFlight()
    with in_flight.seed_in_flight("music", 1) as first:
        assert not first.is_shared
        with (
            in_flight.seed_in_flight("music", 2) as other,
            in_flight.seed_in_flight("instrumental", 1) as kind,
            in_flight.seed_in_flight("music", 1) as second,
        ):
            assert first.is_shared
            assert second.is_shared
            assert not other.is_shared
            assert not kind.is_shared
            assert in_flight.is_seed_in_flight("music", 2)
            assert not in_flight.is_seed_in_flight("music", None)
            assert not in_flight.is_seed_in_flight("sound_effect", 1)
        assert first.is_shared
    assert not in_flight._seeds_in_flight
    with in_flight.seed_in_flight("sound_effect", None) as none:
        assert not none.is_shared
