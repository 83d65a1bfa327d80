"""A permit that is out: what the rate budget remembers of one request."""

from __future__ import annotations

from typing import Any, Self

import attrs


@attrs.define(eq=False)
class Reservation:
    """One request, from the moment it may be sent until its outcome is known.

    Attributes:
        number: Its place in the order of sending within its rate budget, from 1.
        sent_at: When it was allowed to go, in seconds of the loop's clock.
        others_in_flight: Other requests of the rate budget without a response then.
        on_credit: Whether a response had shown that there was room for it.
    """

    number: int
    sent_at: float
    others_in_flight: int
    on_credit: bool = False

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON; see `from_state`."""
        return {
            "number": self.number,
            "sent_at": self.sent_at,
            "alongside": self.others_in_flight,
            "on_credit": self.on_credit,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        return cls(
            number=state["number"],
            sent_at=state["sent_at"],
            others_in_flight=state["alongside"],
            on_credit=state["on_credit"],
        )
