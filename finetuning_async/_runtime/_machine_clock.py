"""The machine's monotonic clock, and whether a loop's clock runs in step with it.

Limits shared by several event loops need one clock. It is read here and nowhere else;
tasks still wait by their own loop's clock.

A loop's clock is classified by how it behaves, not by its class:

    asyncio                shows the machine's time
    uvloop                 the same, a little late: it caches the time once per
                           iteration, in steps of a millisecond
    trio                   another number, which advances in step
    a clock for tests      another number, which stands still until it jumps

A jumping clock may start at the machine's time. It then looks like uvloop's until its
first jump; from there on it is ahead of the machine's, as no real clock ever is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

machine_now: Final = time.monotonic
"""Seconds of the machine's clock, which all threads of a process share."""

SAMPLE_GAP: Final = max(2e-4, 2 * time.get_clock_info("monotonic").resolution)
"""Seconds between two readings of a loop's clock. The clocks of this package's tests
advance a microsecond at each reading, so few readings must cover much time."""

TOLERANCE: Final = SAMPLE_GAP / 10
"""Seconds that a reading may be off."""

MAX_LAG: Final = 1.0
"""Seconds that a loop's clock may be late, as an iteration of the loop may be slow."""

JUMP_THRESHOLD: Final = 0.05
"""Seconds that a clock must be ahead to have jumped, since it may be read in coarse
steps; plus `MAX_DRIFT` for each second since it was first read."""

MAX_DRIFT: Final = 1e-3


def measure_offset(read: Callable[[], float]) -> float | None:
    """Measure a loop's clock against the machine's.

    Args:
        read: Reads the loop's clock.

    Returns:
        The loop's clock minus the machine's, in seconds; `None` if they do not run in
        step, as far as two readings can show.
    """
    # Each reading is bracketed by two of the machine's clock, so preemption between
    # the calls widens the bracket and cannot make a good clock look like a bad one.
    before, first, after = machine_now(), read(), machine_now()
    if before - MAX_LAG <= first <= after + TOLERANCE:
        return 0.0
    # Another number. Does it advance? Spin rather than sleep: this function is not
    # async, and a sleep may last many times as long as asked for.
    while machine_now() < after + SAMPLE_GAP:
        pass
    earliest, second, latest = machine_now(), read(), machine_now()
    advanced = second - first
    # At least the time between the brackets passed, at most the time around them.
    if earliest - after - TOLERANCE <= advanced <= latest - before + TOLERANCE:
        least = max(first - after, second - latest)
        most = min(first - before, second - earliest)
        return (least + most) / 2
    return None


def has_jumped(reading: float, offset: float, measured_at: float) -> bool:
    """Whether a loop's clock is too far ahead of the machine's to run in step.

    Args:
        reading: What the loop's clock showed a moment ago.
        offset: What `measure_offset` returned.
        measured_at: When that was, on the machine's clock.
    """
    now = machine_now()
    allowed = JUMP_THRESHOLD + MAX_DRIFT * (now - measured_at)
    # Only "ahead" counts. A clock that is behind may belong to a busy loop.
    return reading - offset - now > allowed
