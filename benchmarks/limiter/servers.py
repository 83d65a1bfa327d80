"""The ways in which the service may count, independent of the client's code.

Each class has one method, `receive(now)`, which says whether a request that arrives now
is accepted, how many more would be, and if not, when the next one is. Times never go
backwards.
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

NOISE: Final = 1e-9
"""Rounding error of a sum of a few requests."""


class Verdict(NamedTuple):
    """How the service responds to one request.

    Attributes:
        accepted: Whether it was served.
        remaining: How many more would be served at this instant.
        retry_in: Seconds until one would be served; 0 if accepted.
    """

    accepted: bool
    remaining: int
    retry_in: float


class Server(Protocol):
    """One rate budget of one account, as the service counts it."""

    def receive(self, now: float) -> Verdict:
        """Count a request that arrives at `now` seconds."""


class FixedWindow:
    """Windows that begin at `phase`, independent of requests."""

    def __init__(self, limit: int, per: float, phase: float) -> None:
        self.limit, self.per, self.phase = limit, per, phase
        self.window, self.count = 0, 0

    def receive(self, now: float) -> Verdict:
        """Count a request."""
        window = floor((now - self.phase) / self.per)
        if window != self.window:
            self.window, self.count = window, 0
        if self.count >= self.limit:
            ends = self.phase + (window + 1) * self.per
            return Verdict(False, 0, ends - now)
        self.count += 1
        return Verdict(True, self.limit - self.count, 0.0)


class WindowAtFirst:
    """A window that the first request opens: INCR and EXPIRE."""

    def __init__(self, limit: int, per: float, phase: float) -> None:
        del phase  # the first request sets it
        self.limit, self.per = limit, per
        self.ends, self.count = float("-inf"), 0

    def receive(self, now: float) -> Verdict:
        """Count a request."""
        if now >= self.ends:
            self.ends, self.count = now + self.per, 0
        if self.count >= self.limit:
            return Verdict(False, 0, self.ends - now)
        self.count += 1
        return Verdict(True, self.limit - self.count, 0.0)


class Log:
    """The requests of the last `per` seconds; with `rejects`, refused ones too."""

    def __init__(
        self, limit: int, per: float, phase: float, *, rejects: bool = False
    ) -> None:
        del phase  # a log has none
        self.limit, self.per, self.rejects = limit, per, rejects
        self.times: deque[float] = deque()

    def receive(self, now: float) -> Verdict:
        """Count a request."""
        while self.times and self.times[0] <= now - self.per:
            self.times.popleft()
        if len(self.times) >= self.limit:
            if self.rejects:
                self.times.append(now)
            retry_in = self.times[-self.limit] + self.per - now
            return Verdict(False, 0, retry_in)
        self.times.append(now)
        return Verdict(True, self.limit - len(self.times), 0.0)


class SlidingWindowCounter:
    """The count of this window and a share of the last one; optionally rounded down."""

    def __init__(
        self, limit: int, per: float, phase: float, *, rounded: bool = False
    ) -> None:
        self.limit, self.per, self.phase, self.rounded = limit, per, phase, rounded
        self.counts: dict[int, int] = {}

    def estimate(self, now: float) -> float:
        """Its estimate of the requests in the last `per` seconds."""
        window, share = divmod((now - self.phase) / self.per, 1)
        before = self.counts.get(int(window) - 1, 0)
        total = before * (1 - share) + self.counts.get(int(window), 0)
        return floor(total + NOISE) if self.rounded else total

    def receive(self, now: float) -> Verdict:
        """Count a request."""
        if self.estimate(now) + 1 > self.limit + NOISE:
            return Verdict(False, 0, self._retry_in(now))
        window = floor((now - self.phase) / self.per)
        self.counts = {n: c for n, c in self.counts.items() if n >= window - 1}
        self.counts[window] = self.counts.get(window, 0) + 1
        room = self.limit - self.estimate(now)
        return Verdict(True, max(floor(room + NOISE), 0), 0.0)

    def _retry_in(self, now: float) -> float:
        low, high = now, now + 2 * self.per
        while high - low > 1e-4:
            middle = (low + high) / 2
            fits = self.estimate(middle) + 1 <= self.limit + NOISE
            low, high = (low, middle) if fits else (middle, high)
        return high - now


class Bucket:
    """`limit` tokens, refilled at `limit` per `per` seconds; GCRA does the same."""

    def __init__(self, limit: int, per: float, phase: float) -> None:
        del phase  # a bucket has none
        self.limit, self.per = limit, per
        self.tokens, self.seen = float(limit), 0.0

    def receive(self, now: float) -> Verdict:
        """Count a request."""
        refill = max(now - self.seen, 0.0) * self.limit / self.per
        self.tokens, self.seen = min(self.tokens + refill, float(self.limit)), now
        if self.tokens < 1 - NOISE:
            return Verdict(False, 0, (1 - self.tokens) * self.per / self.limit)
        self.tokens -= 1
        return Verdict(True, floor(self.tokens + NOISE), 0.0)


KINDS: Final[dict[str, Callable[[int, float, float], Server]]] = {
    "fixed": FixedWindow,
    "first": WindowAtFirst,
    "log": Log,
    "log+rejects": lambda limit, per, phase: Log(limit, per, phase, rejects=True),
    "counter": SlidingWindowCounter,
    "counter, rounded": lambda limit, per, phase: SlidingWindowCounter(
        limit, per, phase, rounded=True
    ),
    "bucket": Bucket,
}
"""Makers by name; their arguments are limit, per and phase."""


def clairvoyant(server: Server, count: int, start: float) -> float:
    """Seconds that a clairvoyant client without latency takes for `count`."""
    now, done = start, 0
    while done < count:
        verdict = server.receive(now)
        done += verdict.accepted
        if not verdict.accepted:
            now += verdict.retry_in + 1e-6
    return now - start


def whole_seconds(verdict: Verdict) -> float:
    """The ``Retry-After`` of the service: whole seconds, rounded up."""
    return float(ceil(verdict.retry_in - 1e-6))
