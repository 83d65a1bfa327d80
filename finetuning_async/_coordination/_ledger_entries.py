"""What the ledger of an account holds: queue entries, leases, members. Pure.

The keys of `to_state` are a stored format; they stay when an attribute is renamed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Self

import attrs

from finetuning_async._api import PRIORITIES
from finetuning_async._pacing import NORMAL, RANKS, Reservation

if TYPE_CHECKING:
    from finetuning_async._api import Route


@attrs.define(eq=False)
class QueueEntry:
    """A request that waits for a permit; see `QueuedItem`.

    Attributes:
        arrival: Its place in the ledger when it was read or joined.
        is_queued: Whether it stands in a queue that was made of the ledger.
    """

    id: str
    process: str
    is_repetition: bool
    rank: int = NORMAL
    share: str | None = None
    arrival: int = 0
    is_queued: bool = False

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON; see `from_state`."""
        return {
            "id": self.id,
            "process": self.process,
            "first": self.is_repetition,
            "priority": PRIORITIES[self.rank],
            "share": self.share,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        return cls(
            id=state["id"],
            process=state["process"],
            is_repetition=state["first"],
            rank=RANKS[state["priority"]],
            share=state["share"],
        )


@attrs.define(eq=False)
class LeaseEntry:
    """A permit that was granted and has not ended.

    Attributes:
        process: Its owner.
        budget: Where its token comes from.
        reservation: In that budget.
        expires_at: When the request counts as sent and ended.
        is_claimed: Whether its owner was given the permit. Until then nothing can have
            been sent, so the token can be taken back.
    """

    process: str
    budget: Route
    reservation: Reservation
    expires_at: float
    is_claimed: bool = False

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON; see `from_state`."""
        return {
            "process": self.process,
            "budget": self.budget,
            "ticket": self.reservation.to_state(),
            "until": self.expires_at,
            "is_known": self.is_claimed,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        return cls(
            process=state["process"],
            budget=state["budget"],
            reservation=Reservation.from_state(state["ticket"]),
            expires_at=state["until"],
            is_claimed=state["is_known"],
        )


@attrs.define(eq=False)
class Member:
    """A process that shares the ledger.

    Attributes:
        seen_at: When it last exchanged.
        expected_by: When it will have exchanged again if it is alive and waits.
        number: The number of its last exchange.
        serial: The number of its last report.
        tracks_in_progress: As it stated them last.
        creates_waiting: Likewise, by the rank of their priority.
    """

    seen_at: float
    expected_by: float = -inf
    number: int = 0
    serial: int = 0
    tracks_in_progress: int = 0
    creates_waiting: tuple[int, ...] = (0, 0, 0)

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON; see `from_state`."""
        return {
            "seen_at": self.seen_at,
            "expected_by": self.expected_by,
            "number": self.number,
            "serial": self.serial,
            "under_way": self.tracks_in_progress,
            "creates_waiting": list(self.creates_waiting),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restore what `to_state` returned."""
        return cls(
            seen_at=state["seen_at"],
            expected_by=state["expected_by"],
            number=state["number"],
            serial=state["serial"],
            tracks_in_progress=state["under_way"],
            creates_waiting=tuple(state["creates_waiting"]),
        )
