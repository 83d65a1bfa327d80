"""How the service limits requests: six kinds of rate limiter, all pure.

Each window counts for one account and one bucket. ``now`` is the loop's clock in
seconds and never goes back. `make_window` builds one by name.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal, Protocol

WindowKind = Literal["fixed", "first", "log", "counter", "rounded_counter", "bucket"]
"""How requests are counted; `EmulatorSettings` takes one.

Example:
    from finetuning_async.emulator import Emulator, WindowKind

    kinds: tuple[WindowKind, ...] = ("fixed", "log", "bucket")
    services = [Emulator(window=kind) for kind in kinds]
"""


class Window(Protocol):
    """The interface of a rate limiter."""

    def remaining(self, now: float) -> int:
        """How many requests would be admitted if they all arrived at ``now``."""

    def retry_after(self, now: float) -> float:
        """Seconds until a request is admitted if none comes before it; 0 means now."""

    def count(self, now: float) -> None:
        """Count one request, admitted or not."""


class FixedWindow:
    """Windows of ``per`` seconds on a fixed grid that begins at ``phase``."""

    def __init__(self, limit: int, per: float, phase: float) -> None:
        self._limit, self._per, self._phase = limit, per, phase
        self._index, self._counted = -math.inf, 0

    def remaining(self, now: float) -> int:
        """What the current window has left."""
        self._advance(now)
        return max(0, self._limit - self._counted)

    def retry_after(self, now: float) -> float:
        """Seconds to the end of the current window when it is spent."""
        if self.remaining(now) > 0:
            return 0.0
        return self._phase + (self._index + 1) * self._per - now

    def count(self, now: float) -> None:
        """Count one request in the current window."""
        self._advance(now)
        self._counted += 1

    def _advance(self, now: float) -> None:
        index = math.floor((now - self._phase) / self._per)
        if index != self._index:
            self._index, self._counted = index, 0


class FirstRequestWindow:
    """A window of ``per`` seconds that opens with the first request after the last."""

    def __init__(self, limit: int, per: float) -> None:
        self._limit, self._per = limit, per
        self._ends, self._counted = -math.inf, 0

    def remaining(self, now: float) -> int:
        """What the open window has left, or the limit when none is open."""
        return self._limit if now >= self._ends else max(0, self._limit - self._counted)

    def retry_after(self, now: float) -> float:
        """Seconds to the end of the open window when it is spent."""
        return 0.0 if self.remaining(now) > 0 else self._ends - now

    def count(self, now: float) -> None:
        """Count one request; the first one opens the window."""
        if now >= self._ends:
            self._ends, self._counted = now + self._per, 0
        self._counted += 1


class LogWindow:
    """A log of arrivals: at most ``limit`` in any ``per`` seconds."""

    def __init__(self, limit: int, per: float) -> None:
        self._limit, self._per = limit, per
        self._arrivals: deque[float] = deque()

    def remaining(self, now: float) -> int:
        """The limit less the arrivals of the last ``per`` seconds."""
        self._forget(now)
        return max(0, self._limit - len(self._arrivals))

    def retry_after(self, now: float) -> float:
        """Seconds until enough arrivals are older than ``per``."""
        if self.remaining(now) > 0:
            return 0.0
        return self._arrivals[-self._limit] + self._per - now

    def count(self, now: float) -> None:
        """Log one arrival."""
        self._forget(now)
        self._arrivals.append(now)

    def _forget(self, now: float) -> None:
        while self._arrivals and self._arrivals[0] + self._per <= now:
            self._arrivals.popleft()


class CounterWindow:
    """A sliding window counter: the previous window's count fades out linearly.

    The estimate is ``previous * (1 - elapsed share) + current``; a request is admitted
    while the estimate plus one stays within the limit. ``rounded`` rounds the faded
    part down first, as several libraries do.
    """

    def __init__(self, limit: int, per: float, phase: float, *, rounded: bool) -> None:
        self._limit, self._per, self._phase = limit, per, phase
        self._rounded = rounded
        self._index, self._previous, self._current = -math.inf, 0, 0

    def remaining(self, now: float) -> int:
        """The limit less the estimate, rounded down."""
        self._advance(now)
        return max(0, math.floor(self._limit - self._estimate(now) + 1e-9))

    def retry_after(self, now: float) -> float:
        """Seconds until the estimate leaves room for one request."""
        if self.remaining(now) > 0:
            return 0.0
        start = self._phase + self._index * self._per
        if self._current < self._limit:
            return start + self._faded_at(self._previous, self._current) - now
        return start + self._per + self._faded_at(self._current, 0) - now

    def count(self, now: float) -> None:
        """Count one request in the current window."""
        self._advance(now)
        self._current += 1

    def _estimate(self, now: float) -> float:
        elapsed = (now - self._phase) / self._per - self._index
        faded = self._previous * (1 - elapsed)
        return (math.floor(faded + 1e-9) if self._rounded else faded) + self._current

    def _faded_at(self, previous: int, current: int) -> float:
        """Seconds into a window at which ``previous`` leaves room for one more."""
        room = self._limit - 1 - current
        if previous <= room:
            return 0.0
        share = 1 - (room + (1 if self._rounded else 0)) / previous
        return max(0.0, share) * self._per + 1e-6 * self._per

    def _advance(self, now: float) -> None:
        index = math.floor((now - self._phase) / self._per)
        if index != self._index:
            self._previous = self._current if index == self._index + 1 else 0
            self._index, self._current = index, 0


class BucketWindow:
    """A token bucket that holds ``limit`` and gains ``limit / per`` a second."""

    def __init__(self, limit: int, per: float) -> None:
        self._limit, self._per = limit, per
        self._tokens, self._seen = float(limit), -math.inf

    def remaining(self, now: float) -> int:
        """Whole tokens in the bucket."""
        self._fill(now)
        return max(0, math.floor(self._tokens + 1e-9))

    def retry_after(self, now: float) -> float:
        """Seconds until there is one whole token."""
        if self.remaining(now) > 0:
            return 0.0
        return (1 - self._tokens) * self._per / self._limit

    def count(self, now: float) -> None:
        """Take one token; an empty bucket goes no lower."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1)

    def _fill(self, now: float) -> None:
        if self._seen > -math.inf:
            gained = (now - self._seen) * self._limit / self._per
            self._tokens = min(self._limit, self._tokens + gained)
        self._seen = now


def make_window(kind: WindowKind, limit: int, per: float, phase: float) -> Window:
    """Build a window.

    Args:
        kind: Which arithmetic.
        limit: Requests per window, at least 1.
        per: Length of the window in seconds, above 0.
        phase: When a window begins on the loop's clock, for kinds with a fixed grid.

    Returns:
        An empty window.
    """
    match kind:
        case "fixed":
            return FixedWindow(limit, per, phase)
        case "first":
            return FirstRequestWindow(limit, per)
        case "log":
            return LogWindow(limit, per)
        case "counter":
            return CounterWindow(limit, per, phase, rounded=False)
        case "rounded_counter":
            return CounterWindow(limit, per, phase, rounded=True)
        case "bucket":
            return BucketWindow(limit, per)
