"""The reads in flight of the poll loop, and when another may be sent. Pure.

As a rule there is one. A read that hangs must not hold up the other waiters: after a
few seconds another is sent beside it. The first is not cancelled, so the responses of a
service that is merely slow still count.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._polling._read_planner import Read
    from finetuning_async._polling._waiters import Waiter
    from finetuning_async._polling._watch_list import Watched
    from finetuning_async._runtime import ShieldedCall

HANGS_AFTER: Final = 5.0
"""Seconds on the wire after which the next read does not wait for the response."""

LAST_LOOK_HANGS_AFTER: Final = 0.5
"""The same if the next read is a last look."""

MAX_IN_FLIGHT: Final = 3
"""Reads in flight at once: a service that does not respond gets no more of them."""


@attrs.define(eq=False)
class ReadInFlight:
    """One read in flight.

    Attributes:
        reader: The waiter that started it, and whose client sends it.
        shielded_call: Its child task.
        read: What it reads; `None` while it waits for its permit.
        sent_at: When it was sent, on the loop's clock; `inf` until then.
    """

    reader: Waiter
    shielded_call: ShieldedCall[None] = attrs.field(init=False)
    read: Read | None = None
    sent_at: float = inf

    @property
    def tracks(self) -> Sequence[Watched]:
        """The tracks that it should show."""
        return () if self.read is None else self.read.tracks


class ReadsInFlight:
    """All reads in flight."""

    def __init__(self) -> None:
        self._all: dict[ReadInFlight, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def started_by(self, reader: Waiter) -> list[ReadInFlight]:
        """The reads that a waiter started."""
        return [in_flight for in_flight in self._all if in_flight.reader is reader]

    def add(self, in_flight: ReadInFlight) -> None:
        """Add a read that starts."""
        self._all[in_flight] = None

    def discard(self, in_flight: ReadInFlight) -> None:
        """Remove a read that has ended, if it is there."""
        self._all.pop(in_flight, None)

    def hanging(self, now: float) -> list[ReadInFlight]:
        """The reads that have had no response for long."""
        return [
            in_flight
            for in_flight in self._all
            if now >= in_flight.sent_at + HANGS_AFTER
        ]

    def pending_since(self, track: Watched) -> float:
        """When the oldest read of a track was sent; `inf` if none is in flight."""
        sent = (
            in_flight.sent_at for in_flight in self._all if track in in_flight.tracks
        )
        return min(sent, default=inf)

    def next_allowed_at(self, now: float, *, is_last_look: bool) -> float:
        """When another read may be sent beside those in flight.

        Args:
            now: On the loop's clock, as the result.
            is_last_look: Whether a wait times out without it.

        Returns:
            ``-inf`` if none is in flight; `inf` if one of them has to end first; while
            one waits for its permit, a time at which to ask again.
        """
        if not self._all:
            return -inf
        if len(self._all) >= MAX_IN_FLIGHT + is_last_look:
            return inf
        patience = LAST_LOOK_HANGS_AFTER if is_last_look else HANGS_AFTER
        newest = max(in_flight.sent_at for in_flight in self._all)
        return (now if newest == inf else newest) + patience
