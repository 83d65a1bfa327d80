"""What each 429 means, by its code. Pure; no other module spells these codes.

GENERATION_RATE_LIMITED   the rate budget of creates is used up    closes its gate
RATE_LIMITED              that of all other requests is used up    closes its gate
QUEUE_FULL                too many tracks are in progress          clears as one ends
any other code            such as the daily cap of sound effects   raised at once
no readable code          probably the response of a proxy         closes the gates of
                                                                   the request's route
"""

from __future__ import annotations

from typing import Final

CODES: Final = {"creates": "GENERATION_RATE_LIMITED", "reads": "RATE_LIMITED"}
"""The code that closes the gate of each rate budget."""

QUEUE_FULL: Final = "QUEUE_FULL"

NO_CODE: Final = "HTTP_429"
"""The code of an error whose response has none."""

_RATE_BUDGETS: Final = {code: budget for budget, code in CODES.items()}


def rate_budget_of(code: str | None) -> str | None:
    """The rate budget whose gate a code closes; `None` if it closes none."""
    return _RATE_BUDGETS.get(code or "")


def is_rate_limited(status: int, code: str | None) -> bool:
    """Whether too many requests were sent, so that the same request succeeds later.

    Args:
        status: HTTP status of the response.
        code: Error code of the response; `None` if it has no readable one.
    """
    return status == 429 and (code in (None, NO_CODE) or code in _RATE_BUDGETS)


def is_queue_full(status: int, code: str | None) -> bool:
    """Whether too many tracks are in progress, so that a create must wait for one."""
    return status == 429 and code == QUEUE_FULL


def is_uncharged(status: int, code: str | None) -> bool:
    """Whether the service itself refused the request, so that it charged nothing.

    A 429 without one of its codes may come from a proxy that had already passed the
    request on, so it proves nothing.

    Args:
        status: HTTP status of the response.
        code: Error code of the response; `None` if it has no readable one.
    """
    return status == 429 and (code in _RATE_BUDGETS or code == QUEUE_FULL)
