"""The reads of the poll loop that are under way: when another may begin. Pure.

As a rule there is one. An answer that does not come holds up nobody: after a few
seconds another read goes out beside it, and the first is still listened to, so a
service that is only slow is heard as well.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async._polling._read_planner import Read
    from finetuning_async._polling._watch_list import Waiter, Watched
    from finetuning_async._runtime import ShieldedCall

HANGS_AFTER: Final = 5.0
"""Seconds on the wire after which the next read does not wait for an answer."""

LAST_LOOK_HANGS_AFTER: Final = 0.5
"""The same for the last look before a wait has to end."""

MAX_IN_FLIGHT: Final = 3
"""Reads under way at once; a service that answers none is not asked ever more."""


@attrs.define(eq=False)
class ReadInFlight:
    """One read under way.

    Attributes:
        reader: Who began it, with whose client.
        shielded_call: It, in its task.
        read: What it asks for; `None` while it waits for its turn.
        sent_at: When it was sent, on the loop's clock; `inf` until then.
    """

    reader: Waiter
    shielded_call: ShieldedCall[None] = attrs.field(init=False)
    read: Read | None = None
    sent_at: float = inf

    @property
    def tracks(self) -> Sequence[Watched]:
        """What it should show."""
        return () if self.read is None else self.read.tracks


class ReadsInFlight:
    """All reads under way."""

    def __init__(self) -> None:
        self._all: dict[ReadInFlight, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def started_by(self, reader: Waiter) -> list[ReadInFlight]:
        """Those that one waiter has begun."""
        return [in_flight for in_flight in self._all if in_flight.reader is reader]

    def add(self, in_flight: ReadInFlight) -> None:
        """A read begins."""
        self._all[in_flight] = None

    def discard(self, in_flight: ReadInFlight) -> None:
        """A read has ended; known or not."""
        self._all.pop(in_flight, None)

    def hanging(self, now: float) -> list[ReadInFlight]:
        """Those that have not been answered for long."""
        return [
            in_flight
            for in_flight in self._all
            if now >= in_flight.sent_at + HANGS_AFTER
        ]

    def pending_since(self, track: Watched) -> float:
        """Since when an answer about a track is awaited; `inf` if none is."""
        sent = (
            in_flight.sent_at for in_flight in self._all if track in in_flight.tracks
        )
        return min(sent, default=inf)

    def next_allowed_at(self, now: float, *, is_last_look: bool) -> float:
        """When another read may begin beside those under way.

        Args:
            now: On the loop's clock, as the result.
            is_last_look: Whether a wait has to end without it.

        Returns:
            ``-inf`` if none is under way; `inf` if one of them has to end first. While
            one waits for its turn a time at which to ask again.
        """
        if not self._all:
            return -inf
        if len(self._all) >= MAX_IN_FLIGHT + is_last_look:
            return inf
        patience = LAST_LOOK_HANGS_AFTER if is_last_look else HANGS_AFTER
        newest = max(in_flight.sent_at for in_flight in self._all)
        return (now if newest == inf else newest) + patience
