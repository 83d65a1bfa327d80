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
class Wanted:
    """A track that a process waits for.

    Attributes:
        id: Which.
        kind: What it is.
        age: Seconds since it was accepted, as far as known.
        length: The seconds asked for, as far as known.
    """

    id: str
    kind: Kind
    age: float | None = None
    length: float | None = None


@attrs.frozen(kw_only=True)
class Seen:
    """A state that somebody read.

    Attributes:
        kind: What the track is.
        row: As the service sent it, without its webhook.
    """

    kind: Kind
    row: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Words:
    """What a process says at a meeting.

    Attributes:
        added: What it waits for since the last one.
        dropped: What it no longer waits for.
        seen: What it read; not taken from one that has lost the lead.
        refused: Tracks of others that the service would not show it.
        hints: Tracks of which something was heard.
        may_lead: Whether it waits for anything; else another leads, from now on.
    """

    added: Sequence[Wanted] = ()
    dropped: Sequence[str] = ()
    seen: Sequence[Seen] = ()
    refused: Sequence[str] = ()
    hints: Sequence[str] = ()
    may_lead: bool = True


@attrs.frozen(kw_only=True)
class Heard:
    """What it is told.

    Attributes:
        leads_for: Seconds from the asking on for which it alone reads; 0 if not it.
        seen: What was read since the last meeting.
        refused: What the leader could not read; who waits for it reads it itself.
        hints: Tracks of which something was heard.
        others: What others wait for; `None` if that is as before.
        is_new: Whether it was not known: all that it wants is to be declared again.
    """

    leads_for: float
    seen: Sequence[Seen] = ()
    refused: Sequence[str] = ()
    hints: Sequence[str] = ()
    others: Sequence[Wanted] | None = None
    is_new: bool = False


class PollCoordinator(Protocol):
    """Where the processes of an account meet. It belongs to one event loop."""

    async def meet(self, words: Words) -> Heard:
        """Say and be told.

        Raises:
            Exception: Any; each process then reads for itself.
        """
