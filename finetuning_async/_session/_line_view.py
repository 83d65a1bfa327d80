"""The line of an account's creates as it stands now: who waits, and until when.

To work it out takes as long as the line is, so where many wait, all who ask within a
moment get one answer: of 10,000 creates that report how they stand, each looks up its
place. Nothing is sent or awaited.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import inf
from typing import TYPE_CHECKING, Final, Literal

import anyio

from finetuning_async._pacing import (
    ANY_REQUEST,
    LOW,
    LimiterWithTerms,
    LineState,
    Outlook,
    Terms,
    sending_times,
    with_terms,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from finetuning_async._pacing import (
        InFlight,
        QueueGate,
        RateLimiter,
        RateLimits,
    )
    from finetuning_async._polling import Poller
    from finetuning_async._types import Kind

SHORT: Final = 100
"""Creates; a line that is no longer is worked out anew for each who asks."""

VALID: Final = 1e-3
"""Seconds for which an answer holds, for each create of a longer line: a hundred times
what it takes to work one out."""

LONGEST: Final = 1.0
"""Seconds for which an answer holds at most."""


class LineView:
    """The line of one account in one event loop.

    Args:
        limiter: Where the creates wait.
        limits: The account's; `None` for no pacing.
        inflight: Its tracks in progress.
        poller: Knows how long tracks take.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        limits: RateLimits | None,
        inflight: InFlight,
        poller: Poller,
    ) -> None:
        self._limiter = limiter
        self._limits = limits
        self._inflight = inflight
        self._poller = poller
        self._places: Mapping[QueueGate, int] = {}
        self._starts: dict[Kind, list[float]] = {}
        self._valid_until = -inf

    def watched(self, on_change: Callable[[], None]) -> AbstractContextManager[None]:
        """Call a function when creates may have to wait longer."""
        limiter = with_terms(self._limiter, ANY_REQUEST)
        if isinstance(limiter, LimiterWithTerms):
            return limiter.watched(on_change)
        return nullcontext()

    def places(self) -> Mapping[QueueGate, int]:
        """How many creates go before each that waits in this loop."""
        now = anyio.current_time()
        if now >= self._valid_until or len(self._places) <= SHORT:
            limiter = with_terms(self._limiter, ANY_REQUEST)
            self._places = {}
            if isinstance(limiter, LimiterWithTerms):
                self._places = limiter.places()
            self._starts.clear()
            self._valid_until = now + self.pause
        return self._places

    @property
    def pause(self) -> float:
        """Seconds until it is worth asking again."""
        waiting = len(self._places)
        return min(VALID * waiting, LONGEST) if waiting > SHORT else 0.0

    def start_of(self, place: int, kind: Kind) -> float:
        """When the create at a place is expected to go out, on the loop's clock.

        Args:
            place: One of `places`, which was called just before.
            kind: Whose tracks' durations count.
        """
        starts = self._starts.get(kind)
        if starts is None:
            now = anyio.current_time()
            line = self.state(1, ANY_REQUEST)
            outlook = self.outlook(line, kind, 0)
            last = max(self._places.values(), default=0)
            starts = [now + seconds for seconds in sending_times(outlook, last + 1)]
            self._starts[kind] = starts
        return starts[min(place, len(starts) - 1)]

    def state(self, creates: int, terms: Terms) -> LineState:
        """What is known of the line, if `creates` joined it now."""
        limiter = with_terms(self._limiter, terms)
        if isinstance(limiter, LimiterWithTerms):
            return limiter.line_state(creates)
        # A limiter of the caller's says only when the next create may go out.
        limit = None if self._limits is None else self._limits.creates
        wait = max(self._limiter.earliest("creates") - anyio.current_time(), 0.0)
        return LineState(
            first=0,
            last=creates - 1,
            waiting=(0, 0, 0),
            tokens=() if limit is None else (wait,) * limit.limit,
            lease=0.0 if limit is None else limit.per,
            gap=0.0 if limit is None else limit.per / limit.limit,
        )

    def outlook(
        self, line: LineState, kind: Kind, creates: int, rank: int = LOW
    ) -> Outlook:
        """What is known for a forecast.

        Args:
            line: The line.
            kind: Whose tracks' durations count.
            creates: How many are to join it.
            rank: Of these creates; counts only if there are any.
        """
        now, inflight = anyio.current_time(), self._inflight
        opens_in = max(self._limiter.gate_opens("creates") - now, 0.0)
        room_at = inflight.room_at()
        if not inflight.tracks and now < room_at < inf:
            opens_in = max(opens_in, room_at - now)  # full of other clients' tracks
        return Outlook(
            tokens=line.tokens,
            lease=line.lease,
            opens_in=opens_in,
            gap=line.gap,
            spaced=_spaced(line, creates, rank),
            places=inflight.queue_capacity,
            ends=self._expected_ends(now),
            durations=self._poller.durations(kind),
        )

    def reason(self) -> Literal["rate_limit", "retry_after", "queue"]:
        """What creates wait for now, before all else."""
        now = anyio.current_time()
        if self._limiter.gate_opens("creates") > now:
            return "retry_after"
        return "queue" if self._inflight.room_at() > now else "rate_limit"

    def _expected_ends(self, now: float) -> tuple[float, ...]:
        """Seconds until the tracks in progress end; of creates in flight as well."""
        tracks, pending = self._inflight.tracks.values(), self._inflight.pending
        # Once for each kind: to work one out takes as long as many tracks are known.
        kinds = {"music", *(track.kind for track in tracks)}
        usual = {kind: self._poller.typical_duration(kind) for kind in kinds}
        ends = [track.accepted_at + usual[track.kind] - now for track in tracks]
        return (*ends, *[usual["music"]] * pending)


def _spaced(line: LineState, creates: int, rank: int) -> int:
    """How many of the line go out evenly: `low` ones alone, more than a burst holds."""
    if rank != LOW or any(line.waiting[:LOW]):
        return 0
    return max(line.waiting[LOW] + creates - line.limit, 0)
