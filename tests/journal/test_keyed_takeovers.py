"""What one process makes of a key that another has left, step by step.

The same processes as in `test_keyed_crashes`, but each test says what happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from finetuning_async import GenerationRequest, IdempotencyConflictError
from finetuning_async.emulator import Fault
from tests.journal._journal_stores import STORES
from tests.journal._key_spaces import new_key_space
from tests.journal._processes import World

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.sampled(2)

RAIN: Final = GenerationRequest("rain", idempotency_key="k")
SEEDED: Final = GenerationRequest("rain", seed=5, idempotency_key="k")
"""Another may look like it, so it is committed as planned before it is sent."""

CREATES: Final[dict[str, Any]] = {"path": "/v1/generations", "method": "POST"}
LEASE: Final = 6.0
COMMITS: Final = ((RAIN, 1), (RAIN, 2), (RAIN, 3), (SEEDED, 1), (SEEDED, 2))
"""Of one create and its wait: sending, accepted, completed; and planned, sending."""

LONGEST_PROOF: Final = 1500.0
"""Seconds within which it is certainly proved that the only create made no track."""


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(new_key_space(request.param, request))
    yield made
    made.close()


def until_told(
    world: World,
    number: int,
    longest: float = LONGEST_PROOF,
    request: GenerationRequest = RAIN,
) -> str:
    """Ask until an id comes back, as callers do after an error."""
    waited = 0.0
    task = world.ask(number, request)
    while waited < longest:
        seconds = 1.0 if waited < 60.0 else 10.0
        world.advance(seconds)
        waited += seconds
        if task.done() and not world.told["k"]:
            task = world.ask(number, request)
        elif task.done():
            break
    assert len(world.told["k"]) == 1, (world.told, world.entries(), world.errors)
    return min(world.told["k"])


def check_paid_once(world: World) -> None:
    entry = world.entries()["k"]
    assert world.unexpected == []
    assert world.spent() == 1
    assert list(world.service.tracks) == [entry.generation_id]
    assert world.told["k"] == {entry.generation_id}
    assert entry.state in ("accepted", "completed")


def listings(world: World) -> int:
    """How often the service's list was read."""
    return world.service.count(method="GET", path="/v1/generations")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", STORES)
def test_a_crash_at_any_commit_is_paid_once(
    request: pytest.FixtureRequest, kind: str, after: bool
) -> None:
    for asked, commit in COMMITS:
        world = World(new_key_space(kind, request))
        first = world.processes[0]
        first.dies_in, first.dies_after = commit, after
        world.ask(0, asked, waits=True)
        world.advance(200.0)
        assert first.is_dead
        until_told(world, 1, request=asked)
        world.restart(0)
        until_told(world, 0, request=asked)
        check_paid_once(world)
        world.close()


def test_the_key_of_a_process_that_died_before_it_sent_is_taken_over_at_once(
    world: World,
) -> None:
    first = world.processes[0]
    first.dies_in, first.dies_after = 1, True
    world.ask(0, SEEDED)
    world.advance(1.0)
    assert first.is_dead
    until_told(world, 1, LEASE + 2.0, SEEDED)
    check_paid_once(world)


def test_the_track_of_a_process_that_died_while_it_sent_is_found_at_once(
    world: World,
) -> None:
    first = world.processes[0]
    first.dies_in, first.dies_after = 2, False
    world.ask(0, RAIN)
    world.advance(1.0)
    assert first.is_dead
    until_told(world, 1, LEASE + 3.0)
    check_paid_once(world)


def test_a_process_that_begins_is_not_taken_over(world: World) -> None:
    world.service.add_fault(Fault("delay", seconds=3 * LEASE, **CREATES))
    world.ask(0, RAIN)
    world.advance(1.0)
    world.ask(1, RAIN)
    world.advance(2 * LEASE)
    assert world.entries()["k"].state == "sending"
    assert listings(world) == 0
    world.advance(2 * LEASE)
    check_paid_once(world)


def test_a_process_that_takes_over_is_not_taken_over_itself(world: World) -> None:
    first = world.processes[0]
    first.dies_in, first.dies_after = 1, True
    world.ask(0, SEEDED)
    world.advance(1.0)
    assert first.is_dead
    # Much longer than a lease, unless its holder says that it lives.
    world.service.add_fault(Fault("delay", seconds=3 * LEASE, **CREATES))
    world.ask(1, SEEDED)
    world.advance(LEASE + 2.0)
    assert world.entries()["k"].state == "sending"
    world.restart(0)
    world.ask(0, SEEDED)
    world.advance(2 * LEASE)
    assert world.entries()["k"].state == "sending"
    assert listings(world) == 0
    world.advance(2 * LEASE)
    check_paid_once(world)


@pytest.mark.parametrize("kind", STORES)
def test_a_process_that_was_halted_neither_sends_nor_writes_when_it_wakes(
    request: pytest.FixtureRequest, kind: str
) -> None:
    # A timer of its own that fires as it wakes must not be what saves it.
    world = World(new_key_space(kind, request), request_timeout=1e6)
    first = world.processes[0]
    first.halts_at = "create"
    world.ask(0, RAIN)
    world.advance(1.0)
    assert first.is_halted
    assert world.entries()["k"].state == "sending"
    until_told(world, 1)
    check_paid_once(world)
    first.halts_at = None
    first.awake.set()
    world.advance(60.0)
    check_paid_once(world)
    until_told(world, 0)
    check_paid_once(world)
    world.close()


def test_a_response_that_a_halted_process_reads_late_is_not_lost(world: World) -> None:
    world.service.add_fault(Fault("hide", seconds=3600, **CREATES))
    first = world.processes[0]
    first.halts_at = "response"
    world.ask(0, RAIN)
    world.advance(LEASE + 2.0)
    assert first.is_halted
    task = world.ask(1, RAIN)
    world.advance(5.0)
    assert world.entries()["k"].state == "unknown"
    first.awake.set()
    world.advance(20.0)
    assert task.done()
    check_paid_once(world)


def test_a_create_that_is_cancelled_after_its_first_byte_is_not_forgotten(
    world: World,
) -> None:
    world.service.add_fault(Fault("slow_answer", seconds=30, **CREATES))
    world.ask(0, RAIN, within=0.5)
    world.advance(10.0)
    assert world.entries()["k"].state == "unknown"
    until_told(world, 1, 60.0)
    check_paid_once(world)


def test_a_lost_create_is_looked_up_before_anything_is_sent(world: World) -> None:
    world.service.add_fault(Fault("lost_after_commit", **CREATES))
    world.ask(0, RAIN)
    world.ask(1, RAIN)
    world.advance(120.0)
    assert world.service.count(method="POST") == 1
    check_paid_once(world)


def test_a_create_that_no_list_shows_is_not_sent_again(world: World) -> None:
    world.service.add_fault(Fault("lost_after_commit", **CREATES))
    world.service.add_fault(
        Fault("status", "/v1/generations", method="GET", times=None)
    )
    for number in (0, 1, 0, 1):
        world.ask(number, RAIN)
        world.advance(200.0)
    assert world.entries()["k"].state == "unknown"
    world.service.clear_faults()
    until_told(world, 1, 60.0)
    assert world.service.count(method="POST") == 1
    check_paid_once(world)


def test_processes_that_add_a_key_at_the_same_moment_pay_once(world: World) -> None:
    for number in (0, 1):
        world.run(world.processes[number].client.journal.get("another"))
    for number in (0, 1, 0, 1):
        world.ask(number, RAIN)
    world.advance(10.0)
    check_paid_once(world)
    assert world.errors == {}


def test_the_key_of_another_content_is_refused_in_any_process(world: World) -> None:
    world.ask(0, RAIN)
    world.advance(1.0)
    world.ask(1, GenerationRequest("wind", idempotency_key="k"))
    world.advance(1.0)
    assert [type(error) for error in world.errors["k"]] == [IdempotencyConflictError]
    check_paid_once(world)


def test_a_create_is_proved_absent_beside_failed_tracks_that_nobody_waits_for(
    world: World,
) -> None:
    # Two, because one more failure than creates in doubt shows what failures cost.
    world.service.add_fault(Fault("fail", times=2, **CREATES))
    for key in ("one", "two"):
        world.ask(0, GenerationRequest("wind", idempotency_key=key))
        world.advance(1.0)
    world.service.add_fault(Fault("lost_before_commit", **CREATES))
    until_told(world, 1)
    entries = world.entries()
    assert (entries["one"].state, entries["two"].state) == ("failed", "failed")
    assert entries["one"].generation_id in world.told["one"]
    assert world.spent() == 3


def test_what_a_dead_process_was_sending_holds_up_no_proof(world: World) -> None:
    first = world.processes[0]
    first.dies_in, first.dies_after = 2, False
    world.ask(0, GenerationRequest("wind", idempotency_key="other"))
    world.advance(1.0)
    assert first.is_dead
    world.service.add_fault(Fault("lost_before_commit", **CREATES))
    until_told(world, 1)
    assert world.entries()["other"].state == "completed"
    assert world.spent() == 2
