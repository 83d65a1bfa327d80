"""Keys in two processes under a crash at every commit: one credit and one id a key.

The processes are clients of the emulator in one loop with a virtual clock; they share a
journal and nothing else. Each may die at any commit or at any moment, or be halted for
longer than its lease lasts, with faults on the network; its callers may give up.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from hypothesis import Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from finetuning_async import GenerationRequest, IdempotencyConflictError
from finetuning_async.emulator import Fault
from tests.journal._key_spaces import new_key_space
from tests.journal._processes import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.journal._key_spaces import KeySpace

REQUESTS: Final = {
    "a": GenerationRequest("rain", idempotency_key="a"),
    "b": GenerationRequest("rain", idempotency_key="b"),
    "c": GenerationRequest("wind", seed=7, idempotency_key="c"),
}
CREATES: Final[dict[str, Any]] = {"path": "/v1/generations", "method": "POST"}
FAULTS: Final = {
    "lost before": Fault("lost_before_commit", **CREATES),
    "lost after": Fault("lost_after_commit", **CREATES),
    "late": Fault("late_commit", seconds=3, **CREATES),
    "slow": Fault("slow_answer", seconds=12, **CREATES),
    "cut": Fault("truncated_json", **CREATES),
    "fails": Fault("fail", **CREATES),
    "no list": Fault("status", "/v1/generations", method="GET"),
}
LEASE: Final = 8.0
"""Seconds after which a lease that nobody renews is certainly over."""

ROUNDS: Final = 60
"""How often a key is asked for in the end, 40 s apart, until it has an id."""

NUMBERS: Final = st.integers(0, 1)
KEYS: Final = st.sampled_from(sorted(REQUESTS))


class Backends(RuleBasedStateMachine):
    """Two processes that are asked for the same keys.

    Args:
        new_space: Makes an empty journal.
    """

    def __init__(self, new_space: Callable[[], KeySpace]) -> None:
        super().__init__()
        self.new_space = new_space

    @initialize(seed=st.integers(0, 1000), request_timeout=st.sampled_from([30.0, 1e6]))
    def begin(self, seed: int, request_timeout: float) -> None:
        self.world = World(self.new_space(), request_timeout=request_timeout, seed=seed)
        self.asked: set[str] = set()

    # What happens.

    @rule(
        number=NUMBERS,
        key=KEYS,
        waits=st.booleans(),
        within=st.sampled_from([None, None, None, 0.05, 0.2, 0.5]),
        pause=st.sampled_from([0.0, 0.0, 0.06, 0.15, 0.3]),
    )
    def ask(
        self, number: int, key: str, waits: bool, within: float | None, pause: float
    ) -> None:
        self.up(number)
        self.asked.add(key)
        self.world.ask(number, REQUESTS[key], within, waits=waits)
        self.world.advance(pause)

    @rule(number=NUMBERS, commits=st.integers(1, 4), after=st.booleans())
    def doom(self, number: int, commits: int, after: bool) -> None:
        """Let a process die at one of its next commits."""
        process = self.world.processes[number]
        process.dies_in, process.dies_after = commits, after

    @rule(number=NUMBERS)
    def kill(self, number: int) -> None:
        self.world.restart(number)

    @rule(number=NUMBERS)
    def halt(self, number: int) -> None:
        self.world.processes[number].awake.clear()

    @rule(number=NUMBERS, at=st.sampled_from(["create", "response"]))
    def halt_at(self, number: int, at: Literal["create", "response"]) -> None:
        """Let a process be halted at its next create."""
        self.world.processes[number].halts_at = at

    @precondition(lambda self: any(p.is_halted for p in self.world.processes))
    @rule(pause=st.sampled_from([0.0, LEASE]))
    def wake(self, pause: float) -> None:
        self.world.advance(pause)
        for process in self.world.processes:
            process.halts_at = None
            process.awake.set()
        self.world.advance(0.3)

    @rule(number=NUMBERS)
    def resume(self, number: int) -> None:
        self.up(number)
        self.world.resume(number)
        self.world.advance(0.1)

    @rule(name=st.sampled_from(sorted(FAULTS)))
    def trouble(self, name: str) -> None:
        self.world.service.add_fault(FAULTS[name])

    @rule(seconds=st.sampled_from([0.1, 0.5, LEASE, 45.0, 330.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.advance(seconds)

    @precondition(lambda self: any(self.world.told.values()))
    @rule(number=NUMBERS)
    def ask_for_something_else(self, number: int) -> None:
        self.up(number)
        self.world.processes[number].halts_at = None
        self.world.processes[number].awake.set()
        key = min(key for key, ids in self.world.told.items() if ids)
        other = GenerationRequest("something else", idempotency_key=key)
        self.world.processes[number].dies_in = None
        task = self.world.ask(number, other)
        while not task.done():
            self.world.advance(1.0)
        # Its other callers may have given up meanwhile.
        errors = self.world.errors[key]
        assert any(isinstance(error, IdempotencyConflictError) for error in errors)
        errors.clear()

    def up(self, number: int) -> None:
        if self.world.processes[number].is_dead:
            self.world.restart(number)

    # What must hold.

    @invariant()
    def a_key_costs_once_and_has_one_id(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        assert world.unexpected == []
        for prompt, keys in by_prompt(self.asked).items():
            assert len(world.tracks(prompt)) <= len(keys), (prompt, world.told)
        assert world.tracks("something else") == []
        ids = [ident for told in world.told.values() for ident in told]
        assert len(ids) == len(set(ids))
        assert all(len(told) <= 1 for told in world.told.values()), world.told

    def teardown(self) -> None:
        """In the end every key has its track; a person releases what is held."""
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            world.service.clear_faults()
            for number, process in enumerate(world.processes):
                process.halts_at = None
                process.awake.set()
                process.dies_in = None
                self.up(number)
            for key in sorted(self.asked):
                self.insist(key)
            self.a_key_costs_once_and_has_one_id()
            self.audit()
        finally:
            world.close()

    def insist(self, key: str) -> None:
        world = self.world
        for round_ in range(ROUNDS):
            before = len(world.errors[key])
            task = world.ask(round_ % 2, REQUESTS[key])
            world.advance(40.0)
            if task.done() and len(world.errors[key]) == before:
                return
            entry = world.entries().get(key)
            if entry is not None and entry.state == "held":
                self.release(key)
        states = {key: entry.state for key, entry in world.entries().items()}
        raise AssertionError(f"{key} has no id: {states}, {world.errors[key][-1]}")

    def release(self, key: str) -> None:
        """Do as a person would, who looks at the service first."""
        world = self.world
        known = {entry.generation_id for entry in world.entries().values()}
        made = {job.id for job in world.tracks(REQUESTS[key].prompt)}
        assert made <= known, f"{key} is held, though its track is listed"
        world.run(world.processes[0].client.journal.release(key))

    def audit(self) -> None:
        world, entries = self.world, self.world.entries()
        assert entries.keys() == self.asked
        for key, entry in entries.items():
            assert entry.state in ("accepted", "completed", "failed"), entry
            assert world.told[key] == {entry.generation_id}
            assert entry.request.prompt == REQUESTS[key].prompt
        ids = {entry.generation_id for entry in entries.values()}
        assert ids == set(world.service.tracks)
        assert world.spent() == len(ids)


def by_prompt(keys: set[str]) -> dict[str, list[str]]:
    ordered = sorted(keys, key=lambda key: REQUESTS[key].prompt)
    groups = itertools.groupby(ordered, key=lambda key: REQUESTS[key].prompt)
    return {prompt: list(group) for prompt, group in groups}


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        ("memory", 8),
        ("sqlite", 3),
        ("postgres", 3),
    ],
)
def test_no_crash_pays_a_key_twice_or_loses_its_track(
    request: pytest.FixtureRequest, kind: str, examples: int
) -> None:
    run_state_machine_as_test(
        lambda: Backends(lambda: new_key_space(kind, request)),  # type: ignore[arg-type] # it is only called
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # a failure is found again by its seed
            report_multiple_bugs=False,
        ),
    )
