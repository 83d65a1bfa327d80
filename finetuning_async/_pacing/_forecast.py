"""When creates will go out, by what is known now. Pure.

    Outlook    what is known: tokens, gates, the service's queue, how long tracks take
    Forecast   when creates go out and when their tracks are done
    forecast   the one from the other

    sending_times   when all of the line go out

It plays the line forward, one create after another: each takes the token that comes
back first, and the place in the queue that comes free first. Nothing is random: tracks
take as long as they usually do, and no one joins later.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf
from typing import Final

import attrs

ROUND_TRIP: Final = 0.2
"""Seconds that a create takes; only small against everything else here."""

NOTICE: Final = 1.0
"""Seconds from the end of a track until it is noticed, and its place used again."""

FAR: Final = 100_000
"""Creates that are played forward at most; later ones follow at the same rate."""


@attrs.frozen(kw_only=True)
class Outlook:
    """What is known, in seconds from now.

    Attributes:
        tokens: When each token of the rate budget is back, one for each that the limit
            allows; 0 or less for one that is free. Empty if creates are not paced.
        lease: From a response until its token is back.
        opens_in: When nothing blocks creates any more: the gate of a 429, an outage.
        gap: From one spaced create to the next.
        spaced: Creates, from the first on, that go out evenly.
        places: How many tracks may be in progress; `None` if not known.
        ends: When each track in progress ends, as far as known; in the past if it is
            overdue.
        durations: How long tracks took lately, ascending; at least one.
    """

    tokens: tuple[float, ...]
    lease: float
    opens_in: float = 0.0
    gap: float = 0.0
    spaced: int = 0
    places: int | None = None
    ends: tuple[float, ...] = ()
    durations: tuple[float, ...] = (70.0,)

    @property
    def duration(self) -> float:
        """How long a track takes in the mean."""
        return sum(self.durations) / len(self.durations)

    def longest_of(self, count: int) -> float:
        """How long the longest of some tracks takes, in the middle of what may be."""
        return self.durations[int(len(self.durations) * count / (count + 1))]


@attrs.frozen
class Forecast:
    """When creates go out, in seconds from now.

    Attributes:
        first_sent: When the first of them goes out.
        last_sent: When the last one does.
        last_completed: When the last of their tracks is done.
    """

    first_sent: float
    last_sent: float
    last_completed: float


def forecast(outlook: Outlook, first: int, last: int, creates: int = 1) -> Forecast:
    """Say when the creates of a caller go out.

    Args:
        outlook: What is known.
        first: How many go before the first of them.
        last: How many go before the last of them, at least `first`.
        creates: How many they are.
    """
    sent = sending_times(outlook, min(last, FAR) + 1)
    pace = sent[-1] / len(sent)
    first_sent, last_sent = (
        sent[min(place, FAR)] + pace * max(place - FAR, 0) for place in (first, last)
    )
    # Of those that go out together, the one that takes longest is done last.
    spread = outlook.durations[-1] - outlook.durations[0]
    together = sum(at >= sent[-1] - spread for at in sent[-creates:])
    longest = outlook.longest_of(max(together, 1))
    return Forecast(first_sent, last_sent, last_sent + ROUND_TRIP + longest + NOTICE)


def sending_times(outlook: Outlook, count: int) -> list[float]:
    """Say when the next `count` creates of the line go out, in seconds from now."""
    tokens = list(outlook.tokens)
    # A track that should have ended is expected to do so any moment.
    ends = [max(at, 0.0) for at in outlook.ends]
    heapify(tokens)
    heapify(ends)
    duration = outlook.duration
    sent: list[float] = []
    now, spaced_at = max(outlook.opens_in, 0.0), -inf
    for number in range(count):
        if tokens:
            now = max(now, heappop(tokens))
        if outlook.places is not None and len(ends) >= max(outlook.places, 1):
            now = max(now, heappop(ends) + NOTICE)
        if number < outlook.spaced:
            now = max(now, spaced_at + outlook.gap)
            spaced_at = now
        sent.append(now)
        if outlook.tokens:
            heappush(tokens, now + ROUND_TRIP + outlook.lease)
        if outlook.places is not None:
            heappush(ends, now + ROUND_TRIP + duration)
    return sent
