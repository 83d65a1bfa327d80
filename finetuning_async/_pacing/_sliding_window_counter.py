"""What a sliding counter would hold, whenever its windows begin.

Such a service counts per fixed window and estimates the last `per` seconds as the count
of this window plus the share of the previous one that still overlaps them. A request
thus weighs for up to 2 * `per` seconds, and ten requests early in one window still
weigh 9.8 a minute later: leases of `per` seconds earn refusals there.

The test: let a window begin at w. A request counted at s weighs 1 if s >= w, the share
1 - (t - w) / per if w - per <= s < w, and 0 if earlier; more the later it is counted,
less the later one looks. So put each answered request at its answer (not earlier than
s), each unanswered one at weight 1, and take the largest sum over all w: the service's
estimate is no larger. A request may go when the load and itself are at most the limit.

Why nothing is refused then: let x be any request, and z the last let go among x and
those counted before x. When z was let go, the load of the others, with x at 1 as it was
still out (or is z), plus 1 for z was at most the limit, and weights only fell since. So
when x arrives the estimate without it is at most limit - 1.

With w just above t - per the load is the number of requests in the last `per` seconds:
the test is never laxer than the leases. It costs up to a third of the speed on a
service that is no such counter, so it is on only once there is evidence. Remembered,
since a service does not change its kind.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from finetuning_async._pacing._reservation import Reservation

NOISE = 1e-6
"""Requests, or seconds, that float arithmetic may add or take."""

SURELY = 0.9
"""Share of a period after whose answer a request is surely still counted."""

TRIALS = 3
"""Bursts that a sliding counter could have refused; a number of its windows."""

RESOLUTION = 1 / 60_000
"""Share of a period to which the next turn is found: 1 ms of a minute."""


class SlidingWindowCounter:
    """The test for every phase, and the evidence that it is needed.

    Args:
        limit: Requests; at least 1. May be changed while requests are out.
        per: Seconds, above 0, with the margin for timers.
    """

    __slots__ = ("_answers", "_in_flight", "_served", "is_on", "limit", "per")

    def __init__(self, limit: int, per: float) -> None:
        self.limit = limit
        self.per = per
        self.is_on = False
        self._in_flight = 0
        self._served = 0  # though a sliding counter could have refused them
        self._answers: list[float] = []  # ascending; those that may still matter

    def __repr__(self) -> str:
        state = "on" if self.is_on else "off"
        return f"<SlidingCounter {state}: {len(self._answers)} remembered>"

    def to_state(self) -> dict[str, Any]:
        """What it remembers, as JSON; see `from_state`."""
        since = self._answers[-1] - 4 * self.per if self._answers else 0.0
        return {
            "is_on": self.is_on,
            "in_flight": self._in_flight,
            "served": self._served,
            "answers": self._answers[bisect_left(self._answers, since) :],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], limit: int, per: float) -> Self:
        """One that remembers what `to_state` told."""
        made = cls(limit, per)
        made.is_on, made._served = state["is_on"], state["served"]
        made._in_flight = state["in_flight"]
        made._answers = list(state["answers"])
        return made

    @property
    def is_undecided(self) -> bool:
        """Whether it may yet turn out to be one, as those who met others must ask.

        Not any more once `TRIALS` times the limit were served that a sliding counter
        could have refused.
        """
        return not self.is_on and self._served < TRIALS * self.limit

    def on_sent(self, ticket: Reservation) -> None:
        """A request goes out and weighs 1."""
        self._in_flight += 1

    def on_unsent(self, ticket: Reservation, now: float) -> None:
        """No byte of it left."""
        self._in_flight -= 1

    def on_response(self, ticket: Reservation, now: float) -> None:
        """Its answer is in: it was counted by now."""
        self._in_flight -= 1
        insort(self._answers, now)
        # Twice the two periods, for looking back to when an answer was asked for.
        if self._answers[0] < now - 8 * self.per:
            del self._answers[: bisect_left(self._answers, now - 4 * self.per)]

    def on_abandoned(self, ticket: Reservation, now: float, linger: float) -> None:
        """Its bytes may be counted for `linger` more seconds."""
        self.on_response(ticket, now + linger)

    def served(self, ticket: Reservation) -> None:
        """The request answered last was counted, and no header says what is left.

        One that was served although a sliding counter could have refused it lets one
        more such request be out at a time.
        """
        if not self.is_on and self._might_be_refused(ticket):
            self._served += 1

    def may_be_tried(self) -> bool:
        """Whether one more may go out that a sliding counter could refuse."""
        return not self.is_on and self._in_flight <= self._served

    def _might_be_refused(self, ticket: Reservation) -> bool:
        begin = bisect_left(self._answers, ticket.sent_at - 2 * self.per)
        most = (
            ticket.others_in_flight + 1 + len(self._answers) - begin
        )  # no weight is above 1
        return most > self.limit and self.load_at(ticket) > self.limit

    def leased_at(self, ticket: Reservation) -> int:
        """Requests that a count of `per` seconds could hold when `ticket` was sent."""
        return ticket.others_in_flight + 1 + self._answered(ticket, self.per)

    def surely_at(self, ticket: Reservation) -> int:
        """Requests that a log of `per` seconds must have held then, and `ticket`.

        Those answered within `SURELY` of a period before it: later sent than `per`
        seconds before it is counted, unless requests take very long.
        """
        return 1 + self._answered(ticket, SURELY * self.per)

    def _answered(self, ticket: Reservation, within: float) -> int:
        since = bisect_right(self._answers, ticket.sent_at - within)
        return bisect_right(self._answers, ticket.sent_at) - since

    def load_at(self, ticket: Reservation) -> float:
        """What a sliding counter of any phase could hold when `ticket` was sent."""
        until = bisect_right(self._answers, ticket.sent_at)
        answers = self._answers[:until]
        return ticket.others_in_flight + 1 + self._largest(ticket.sent_at, answers)

    def load(self, now: float) -> float:
        """What it could hold now; requests, at least 0."""
        return self._in_flight + self._largest(now, self._answers)

    def earliest(self, now: float, taken: int = 0) -> float:
        """When the next request may go out, as far as this test can tell.

        Args:
            now: Seconds.
            taken: Requests of somebody else that weigh 1 each; at least 0.

        Returns:
            `now` or later; `inf` if that depends on an answer still out.
        """
        most = self.limit - 1 - taken + NOISE
        first = bisect_left(self._answers, now - 2 * self.per)
        if self._in_flight + len(self._answers) - first <= most:
            return now
        if self.load(now) <= most:
            return now
        if self._in_flight > most:
            return inf
        low, high = now, max(now, self._answers[-1]) + 2 * self.per
        while high - low > RESOLUTION * self.per:
            middle = (low + high) / 2
            fits = self.load(middle) <= most
            low, high = (low, middle) if fits else (middle, high)
        return high

    def _largest(self, now: float, answers: list[float]) -> float:
        """The largest weight of `answers` over all windows that hold `now`.

        It rises with the beginning of the window but for the instants just after an
        answer or `per` seconds after one, so only those are tried, and now.
        """
        begin = bisect_left(answers, now - 2 * self.per)
        recent = answers[begin:]
        windows = {now}
        windows.update(t for t in recent if now - self.per < t <= now)
        windows.update(t + self.per for t in recent if t + self.per <= now)
        return max(self._weight(now, window, recent) for window in windows)

    def _weight(self, now: float, window: float, answers: list[float]) -> float:
        this = len(answers) - bisect_left(answers, window)
        # (t + per) - per may lie a rounding error above t, which must still count.
        oldest = window - self.per - NOISE
        before = len(answers) - this - bisect_left(answers, oldest)
        return this + before * (1 - (now - window) / self.per)
