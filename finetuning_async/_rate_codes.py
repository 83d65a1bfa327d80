"""What a 429 means, by its code: the one place that knows. Pure.

GENERATION_RATE_LIMITED   the budget of creates is spent   closes its gate
RATE_LIMITED              that of all other requests       closes its gate
QUEUE_FULL                too many tracks are under way    clears when one ends
any other                 the day's effects, say           raised at once
none that can be read     a proxy's own word               closes the gate of what
was asked
"""

from __future__ import annotations

from typing import Final

CODES: Final = {"creates": "GENERATION_RATE_LIMITED", "reads": "RATE_LIMITED"}
"""The code that closes the gate of each budget."""

QUEUE_FULL: Final = "QUEUE_FULL"

NO_CODE: Final = "HTTP_429"
"""What stands for the code in an error whose answer has none."""

_BUDGETS: Final = {code: budget for budget, code in CODES.items()}


def rate_budget_of(code: str | None) -> str | None:
    """The budget whose gate a code closes; `None` if it closes none."""
    return _BUDGETS.get(code or "")


def is_rate_limited(status: int, code: str | None) -> bool:
    """Whether too many requests were sent, so that waiting mends it.

    Args:
        status: Of the answer.
        code: Of its error; `None` if none can be read.
    """
    return status == 429 and (code in (None, NO_CODE) or code in _BUDGETS)


def is_queue_full(status: int, code: str | None) -> bool:
    """Whether too many tracks are under way, so that the end of one mends it."""
    return status == 429 and code == QUEUE_FULL


def is_uncharged(status: int, code: str | None) -> bool:
    """Whether it is the service that refused, so that nothing was charged.

    Args:
        status: Of the answer.
        code: Of its error; `None` if none can be read.
    """
    return status == 429 and (code in _BUDGETS or code == QUEUE_FULL)
