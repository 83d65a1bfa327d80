"""A sample of the proof `benchmarks.proofs.budget`: nothing is spent above a budget."""

from __future__ import annotations

from benchmarks.proofs._budget_schedule import Tally, play


def test_no_schedule_spends_above_its_budget() -> None:
    tally = Tally()
    for seed in range(1, 21):
        play(seed, tally)
    assert tally.wrong == []
    assert tally.charged > 20
    assert tally.refused > 10
    assert tally.crashes > 5
