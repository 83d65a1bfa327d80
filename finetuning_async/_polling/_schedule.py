"""When to look at which track. Pure: times come in, times come out.

The service allows 60 reads a minute for everything. Three tenths are left for the
caller, so one read every ``1.43 s`` is what polling may take; `ReadPacer` keeps that.
Within it, `DurationEstimator` says when a track is worth a look:

- before it can be done: not at all. How long tracks take is learned by kind and
  requested length, from the service's own times and from what was seen;
- while it is due: at every turn;
- after it should have been done: ever more rarely.

Until enough has been seen, a track is looked at from 2 s on at every turn, as the
vendor advises (every 2 to 5 s, "Rate limits" page of its documentation).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection

    from finetuning_async._types import Kind

    _Key: TypeAlias = tuple[Kind, int | None]

WEBHOOK_PAUSE: Final = 15.0
"""Seconds between looks at a track whose end a webhook will tell, at 60 reads a
minute."""

WEBHOOK_GRACE: Final = 30.0
"""Seconds after the expected end, likewise, from which that webhook is taken for lost:
there is no second delivery ("Webhooks" page)."""

POLLING_SHARE: Final = 0.7
"""The part of the read budget that polling may use; the rest is the caller's."""

MAX_BORROWED: Final = 2
"""Turns that an urgent read may take ahead of time; they are paid back by waiting."""

RESERVED_SHARE: Final = 0.25
"""The part of the read budget that last looks may use out of turn. It is of the
caller's share: who waits for a moment asks for a read as by ``get``."""

FIRST_LOOK: Final = 2.0
"""Seconds after acceptance, at 60 reads a minute, while nothing has been learned."""

SAMPLES_KEPT: Final = 512
"""Of one kind and length. Tracks that were created together end in the order of their
times, so fewer than are in flight would forget the shortest."""

SAMPLES_NEEDED: Final = 4
LENGTH_STEP: Final = 5.0
"""Seconds of requested length that are taken for the same."""

STRAGGLER_SHARE: Final = 0.05
"""Of the time by which a track is overdue: how late its end may be noticed."""

SLOWEST_LOOK: Final = 15.0
"""Seconds between looks at a straggler, at 60 reads a minute."""

SHOWN_EVERY: Final = 25.0
SHOWN_SOONER: Final = 5.0
"""Seconds for which a track that is due may go with reads that tell only whether it has
completed, at 60 reads a minute: usually, and while tracks fail or once one is overdue.
The others cost turns. With 99 kept in flight, 20 to 120 s each, an end is noticed 1.0 s
late (95 %: 2.3 s) at 10 s, and 0.9 s (1.8 s) at 25 s; a failure 15 s late at 25 s, and
4 s at 5 s."""

FAILURE_REMEMBERED: Final = 300.0
"""Seconds after the last failure, likewise, until tracks are taken not to fail."""


class ReadPacer:
    """The rhythm of the reads: one every `interval` seconds on the long run.

    An urgent read, such as after a webhook, may come up to `MAX_BORROWED` turns early; the next
    ones then come later. So no ``per`` seconds hold more than
    ``POLLING_SHARE * limit + 1 + MAX_BORROWED`` reads: 45 at 60 a minute. The last look of a wait may
    come out of turn besides, ``RESERVED_SHARE * limit`` times in ``per`` seconds.

    Args:
        limit: Reads allowed in `per` seconds, at least 1.
        per: Seconds, above 0.
    """

    def __init__(self, *, limit: int, per: float) -> None:
        self._limit = limit
        self._per = per
        self.interval = per / (limit * POLLING_SHARE)
        self.scale = per / limit
        self._next = -inf
        self._reserved_used: deque[float] = deque()

    def lower_limit(self, limit: int) -> None:
        """Take the limit that is really used, which may be lower than the one given."""
        self.interval = self._per / (min(limit, self._limit) * POLLING_SHARE)

    def next_slot(self, *, urgent: bool = False, last_look: bool = False) -> float:
        """The earliest time of the next read.

        Args:
            urgent: Whether it may come ahead of time.
            last_look: Whether it may come out of turn.
        """
        turn = self._next - MAX_BORROWED * self.interval if urgent else self._next
        if not last_look:
            return turn
        taken = self._reserved_used
        return min(
            turn, -inf if len(taken) < self._max_reserved else taken[0] + self._per
        )

    @property
    def _max_reserved(self) -> int:
        return max(int(self._limit * RESERVED_SHARE), 1)

    def use_slots(self, now: float, turns: int = 1, *, last_look: bool = False) -> None:
        """A read went out at `now`, or `turns` are passed over."""
        if last_look and self._takes_reserved_slot(now):
            self._reserved_used.append(now)
            return
        self._next = max(self._next, now) + self.interval * turns

    def _takes_reserved_slot(self, now: float) -> bool:
        while self._reserved_used and self._reserved_used[0] <= now - self._per:
            self._reserved_used.popleft()
        return now < self._next and len(self._reserved_used) < self._max_reserved


@attrs.frozen
class Expectation:
    """When a track may be done, in seconds after its acceptance."""

    earliest: float
    latest: float


class DurationEstimator:
    """How long tracks take, learned from those that ended.

    With ``n`` ended tracks of a kind and length, the next one is expected between
    ``min - d`` and ``max + d``, where ``d = (2 (max - min) + max) / n`` and one turn:
    for times that are spread evenly the chance to fall outside shrinks with ``n``. The
    second term is for a few tracks that took about the same by chance: with it, 1 in
    1,000 ends of times between 20 and 120 s is noticed more than 3 s late, not 19 s.

    Args:
        scale: Seconds per read of the budget; 1 at 60 reads a minute.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        self._scale = scale
        self._seen: dict[_Key, deque[tuple[float, float]]] = {}
        self._expected: dict[_Key, Expectation] = {}
        self._failed_at = -inf

    def learn(
        self, kind: Kind, length: float | None, *, shortest: float, longest: float
    ) -> None:
        """Note how long a track took.

        Args:
            kind: What it is.
            length: What was asked for, in seconds.
            shortest: Seconds that it took at least.
            longest: Seconds that it took at most.
        """
        key = _key(kind, length)
        samples = self._seen.setdefault(key, deque(maxlen=SAMPLES_KEPT))
        samples.append((min(shortest, longest), longest))
        if len(samples) >= SAMPLES_NEEDED:
            self._expected[key] = self._bounds(samples)

    def expect(self, kind: Kind, length: float | None) -> Expectation:
        """When a track of this kind and length may be done."""
        known = self._expected.get(_key(kind, length))
        return known or Expectation(FIRST_LOOK * self._scale, inf)

    def _bounds(self, samples: Collection[tuple[float, float]]) -> Expectation:
        low = min(shortest for shortest, _ in samples)
        high = max(longest for _, longest in samples)
        slack = (2 * (high - low) + high) / len(samples) + self._scale
        return Expectation(max(low - slack, 0.0), high + slack)

    def record_failure(self, now: float) -> None:
        """A track has failed."""
        self._failed_at = now

    def status_due_by(self, look: float, *, end: float, now: float) -> float:
        """From when on only a read will do that shows a track whatever its status.

        Args:
            look: When it is looked at next.
            end: When it should have ended.
            now: All on the loop's clock.
        """
        usual, sooner = SHOWN_EVERY * self._scale, SHOWN_SOONER * self._scale
        if now < self._failed_at + FAILURE_REMEMBERED * self._scale:
            usual = sooner
        return min(look + usual, max(look + sooner, end))

    def pause(self, expectation: Expectation, *, age: float) -> float:
        """How long to wait before the next look at a track that still runs.

        Args:
            expectation: When it may be done.
            age: Seconds since its acceptance.

        Returns:
            Seconds; 0 for the next turn.
        """
        if age < expectation.earliest:
            return expectation.earliest - age
        if age <= expectation.latest:
            return 0.0
        overdue = age - expectation.latest
        return min(overdue * STRAGGLER_SHARE, SLOWEST_LOOK * self._scale)

    def pause_for_hook(self, expectation: Expectation, *, age: float) -> float:
        """The same for a track whose end a webhook will tell, where those arrive.

        Until anything has been learned there is no end to expect, and no difference.

        Args:
            expectation: When it may be done.
            age: Seconds since its acceptance.
        """
        lost_at = expectation.latest + WEBHOOK_GRACE * self._scale
        pause = self.pause(Expectation(expectation.earliest, lost_at), age=age)
        left = lost_at - age
        if not 0 < left < inf:
            return pause
        return max(pause, min(WEBHOOK_PAUSE * self._scale, left))


def _key(kind: Kind, length: float | None) -> _Key:
    return kind, None if length is None else round(length / LENGTH_STEP)
