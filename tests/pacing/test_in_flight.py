"""The register: claims, the line before the gate, and seeds on their way."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from finetuning_async._pacing import _in_flight
from finetuning_async._pacing._in_flight import (
    LONGEST_TRACK,
    InFlight,
    QueueSlot,
    TrackInProgress,
)

if TYPE_CHECKING:
    import pytest


def under_way(at: float = 0.0) -> TrackInProgress:
    return TrackInProgress(kind="music", accepted_at=at, duration=None)


def ticket(woken: list[str] | None = None, name: str = "") -> QueueSlot:
    return QueueSlot(lambda: (woken if woken is not None else []).append(name))


def test_an_accepted_track_is_claimed_and_under_way_until_it_ends() -> None:
    register = InFlight()
    place = ticket()
    register.stand_in_line(place)
    register.enter(place)
    register.accepted("a", under_way())
    assert register.is_claimed("a")
    assert list(register.under_way) == ["a"]
    register.ended("a")
    register.ended("a")
    assert not register.under_way
    assert register.is_claimed("a")


def test_a_found_track_left_the_gate_when_it_was_lost() -> None:
    register = InFlight()
    place = ticket()
    register.stand_in_line(place)
    register.enter(place)
    register.not_entered()
    register.adopted("a", under_way())
    assert register._gate.entering == 0
    assert list(register.under_way) == ["a"]


def test_the_line_moves_when_its_head_enters_or_leaves() -> None:
    register, woken = InFlight(), list[str]()
    a, b, c = (ticket(woken, name) for name in "abc")
    for place in (a, b, c):
        register.stand_in_line(place)
    assert register.opens(a) == -inf
    assert register.opens(b) == inf
    register.enter(a)
    assert woken == ["b"]
    register.leave_line(b)
    assert woken == ["b", "c"]


def test_one_that_was_refused_goes_first() -> None:
    register = InFlight()
    waiting, refused = ticket(), ticket()
    register.stand_in_line(waiting)
    register.stand_in_line(refused, first=True)
    assert register.opens(waiting) == inf
    assert register.opens(refused) == -inf


def test_claims_are_kept_for_a_day_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_in_flight, "CLAIMS_KEPT", 3)
    register = InFlight()
    for name in "abcd":
        register.claim(name)
    assert [register.is_claimed(name) for name in "abcd"] == [False, True, True, True]


def test_tracks_that_nobody_looks_at_are_forgotten_in_the_end() -> None:
    register = InFlight()
    for number in range(1000):
        place = ticket()
        register.stand_in_line(place)
        register.enter(place)
        register.accepted(str(number), under_way(at=number * 60.0))
    assert len(register.under_way) == LONGEST_TRACK / 60 + 1


def test_a_seed_is_shared_from_the_moment_two_are_on_their_way() -> None:
    register = InFlight()
    with register.open_seed("music", 1) as first:
        assert not first.is_shared
        with (
            register.open_seed("music", 2) as other,
            register.open_seed("instrumental", 1) as kind,
            register.open_seed("music", 1) as second,
        ):
            assert first.is_shared
            assert second.is_shared
            assert not other.is_shared
            assert not kind.is_shared
        assert first.is_shared
    assert not register._open_seeds
    with register.open_seed("sound_effect", None) as none:
        assert not none.is_shared
