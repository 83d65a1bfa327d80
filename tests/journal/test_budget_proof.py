"""A sample of the proof `benchmarks.proofs.budget`: nothing is spent above a budget."""

from __future__ import annotations

import pytest

from benchmarks.proofs._budget_schedule import Tally, play


@pytest.mark.parametrize("first", [1, 21])
def test_no_schedule_spends_above_its_budget(first: int) -> None:
    tally = Tally()
    for seed in range(first, first + 20):
        play(seed, tally)
    assert tally.wrong == []
    assert tally.charged > 20
    assert tally.refused > 10
    assert tally.crashes > 5
