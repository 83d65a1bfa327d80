"""What processes that poll for each other say. Plain values.

One of them leads: it alone reads, for the tracks of all. The others declare what they
wait for and hear what it saw. Hints, of webhooks, go to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from finetuning_async._types import Kind


@attrs.frozen(kw_only=True)
class WatchedTrack:
    """A track that a process waits for.

    Attributes:
        id: Which.
        kind: What it is.
        age: Seconds since it was accepted, as far as known.
        length: The seconds asked for, as far as known.
        is_fresh: Told to the leader: whether somebody began to wait for it since the
            leader last heard what others wait for, and so knows no state of it yet.
    """

    id: str
    kind: Kind
    age: float | None = None
    length: float | None = None
    is_fresh: bool = False


@attrs.frozen(kw_only=True)
class ObservedState:
    """A state that somebody read.

    Attributes:
        kind: What the track is.
        row: As the service sent it, without its webhook.
    """

    kind: Kind
    row: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class PollReport:
    """What a process says.

    Attributes:
        added: What it waits for since the last report.
        dropped: What it no longer waits for.
        is_complete: Whether `added` is all that it waits for, whatever it said before.
        seen: What it read while it had the lead; not taken if it has lost it since.
        refused: Tracks of others that the service would not show it.
        hints: Tracks of which something was heard.
        may_lead: Whether it waits for anything; else another leads, from now on.
    """

    added: Sequence[WatchedTrack] = ()
    dropped: Sequence[str] = ()
    is_complete: bool = False
    seen: Sequence[ObservedState] = ()
    refused: Sequence[str] = ()
    hints: Sequence[str] = ()
    may_lead: bool = True

    @property
    def changes_something(self) -> bool:
        """Whether there is anything in it that the others do not know yet."""
        said = (self.added, self.dropped, self.seen, self.refused, self.hints)
        return self.is_complete or any(said)


@attrs.frozen(kw_only=True)
class PollUpdate:
    """What it is told.

    Attributes:
        leads_for: Seconds from the asking on for which it alone reads; 0 if not it.
        is_new_lead: Whether it did not lead before, or may have lost the lead since:
            what it read until now is not to be reported.
        seen: What was read since the last update.
        refused: What the leader could not read; who waits for it reads it itself.
        hints: Tracks of which something was heard.
        others: What others wait for; `None` if that is as before.
        must_declare: Whether it was forgotten, or has missed something: its next
            report has to be complete.
        processes: How many are here, this one included.
    """

    leads_for: float
    is_new_lead: bool = False
    seen: Sequence[ObservedState] = ()
    refused: Sequence[str] = ()
    hints: Sequence[str] = ()
    others: Sequence[WatchedTrack] | None = None
    must_declare: bool = False
    processes: int = 1


class PollCoordinator(Protocol):
    """Where the processes of an account meet. It belongs to one event loop."""

    async def sync(self, report: PollReport) -> PollUpdate:
        """Say and be told.

        Raises:
            Exception: Any; each process then reads for itself.
        """
