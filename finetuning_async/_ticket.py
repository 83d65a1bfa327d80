"""What the limiter remembers of one request that is out."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Ticket:
    """One request, from the moment it may be sent.

    Attributes:
        number: Its place in the order of sending within its budget, from 1.
        sent_at: When it was let go, in seconds of the loop's clock.
        alongside: Other requests of the budget that were unanswered at that moment.
        on_credit: Whether an answer had said that there was room for it.
    """

    number: int
    sent_at: float
    alongside: int
    on_credit: bool = False
