"""The machine's monotonic clock, and whether an event loop's clock is that one.

Limits that hold for several event loops need one clock. It is read here and nowhere
else, and what waits still waits by its own loop's clock.

A loop's clock is known by what it does, not by its class:

    asyncio                shows what the machine's does
    uvloop                 the same, a little behind: it looks in steps of a
                           millisecond, and now and then only
    trio                   another number, but goes in step with it
    a clock for tests      another number that stands still until it jumps

A clock that jumps may begin at the machine's time. It then looks like uvloop's until it
has jumped; from there on it is ahead of the machine's, as no real one ever is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

machine_now: Final = time.monotonic
"""Seconds of the machine's clock, which all threads of a process share."""

LOOKING: Final = max(2e-4, 2 * time.get_clock_info("monotonic").resolution)
"""Seconds between two looks at a clock. Those of this package's tests move on by a
microsecond at each look, so there must be few looks in much time."""

FUZZ: Final = LOOKING / 10
"""Seconds that a reading may be off."""

BEHIND: Final = 1.0
"""Seconds by which a clock may be behind, for a turn of the loop may take that long."""

AHEAD: Final = 0.05
"""Seconds by which a clock must be ahead to have jumped, for it may be read in coarse
steps; and `DRIFT` more of each second since it was first looked at."""

DRIFT: Final = 1e-3


def offset_of(read: Callable[[], float]) -> float | None:
    """What a loop's clock shows more than the machine's.

    Args:
        read: Reads the loop's clock.

    Returns:
        Seconds; `None` if the loop's clock is another one, as far as can be seen.
    """
    before, first, after = machine_now(), read(), machine_now()
    if before - BEHIND <= first <= after + FUZZ:
        return 0.0
    while machine_now() < after + LOOKING:
        pass
    earliest, second, latest = machine_now(), read(), machine_now()
    passed = second - first
    if earliest - after - FUZZ <= passed <= latest - before + FUZZ:
        least = max(first - after, second - latest)
        most = min(first - before, second - earliest)
        return (least + most) / 2
    return None


def has_jumped(shown: float, offset: float, since: float) -> bool:
    """Whether a loop's clock is ahead of the machine's, so that it is another one.

    Args:
        shown: What it showed, a moment ago.
        offset: What it showed more than the machine's, by `offset_of`.
        since: When that was, on the machine's clock.
    """
    now = machine_now()
    return shown - offset - now > AHEAD + DRIFT * (now - since)
