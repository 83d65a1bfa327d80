"""What the ledger of shared polling holds: members, the lead, tracks. Plain.

The keys of `to_state` are a stored format; they stay when an attribute is renamed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from finetuning_async._types import Kind


@attrs.define(eq=False)
class PollMember:
    """A process that shares its polling.

    Attributes:
        slot: The number of its bit in `TrackEntry.waiters`.
        seen_at: When its presence was last written.
        joined_with: The number of the report with which it joined.
        joined_after: The number of the last event before it joined.
        report_number: The number of its last report that was applied.
    """

    slot: int
    seen_at: float
    joined_with: int
    joined_after: int
    report_number: int

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PollMember:
        """Restore what `to_state` returned."""
        return cls(
            slot=state["slot"],
            seen_at=state["seen_at"],
            joined_with=state["joined"],
            joined_after=state["since"],
            report_number=state["report"],
        )

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "slot": self.slot,
            "seen_at": round(self.seen_at, 3),
            "joined": self.joined_with,
            "since": self.joined_after,
            "report": self.report_number,
        }


@attrs.define(eq=False)
class LeaderLease:
    """Which process leads, with which token, and until when.

    The token rises with each new lease. It fences: a process that slept through the end
    of its lease and still believes that it leads has an older token, and what it read
    is discarded.
    """

    process: str
    token: int
    expires_at: float

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LeaderLease:
        """Restore what `to_state` returned."""
        return cls(state["process"], state["token"], state["until"])

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"process": self.process, "token": self.token, "until": self.expires_at}


@attrs.define(eq=False)
class TrackEntry:
    """A track that at least one process waits for.

    Attributes:
        kind: Its kind.
        waiters: One bit for each process: where many wait, a list of them would take a
            hundred bytes for each track.
        version: The version of all tracks at which the last process began to wait.
        accepted_at: When it was accepted, as far as known.
        length: The seconds of music asked for, as far as known.
    """

    kind: Kind
    waiters: int = 0
    version: int = 0
    accepted_at: float | None = None
    length: float | None = None

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrackEntry:
        """Restore what `to_state` returned."""
        return cls(
            kind=state["kind"],
            waiters=state["waiters"],
            version=state["since"],
            accepted_at=state.get("accepted"),
            length=state.get("length"),
        )

    def to_state(self) -> dict[str, Any]:
        """Return it as JSON, in few bytes: there may be a thousand."""
        state: dict[str, Any] = {
            "kind": self.kind,
            "waiters": self.waiters,
            "since": self.version,
        }
        if self.accepted_at is not None:
            state["accepted"] = round(self.accepted_at, 1)
        if self.length is not None:
            state["length"] = self.length
        return state
