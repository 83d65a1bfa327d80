"""The rule of a budget of credits, by random calls in virtual time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from finetuning_async import Budget, BudgetExceededError, InvalidRequestError
from finetuning_async._pacing._credit_budget import CreditLedger, _now
from finetuning_async._pacing._credit_limit import CreditCount, CreditLimit

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "charge", "return"]), st.floats(0.0, 40.0, width=16)
    ),
    max_size=60,
)


@settings(max_examples=100)
@given(STEPS, st.integers(1, 4), st.sampled_from([None, 60.0]))
def test_no_period_has_more_than_the_budget(
    steps: list[tuple[str, float]], credits_: int, per: float | None
) -> None:
    count = CreditCount(CreditLimit(credits_, per))
    now, open_ = 0.0, 0
    spent: list[float] = []
    for what, pause in steps:
        now += pause
        in_period = [at for at in spent if per is None or now - at < per]
        assert count.spent(now) == len(in_period)
        if what == "reserve":
            is_free = len(in_period) + open_ < credits_
            try:
                count.reserve(now)
            except BudgetExceededError as error:
                assert not is_free
                check_retry_after(error, in_period, open_, credits_, per, now)
            else:
                assert is_free
                open_ += 1
        elif open_:
            open_ -= 1
            count.settle(now, is_charged=what == "charge")
            if what == "charge":
                spent.append(now)


def test_a_credit_counts_for_the_whole_period_and_no_longer() -> None:
    count = CreditCount(CreditLimit(1, 60.0))
    count.reserve(0.0)
    count.settle(5.0, is_charged=True)
    for now in (5.0, 64.999):
        with pytest.raises(BudgetExceededError):
            count.reserve(now)
    count.reserve(65.0)


def check_retry_after(
    error: BudgetExceededError,
    in_period: list[float],
    open_: int,
    credits_: int,
    per: float | None,
    now: float,
) -> None:
    """`retry_after` is when enough has left the period, if there is one.

    What is reserved has left it a whole period from now, at the latest.
    """
    excess = len(in_period) + open_ + 1 - credits_
    if per is None:
        assert error.retry_after is None
    elif excess > len(in_period):
        assert error.retry_after == per
    else:
        assert error.retry_after == pytest.approx(in_period[excess - 1] + per - now)
    assert error.safe_to_retry is (error.retry_after is not None)


@pytest.mark.parametrize(
    "wrong",
    [0, -1, True, 2.0, 2.5, float("nan"), float("inf"), "5", None, 2**53 + 1, 10**400],
)
def test_credits_must_be_a_whole_number_of_at_least_one(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="credits must be a whole number"):
        Budget(wrong)


@pytest.mark.parametrize(
    "wrong", [0, 0.0, -1, True, float("nan"), float("inf"), "day", 10**400]
)
def test_a_period_must_be_seconds_above_zero(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="per must be a number of seconds"):
        Budget(1, per=wrong)


def test_the_least_and_the_most_that_a_budget_takes() -> None:
    assert Budget(1, per=0.5).remaining == 1
    assert Budget(2**53).remaining == 2**53


def test_a_budget_shows_what_it_is() -> None:
    budget = Budget(5, per=3600)
    assert (budget.credits, budget.per) == (5, 3600.0)
    assert (budget.spent, budget.reserved, budget.remaining) == (0, 0, 5)
    assert repr(budget) == "<Budget(5, per=3600) 0 spent>"


def test_what_a_journal_has_counted_since_it_was_read_is_spent() -> None:
    ledger = CreditLedger(CreditLimit(5))
    ledger.see_spent()
    assert ledger.numbers() == (0, 0)  # it is read with the first create
    ledger.see(2, 1)
    ledger.see_spent()
    assert ledger.numbers() == (3, 1)


def test_after_more_was_spent_than_allowed_enough_has_to_count_no_more() -> None:
    # As after creates whose acceptance was learned late.
    limit = CreditLimit(2, per=60.0)
    error = limit.refusal(3, 0, [(0.0, 1), (10.0, 1), (20.0, 1)], now=30.0)
    assert error.retry_after == 40
    assert "try again in 40 s" in str(error)
    assert limit.refusal(2, 1, [(0.0, 2)], now=30.0).retry_after == 30
    assert limit.refusal(0, 2, [], now=30.0).retry_after == 60
    assert "share" not in str(error)
    of_a_share = CreditLimit(2, share="a").refusal(2, 0, [], now=30.0)
    assert "2 of 2 credits for share 'a' are spent" in str(of_a_share)
    # What is reserved counts as spent now.
    one = CreditLimit(1, per=60.0)
    assert one.refusal(1, 1, [(0.0, 1)], now=30.0).retry_after == 60


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_budget_without_a_journal_has_one_clock_in_all_loops(loop: str) -> None:
    async def now() -> float:
        return _now()

    before = _now()
    assert before <= anyio.run(now, backend=loop) <= _now()
