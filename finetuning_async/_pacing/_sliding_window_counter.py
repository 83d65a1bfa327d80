"""The test for a sliding window counter: what it could hold, whatever its phase.

Such a service counts per fixed window and estimates the last `per` seconds as the count
of the current window plus the share of the previous one that still overlaps them. A
request thus has weight for up to 2 * `per` seconds, and ten requests early in one
window still weigh 9.8 a minute later: leases of `per` seconds earn refusals there.

The test: suppose that a window begins at w. At time t, a request counted at s weighs 1
if s >= w, the share 1 - (t - w) / per if w - per <= s < w, and 0 if earlier. It weighs
more the later it was counted, and less the later one looks. We know neither w nor s. So
assume that each answered request was counted when its response arrived (it was not
later), let each request in flight weigh 1, and take the largest sum over all w, the
*load*: the service's estimate is no larger. A request may go when the load plus itself
is at most the limit.

Why nothing is refused then: take any request x, and let z be the last one to go among x
and the requests counted before x. When z went, the load of the others plus 1 for z was
at most the limit. That included x with weight 1, as x was still in flight (or is z),
and weights have only fallen since. So when x arrives, the estimate without it is at
most limit - 1.

With w just above t - per, the load is the number of requests in the last `per` seconds,
so the test never allows more than the leases do. On a service that is no such counter
it costs up to a third of the speed, so it is on only once there is evidence. It stays
on, since a service does not change its kind.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from math import inf
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from finetuning_async._pacing._reservation import Reservation

FLOAT_NOISE = 1e-6
"""Requests, or seconds, that float arithmetic may add or take."""

SURELY_COUNTED = 0.9
"""Share of a period for which an answered request is certainly still counted."""

DECIDING_BURSTS = 3
"""Bursts that a sliding counter could have refused; once so many were served, the
service is taken not to be one."""

RESOLUTION = 1 / 60_000
"""Precision of `earliest`, as a share of a period: 1 ms of a minute."""


class SlidingWindowCounter:
    """The test for every phase of the windows, and the evidence that it is needed.

    Args:
        limit: Number of requests, at least 1. May be changed while requests are in
            flight.
        per: Period in seconds, above 0, with the margin for timers.

    Attributes:
        is_on: Whether the service has turned out to be a sliding counter.
    """

    __slots__ = ("_in_flight", "_responses", "_trials_served", "is_on", "limit", "per")

    def __init__(self, limit: int, per: float) -> None:
        self.limit = limit
        self.per = per
        self.is_on = False
        self._in_flight = 0
        self._trials_served = 0  # requests that a sliding counter could have refused
        self._responses: list[float] = []  # arrival times, ascending; those that matter

    def __repr__(self) -> str:
        state = "on" if self.is_on else "off"
        return f"<SlidingWindowCounter {state}: {len(self._responses)} remembered>"

    def to_state(self) -> dict[str, Any]:
        """Return what it remembers as JSON; see `from_state`."""
        # The keys are those of the stored form: they stay when a name changes.
        return {
            "is_on": self.is_on,
            "in_flight": self._in_flight,
            "served": self._trials_served,
            "answers": self._responses.copy(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], limit: int, per: float) -> Self:
        """Restore what `to_state` returned."""
        made = cls(limit, per)
        made.is_on, made._trials_served = state["is_on"], state["served"]
        made._in_flight = state["in_flight"]
        made._responses = list(state["answers"])
        return made

    @property
    def is_undecided(self) -> bool:
        """Whether the service may still turn out to be a sliding counter.

        It has turned out not to be one once `DECIDING_BURSTS` times the limit were
        served that a sliding counter could have refused.
        """
        return not self.is_on and self._trials_served < DECIDING_BURSTS * self.limit

    def on_sent(self, reservation: Reservation) -> None:
        """A request is sent and weighs 1."""
        self._in_flight += 1

    def on_unsent(self, reservation: Reservation, now: float) -> None:
        """No byte of it was sent."""
        self._in_flight -= 1

    def on_response(self, reservation: Reservation, now: float) -> None:
        """Its response arrived: it was counted by now."""
        self._in_flight -= 1
        insort(self._responses, now)
        # A weight lasts 2 periods. `load_at` looks back from the sending of a request
        # whose response may take as long again, so 4 are kept.
        del self._responses[: bisect_left(self._responses, now - 4 * self.per)]

    def on_abandoned(self, reservation: Reservation, now: float, linger: float) -> None:
        """The service may still count it for `linger` more seconds."""
        self.on_response(reservation, now + linger)

    def on_served(self, reservation: Reservation) -> None:
        """The request answered last was accepted, by a response without headers.

        If a sliding counter could have refused it, one more such request may be in
        flight at a time.
        """
        if not self.is_on and self._might_be_refused(reservation):
            self._trials_served += 1

    def allows_trial(self) -> bool:
        """Whether one more request may go that a sliding counter could refuse.

        Their number doubles from round trip to round trip: each one that is served
        makes room for itself and for one more.
        """
        return not self.is_on and self._in_flight <= self._trials_served

    def _might_be_refused(self, reservation: Reservation) -> bool:
        # No weight is above 1, so this cheap bound usually decides.
        begin = bisect_left(self._responses, reservation.sent_at - 2 * self.per)
        most = reservation.others_in_flight + 1 + len(self._responses) - begin
        return most > self.limit and self.load_at(reservation) > self.limit

    def max_counted_at(self, reservation: Reservation) -> int:
        """Requests that a count of `per` seconds may have held when it was sent."""
        return reservation.others_in_flight + 1 + self._answered(reservation, self.per)

    def min_counted_at(self, reservation: Reservation) -> int:
        """Requests that a log of `per` seconds must have held then, itself included.

        Those with a response within `SURELY_COUNTED` of a period before it was sent:
        they were sent less than `per` seconds before it is counted, unless requests
        take very long.
        """
        return 1 + self._answered(reservation, SURELY_COUNTED * self.per)

    def _answered(self, reservation: Reservation, within: float) -> int:
        since = bisect_right(self._responses, reservation.sent_at - within)
        return bisect_right(self._responses, reservation.sent_at) - since

    def load_at(self, reservation: Reservation) -> float:
        """What a sliding counter of any phase could hold when a request was sent."""
        until = bisect_right(self._responses, reservation.sent_at)
        responses = self._responses[:until]
        largest = self._largest(reservation.sent_at, responses)
        return reservation.others_in_flight + 1 + largest

    def load(self, now: float) -> float:
        """What it could hold now, in requests, at least 0."""
        return self._in_flight + self._largest(now, self._responses)

    def earliest(self, now: float, taken: int = 0) -> float:
        """When the next request may go out, as far as this test is concerned.

        Args:
            now: Seconds.
            taken: Requests of others that weigh 1 each, at least 0.

        Returns:
            `now` or later; `inf` if that depends on a response still in flight.
        """
        most = self.limit - 1 - taken + FLOAT_NOISE
        first = bisect_left(self._responses, now - 2 * self.per)
        if self._in_flight + len(self._responses) - first <= most:
            return now  # it would fit even if each of them weighed 1
        if self.load(now) <= most:
            return now
        if self._in_flight > most:
            return inf
        # The load only falls as time passes, so the moment is found by bisection. Of
        # the responses, those that weigh something are less than two periods old.
        low, high = now, self._responses[-1] + 2 * self.per
        while high - low > RESOLUTION * self.per:
            middle = (low + high) / 2
            fits = self.load(middle) <= most
            low, high = (low, middle) if fits else (middle, high)
        return high

    def _largest(self, now: float, responses: list[float]) -> float:
        """The largest weight of `responses` over all windows that hold `now`.

        The weight rises with the beginning of the window, except just after a response
        and just after `per` seconds past a response, where it drops. So only these
        instants are tried, and `now`.
        """
        begin = bisect_left(responses, now - 2 * self.per)
        recent = responses[begin:]
        windows = {now}
        windows.update(t for t in recent if now - self.per < t <= now)
        windows.update(t + self.per for t in recent if t + self.per <= now)
        return max(self._weight(now, window, recent) for window in windows)

    def _weight(self, now: float, window: float, responses: list[float]) -> float:
        """The service's estimate at `now`, if its current window began at `window`."""
        current = len(responses) - bisect_left(responses, window)
        # (t + per) - per may lie a rounding error above t, which must still count.
        oldest = window - self.per - FLOAT_NOISE
        previous = len(responses) - current - bisect_left(responses, oldest)
        return current + previous * (1 - (now - window) / self.per)
