"""The register: claims, the line before the gate, and seeds on their way."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio

from finetuning_async._pacing import _in_flight
from finetuning_async._pacing._in_flight import (
    LONGEST_TRACK,
    InFlight,
    QueueSlot,
    TrackInProgress,
)
from finetuning_async._runtime._keyed_lock import KeyedLock

if TYPE_CHECKING:
    import pytest


def under_way(at: float = 0.0) -> TrackInProgress:
    return TrackInProgress(kind="music", accepted_at=at, duration=None)


def ticket(woken: list[str] | None = None, name: str = "") -> QueueSlot:
    return QueueSlot(lambda: (woken if woken is not None else []).append(name))


def test_an_accepted_track_is_claimed_and_under_way_until_it_ends() -> None:
    register = InFlight()
    place = ticket()
    register.request_slot(place)
    register.take_slot(place)
    register.on_accepted("a", under_way())
    assert register.is_claimed("a")
    assert list(register.tracks) == ["a"]
    register.remove("a")
    register.remove("a")
    assert not register.tracks
    assert register.is_claimed("a")


def test_a_found_track_left_the_gate_when_it_was_lost() -> None:
    register = InFlight()
    place = ticket()
    register.request_slot(place)
    register.take_slot(place)
    register.on_not_accepted()
    register.adopt("a", under_way())
    assert register._capacity.pending == 0
    assert list(register.tracks) == ["a"]


def test_the_line_moves_when_its_head_enters_or_leaves() -> None:
    register, woken = InFlight(), list[str]()
    a, b, c = (ticket(woken, name) for name in "abc")
    for place in (a, b, c):
        register.request_slot(place)
    assert register.slot_opens_at(a) == -inf
    assert register.slot_opens_at(b) == inf
    register.take_slot(a)
    assert woken == ["b"]
    register.cancel_slot(b)
    assert woken == ["b", "c"]


def test_one_that_was_refused_goes_first() -> None:
    register = InFlight()
    waiting, refused = ticket(), ticket()
    register.request_slot(waiting)
    register.request_slot(refused, first=True)
    assert register.slot_opens_at(waiting) == inf
    assert register.slot_opens_at(refused) == -inf


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
        register.request_slot(place)
        register.take_slot(place)
        register.on_accepted(str(number), under_way(at=number * 60.0))
    assert len(register.tracks) == LONGEST_TRACK / 60 + 1


def test_a_seed_is_shared_from_the_moment_two_are_on_their_way() -> None:
    register = InFlight()
    with register.seed_in_flight("music", 1) as first:
        assert not first.is_shared
        with (
            register.seed_in_flight("music", 2) as other,
            register.seed_in_flight("instrumental", 1) as kind,
            register.seed_in_flight("music", 1) as second,
        ):
            assert first.is_shared
            assert second.is_shared
            assert not other.is_shared
            assert not kind.is_shared
        assert first.is_shared
    assert not register._seeds_in_flight
    with register.seed_in_flight("sound_effect", None) as none:
        assert not none.is_shared


async def test_twins_go_one_by_one_and_others_do_not() -> None:
    lines, done = KeyedLock(), list[str]()

    async def stay(name: str) -> None:
        await lines.enter((name[0],))
        done.append(name)
        await anyio.sleep(1)
        lines.leave((name[0],))

    async with anyio.create_task_group() as group:
        for name in ("a1", "b1", "a2", "a3"):
            group.start_soon(stay, name)
            await anyio.sleep(0.01)
        assert done == ["a1", "b1"]
        assert repr(lines) == "<OneByOne busy=2>"
    assert done == ["a1", "b1", "a2", "a3"]
    assert not lines._waiting


async def test_a_twin_that_is_cancelled_lets_the_next_one_in() -> None:
    lines, twin = KeyedLock(), ("a",)
    done: list[str] = []

    async def wait_for_it(scope: anyio.CancelScope) -> None:
        with scope:
            await lines.enter(twin)
            lines.leave(twin)  # it came in before it heard that it was cancelled

    async def follow() -> None:
        await lines.enter(twin)
        done.append("next")
        lines.leave(twin)

    for is_its_turn in (False, True):
        await lines.enter(twin)
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_it, scope)
            await anyio.sleep(0.01)
            group.start_soon(follow)
            await anyio.sleep(0.01)
            if is_its_turn:  # it was called, and has not come in yet
                lines.leave(twin)
            scope.cancel()
            await anyio.sleep(0.01)
            if not is_its_turn:
                lines.leave(twin)
    assert done == ["next", "next"]
    assert not lines._waiting
