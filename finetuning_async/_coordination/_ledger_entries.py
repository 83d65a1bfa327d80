"""What the book of an account holds: who waits, who may go, who takes part. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

import attrs

from finetuning_async._pacing import Reservation

if TYPE_CHECKING:
    from finetuning_async._api import Route


@attrs.define(eq=False)
class QueueEntry:
    """One that waits in a line."""

    id: str
    process: str
    first: bool

    def to_state(self) -> dict[str, Any]:
        """It, as JSON; see `from_state`."""
        return {"id": self.id, "process": self.process, "first": self.first}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What `to_state` told."""
        return cls(state["id"], state["process"], state["first"])


@attrs.define(eq=False)
class LeaseEntry:
    """One that may go, or is out.

    Attributes:
        process: Whose.
        budget: From which.
        ticket: Of the budget.
        until: When it is taken as sent and over.
        is_known: Whether its owner was told.
    """

    process: str
    budget: Route
    ticket: Reservation
    until: float
    is_known: bool = False

    def to_state(self) -> dict[str, Any]:
        """It, as JSON; see `from_state`."""
        return {
            "process": self.process,
            "budget": self.budget,
            "ticket": self.ticket.to_state(),
            "until": self.until,
            "is_known": self.is_known,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What `to_state` told."""
        return cls(
            process=state["process"],
            budget=state["budget"],
            ticket=Reservation.from_state(state["ticket"]),
            until=state["until"],
            is_known=state["is_known"],
        )


@attrs.define(eq=False)
class Member:
    """A process.

    Attributes:
        seen_at: When it last said something.
        expected_by: When it will have said something, if it lives and has places.
        number: Of its last request.
        serial: Of its last note.
        under_way: Tracks.
    """

    seen_at: float
    expected_by: float = -inf
    number: int = 0
    serial: int = 0
    under_way: int = 0

    def to_state(self) -> dict[str, Any]:
        """It, as JSON; see `from_state`."""
        return {
            "seen_at": self.seen_at,
            "expected_by": self.expected_by,
            "number": self.number,
            "serial": self.serial,
            "under_way": self.under_way,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What `to_state` told."""
        return cls(
            seen_at=state["seen_at"],
            expected_by=state["expected_by"],
            number=state["number"],
            serial=state["serial"],
            under_way=state["under_way"],
        )
