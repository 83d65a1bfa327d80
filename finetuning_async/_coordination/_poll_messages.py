"""What processes that poll for each other send in a sync, and the reply. Plain values.

One process leads: it alone reads, for the tracks of all. The others declare what they
wait for and receive the states that it observed. Hints, of webhooks, go to all.
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
        id: Its id.
        kind: Its kind.
        age: Seconds since it was accepted, as far as known.
        length: The seconds of music asked for, as far as known.
        is_fresh: For the leader: whether a process began to wait for it since the
            leader's last sync, and so has received no state of it yet.
    """

    id: str
    kind: Kind
    age: float | None = None
    length: float | None = None
    is_fresh: bool = False


@attrs.frozen(kw_only=True)
class ObservedState:
    """A state of a track that a process read.

    Attributes:
        kind: The kind of the track.
        row: As the service sent it, without its webhook.
    """

    kind: Kind
    row: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class PollReport:
    """What a process sends.

    Attributes:
        added: The tracks that it waits for since the last report.
        dropped: Those that it no longer waits for.
        is_complete: Whether `added` is all that it waits for, whatever it sent before.
        seen: What it read as the leader; discarded if it has lost the lead since.
        refused: Tracks of other processes that the service does not show to its key.
        hints: Tracks that a webhook or the caller says have changed.
        may_lead: Whether it can lead; else it gives the lead up.
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
        """Whether it contains anything that the ledger does not know yet."""
        content = (self.added, self.dropped, self.seen, self.refused, self.hints)
        return self.is_complete or any(content)


@attrs.frozen(kw_only=True)
class PollUpdate:
    """What a process receives.

    Attributes:
        leads_for: Seconds, from the start of the sync, for which it alone reads; 0 if
            another process leads.
        is_new_lead: Whether it did not lead before, or may have lost the lead since:
            what it has read until now must not be reported.
        seen: States that were observed since the last update.
        refused: Tracks that the leader could not read; a process that waits for one
            reads it itself.
        hints: Tracks that a webhook or a caller says have changed.
        others: What the other processes wait for; `None` if that has not changed.
        must_declare: Whether the ledger has lost this process, or this process has
            missed an event: its next report has to be complete.
        processes: How many share their polling, this one included.
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
    """The polling that processes of an account share, as one event loop reaches it."""

    async def sync(self, report: PollReport) -> PollUpdate:
        """Exchange a report for an update.

        Raises:
            Exception: Any; each process then reads for itself.
        """
