"""What is struck out, against counters whose phase is known here."""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.limiter.servers import SlidingCounter, whole_seconds
from finetuning_async._counter_phases import CELLS, CounterPhases

PER = 60.0
MARGIN = 0.05


@attrs.define(eq=False)
class Traffic:
    """Requests at any times, most of them too early, to a counter of random phase.

    Attributes:
        phases: Under test.
        cell: The number of the true hypothesis.
    """

    rng: random.Random
    limit: int
    rounded: bool
    longest: float
    phases: CounterPhases = attrs.Factory(lambda: CounterPhases(PER, MARGIN))
    cell: int = 0

    def run(self, count: int, *, remaining: bool, retry_after: bool) -> None:
        """Send `count`, and let `phases` learn from their answers, in that order."""
        phase = self.rng.uniform(0, PER)
        self.cell = int(phase / PER * CELLS) + CELLS * self.rounded
        server = SlidingCounter(self.limit, PER, phase, rounded=self.rounded)
        requests = sorted(self._request() for _ in range(count))
        verdicts = [(server.ask(at), sent, back) for at, sent, back in requests]
        answers = sorted(verdicts, key=lambda answer: answer[2])
        for place, (verdict, sent, back) in enumerate(answers):
            later = [other for _, other, _ in answers[place + 1 :]]
            out = sum(other <= back for other in later)
            self.phases.answered(sent, back)
            if verdict.accepted:
                left = verdict.remaining if remaining else None
                self.phases.served(self.limit, out, left)
            else:
                pause = whole_seconds(verdict) if retry_after else None
                self.phases.refused(self.limit, out, pause)

    def _request(self) -> tuple[float, float, float]:
        burst = self.rng.randrange(4) * 55.0 + self.rng.uniform(0, 20)
        sent = 1000 + burst + self.rng.choice([0.0, self.rng.uniform(0, 40)])
        arrives = sent + self.rng.uniform(0, self.longest)
        return arrives, sent, arrives + self.rng.uniform(0, self.longest)


TRAFFIC = st.builds(
    Traffic,
    rng=st.builds(random.Random, st.integers(0, 10**6)),
    limit=st.integers(1, 12),
    rounded=st.booleans(),
    longest=st.sampled_from([0.0, 0.4, 3.0, 30.0]),
)


@settings(max_examples=150, deadline=None)
@given(traffic=TRAFFIC, count=st.integers(1, 60))
def test_the_true_counter_is_never_struck_out(traffic: Traffic, count: int) -> None:
    traffic.run(count, remaining=False, retry_after=False)
    assert traffic.cell in traffic.phases._proved
    assert traffic.phases.is_possible


@settings(max_examples=150, deadline=None)
@given(traffic=TRAFFIC, count=st.integers(1, 60), remaining=st.booleans())
def test_nor_by_what_an_honest_service_tells(
    traffic: Traffic, count: int, remaining: bool
) -> None:
    traffic.run(count, remaining=remaining, retry_after=True)
    assert traffic.cell in traffic.phases._told
    assert traffic.phases.is_believed
    assert traffic.phases._told <= traffic.phases._proved


@pytest.mark.parametrize("rounded", [False, True])
def test_a_burst_and_its_refusals_tell_the_phase_to_a_few_seconds(
    rounded: bool,
) -> None:
    widths = []
    for seed in range(20):
        traffic = Traffic(random.Random(seed), 10, rounded, longest=0.4)
        traffic.run(60, remaining=False, retry_after=True)
        widths.append(len(traffic.phases._told))
    assert sorted(widths)[10] < CELLS // 10  # median, of two kinds of counters


def ten_at(phases: CounterPhases, start: float) -> None:
    for number in range(10):
        sent = start + number / 100
        phases.answered(sent, sent + 0.01)
        phases.served(10, 0, None)


def test_ten_served_twice_within_a_minute_are_no_sliding_counter() -> None:
    phases = CounterPhases(PER, MARGIN)
    ten_at(phases, 1000.0)
    assert not phases.is_narrowed
    ten_at(phases, 1030.0)
    assert not phases.is_possible
    assert not phases.is_narrowed


def test_what_is_told_is_not_believed_after_a_contradiction() -> None:
    phases = CounterPhases(PER, MARGIN)
    ten_at(phases, 1000.0)
    phases.answered(1061.0, 1061.1)
    phases.refused(10, 0, 86_400.0)
    assert not phases.is_believed
    assert phases.is_possible
    assert "0 told" in repr(phases)


def test_a_refusal_without_any_traffic_of_ours_contradicts_all() -> None:
    phases = CounterPhases(PER, MARGIN)
    phases.answered(1000.0, 1000.1)
    phases.refused(10, 0, 30.0)
    assert not phases.is_possible
    assert not phases.is_believed


def test_what_was_refused_weighs_only_once_belief_is_lost() -> None:
    phases = CounterPhases(PER, MARGIN)
    ten_at(phases, 1000.0)
    for _ in range(3):
        phases.answered(1030.0, 1030.1)
        phases.refused(10, 0, None)
    assert phases.test(11, 0)(1030.2)
    phases.answered(1030.0, 1030.1)
    phases.refused(10, 0, 86_400.0)
    assert not phases.is_believed
    assert not phases.test(11, 0)(1030.2)


def test_clocks_that_drift_make_the_neighbours_possible_again() -> None:
    phases = CounterPhases(PER, MARGIN)
    ten_at(phases, 1000.0)
    phases.answered(1030.0, 1030.1)
    phases.refused(10, 0, None)
    ten_at(phases, 1130.0)
    before = set(phases._proved)
    ten_at(phases, 1130.0 + 41 * PER)
    beside = {(cell + step) % CELLS for cell in before for step in (-1, 0, 1)}
    assert len(before) < 2 * CELLS
    assert {cell for cell in phases._proved if cell < CELLS} <= beside
    assert phases._proved > before


def test_what_is_long_past_is_forgotten() -> None:
    phases = CounterPhases(PER, MARGIN)
    for number in range(1000):
        phases.answered(number * 6.0, number * 6.0 + 0.1)
    assert len(phases._spans) <= 41


def test_what_contradicts_nothing_costs_no_set_of_its_own() -> None:
    one, other = CounterPhases(PER, MARGIN), CounterPhases(PER, MARGIN)
    for phases in (one, other):
        ten_at(phases, 41 * PER)  # late enough to allow for drift
        phases.answered(90 * PER, 90 * PER + 1)
        phases.served(10, 0, None)
    assert one._proved is other._proved is one._told
