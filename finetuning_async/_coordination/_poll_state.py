"""What the ledger of shared polling keeps, as JSON and back. Plain.

Each row names its fields, so that what is stored changes only where it is meant to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from finetuning_async._types import Kind


@attrs.define(eq=False)
class Member:
    """A process that is here.

    Attributes:
        slot: The bit that stands for it in `Track.waiters`.
        seen_at: When it was last written down to be here.
        joined: The number of the report with which it came.
        since: The last news before it came.
        report: The number of its last report that was taken.
    """

    slot: int
    seen_at: float
    joined: int
    since: int
    report: int

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Member:
        """Read one."""
        return cls(
            slot=state["slot"],
            seen_at=state["seen_at"],
            joined=state["joined"],
            since=state["since"],
            report=state["report"],
        )

    def to_state(self) -> dict[str, Any]:
        """Write it."""
        return {
            "slot": self.slot,
            "seen_at": round(self.seen_at, 3),
            "joined": self.joined,
            "since": self.since,
            "report": self.report,
        }


@attrs.define(eq=False)
class Lead:
    """Who leads, under which token, and until when."""

    process: str
    token: int
    until: float

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Lead:
        """Read it."""
        return cls(state["process"], state["token"], state["until"])

    def to_state(self) -> dict[str, Any]:
        """Write it."""
        return {"process": self.process, "token": self.token, "until": self.until}


@attrs.define(eq=False)
class Track:
    """A track that somebody waits for.

    Attributes:
        kind: What it is.
        waiters: A bit for each process: a list would be a hundred bytes for each track
            where many wait.
        since: Version of the ledger at which the last of them began to wait.
        accepted: When it was accepted, as far as known.
        length: The seconds asked for, as far as known.
    """

    kind: Kind
    waiters: int = 0
    since: int = 0
    accepted: float | None = None
    length: float | None = None

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Track:
        """Read one."""
        return cls(
            kind=state["kind"],
            waiters=state["waiters"],
            since=state["since"],
            accepted=state.get("accepted"),
            length=state.get("length"),
        )

    def to_state(self) -> dict[str, Any]:
        """Write it, in short: there may be a thousand."""
        state: dict[str, Any] = {
            "kind": self.kind,
            "waiters": self.waiters,
            "since": self.since,
        }
        if self.accepted is not None:
            state["accepted"] = round(self.accepted, 1)
        if self.length is not None:
            state["length"] = self.length
        return state
