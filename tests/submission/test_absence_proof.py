"""A seeded sample of ``python -m benchmarks proofs absence``, in virtual time."""

from __future__ import annotations

import pytest

from benchmarks.proofs._absence import CASES
from benchmarks.proofs.absence import run


def test_schedules_of_twelve_seeds_pay_for_nothing_twice() -> None:
    tally = run(range(1, 13))
    assert tally.wrong == []
    assert all(tally.counts[case]["schedules"] == 3 for case in CASES)
    assert sum(tally.counts[case]["lost"] for case in CASES) > 0


def test_a_schedule_is_reproducible() -> None:
    first, second = run(range(300, 302)), run(range(300, 302))
    assert first.counts == second.counts


@pytest.mark.long
def test_some_schedules_resend_and_some_do_not() -> None:
    """Otherwise the proof would also hold for a client that does nothing."""
    tally = run(range(1000, 1040))
    assert sum(tally.counts[case]["found"] for case in CASES) > 10
    assert sum(tally.counts[case]["unknown"] for case in CASES) > 0
