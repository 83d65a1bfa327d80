"""When to look at which track. Pure: times come in, times come out.

The service allows 60 reads a minute in all. Three tenths are left to the caller, so
polling may send one read every ``1.43 s``, its slots; `ReadPacer` keeps to that. Within
them, `DurationEstimator` says when a track is worth a look:

- before it can be done: not at all. How long tracks take is learned by kind and
  requested length, from the service's own dates and from what was observed;
- while its end is expected: at every slot;
- after it should have been done: less and less often.

Until enough has been learned, a track is looked at in every slot from 2 s on, as the
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
"""Seconds between looks at a track whose end a webhook will report, at 60 reads a
minute."""

WEBHOOK_GRACE: Final = 30.0
"""Seconds after the expected end, likewise, after which that webhook counts as lost:
it is delivered once ("Webhooks" page)."""

POLLING_SHARE: Final = 0.7
"""The part of the read budget that polling may use; the rest is left to the caller."""

MAX_BORROWED: Final = 2
"""Slots that urgent reads may borrow; the next reads wait until they are paid back."""

RESERVED_SHARE: Final = 0.25
"""The part of the read budget that is reserved for last looks. It comes out of the
caller's share: a call with a short timeout asks for a read, as `get` does."""

FIRST_LOOK: Final = 2.0
"""Seconds after acceptance, at 60 reads a minute, while nothing has been learned."""

SAMPLES_KEPT: Final = 512
"""Durations kept for one kind and length. Tracks that were created together end in the
order of their durations, so fewer than are in flight would forget the shortest."""

HURRY: Final = 3.0
"""How many reads go in the time of one while a person waits for the end of any track:
of the reserved ones, of which a third is left for last looks."""

SAMPLES_NEEDED: Final = 4
LENGTH_STEP: Final = 5.0
"""Requested lengths are rounded to this many seconds."""

ASSUMED_DURATION: Final = 70.0
"""Seconds that a track is assumed to take before anything is known."""

STRAGGLER_SHARE: Final = 0.05
"""How late an overdue end may be noticed, as a part of how overdue the track is."""

SLOWEST_LOOK: Final = 15.0
"""Seconds between looks at a straggler, at 60 reads a minute."""

SHOWN_EVERY: Final = 25.0
SHOWN_SOONER: Final = 5.0
"""Seconds that a due track may go with reads of the completed list, which show only
whether it has completed, at 60 reads a minute: usually, and while tracks fail or once
it is overdue. Reads that show every status cost more slots. With 99 tracks in flight,
20 to 120 s each, an end is noticed 1.0 s late (95 %: 2.3 s) at 10 s, and 0.9 s (1.8 s)
at 25 s; a failure 15 s late at 25 s, and 4 s at 5 s."""

FAILURE_REMEMBERED: Final = 300.0
"""Seconds after the last failure, likewise, until tracks are expected to complete."""


class ReadPacer:
    """Spaces the reads: one slot every `interval` seconds in the long run.

    An urgent read, such as after a webhook, may borrow up to `MAX_BORROWED` slots; the
    next ones then come later. So no ``per`` seconds hold more than
    ``POLLING_SHARE * limit + 1 + MAX_BORROWED`` reads: 45 at 60 a minute. In addition
    last looks have ``RESERVED_SHARE * limit`` slots in ``per`` seconds, and so do reads
    in a hurry.

    Args:
        limit: Reads allowed in `per` seconds, at least 1.
        per: Seconds, above 0.

    Attributes:
        hurried: How many persons wait for the end of any track.
    """

    def __init__(self, *, limit: int, per: float) -> None:
        self._limit = limit
        self._per = per
        self.interval = per / (limit * POLLING_SHARE)
        self.scale = per / limit
        self.hurried = 0
        self._next = -inf
        self._used_at = -inf
        self._reserved_used: deque[float] = deque()

    def lower_limit(self, limit: int) -> None:
        """Use a lower limit than the one given, as far as the service allows fewer."""
        self.interval = self._per / (min(limit, self._limit) * POLLING_SHARE)

    def next_slot(self, *, urgent: bool = False, last_look: bool = False) -> float:
        """The earliest time of the next read.

        Args:
            urgent: Whether it may borrow slots.
            last_look: Whether it may use a reserved slot.
        """
        slot = self._next - MAX_BORROWED * self.interval if urgent else self._next
        if self.hurried:
            slot = min(slot, self._used_at + self.pause)
        if not last_look:
            return slot
        taken = self._reserved_used
        return min(
            slot, -inf if len(taken) < self._max_reserved else taken[0] + self._per
        )

    @property
    def pause(self) -> float:
        """Seconds from one read of a track to the next."""
        is_hurry = (
            self.hurried and len(self._reserved_used) < self._max_reserved * 2 / 3
        )
        return self.interval / HURRY if is_hurry else self.interval

    @property
    def _max_reserved(self) -> int:
        return max(int(self._limit * RESERVED_SHARE), 1)

    def use_slots(self, now: float, slots: int = 1, *, last_look: bool = False) -> None:
        """Use slots: one for a read that is sent now, or several to skip them."""
        while self._reserved_used and self._reserved_used[0] <= now - self._per:
            self._reserved_used.popleft()
        is_hurry = self.pause < self.interval
        self._used_at = now
        if (last_look or is_hurry) and self._takes_reserved_slot(now):
            self._reserved_used.append(now)
            return
        self._next = max(self._next, now) + self.interval * slots

    def _takes_reserved_slot(self, now: float) -> bool:
        return now < self._next and len(self._reserved_used) < self._max_reserved


@attrs.frozen
class Expectation:
    """When a track may be done, in seconds after its acceptance."""

    earliest: float
    latest: float


class DurationEstimator:
    """How long tracks take, learned from those that ended.

    With ``n`` ended tracks of a kind and length, the next one is expected between
    ``min - d`` and ``max + d``, where ``d = (2 (max - min) + max) / n + scale``: for
    evenly spread durations the chance to fall outside shrinks with ``n``. The second
    ``max`` is for a few tracks that took about the same by chance: with it, 1 in
    1,000 ends, for durations from 20 to 120 s, is noticed more than 3 s late, not 19 s.

    Args:
        scale: Seconds per allowed read; 1 at 60 reads a minute.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        self._scale = scale
        self._seen: dict[_Key, deque[tuple[float, float]]] = {}
        self._expected: dict[_Key, Expectation] = {}
        self._failed_at = -inf

    def learn(
        self, kind: Kind, length: float | None, *, shortest: float, longest: float
    ) -> None:
        """Add the duration of a track that has completed.

        Args:
            kind: Its kind.
            length: The length asked for, in seconds.
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

    def seen(self, kind: Kind) -> list[float]:
        """Return what tracks of a kind took lately, in seconds, ascending.

        `ASSUMED_DURATION` until `SAMPLES_NEEDED` of them have ended.
        """
        seen = [
            (shortest + longest) / 2
            for (of_kind, _), samples in self._seen.items()
            if of_kind == kind
            for shortest, longest in samples
        ]
        return sorted(seen) if len(seen) >= SAMPLES_NEEDED else [ASSUMED_DURATION]

    def _bounds(self, samples: Collection[tuple[float, float]]) -> Expectation:
        low = min(shortest for shortest, _ in samples)
        high = max(longest for _, longest in samples)
        slack = (2 * (high - low) + high) / len(samples) + self._scale
        return Expectation(max(low - slack, 0.0), high + slack)

    def record_failure(self, now: float) -> None:
        """A track has failed."""
        self._failed_at = now

    def status_due_by(self, look: float, *, end: float, now: float) -> float:
        """From when on a read must show a track whatever its status is.

        Args:
            look: When it is looked at next, on the loop's clock, as are all times here.
            end: When it should have ended.
            now: The current time.
        """
        usual, sooner = SHOWN_EVERY * self._scale, SHOWN_SOONER * self._scale
        if now < self._failed_at + FAILURE_REMEMBERED * self._scale:
            usual = sooner
        return min(look + usual, max(look + sooner, end))

    def pause(self, expectation: Expectation, *, age: float) -> float:
        """The pause before the next look at a track that is still running.

        Args:
            expectation: When it may be done.
            age: Seconds since its acceptance.

        Returns:
            Seconds; 0 for the next slot.
        """
        if age < expectation.earliest:
            return expectation.earliest - age
        if age <= expectation.latest:
            return 0.0
        overdue = age - expectation.latest
        return min(overdue * STRAGGLER_SHARE, SLOWEST_LOOK * self._scale)

    def pause_for_hook(self, expectation: Expectation, *, age: float) -> float:
        """As `pause`, for a track whose end a webhook will report, if those arrive.

        Until enough has been learned no end is expected, and the result is the same.

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
