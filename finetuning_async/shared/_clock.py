"""The clock that all programs of a machine read: the system's monotonic one.

It starts again with each boot, so times that were written before mean nothing after.
Hence the name of the boot beside them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Protocol

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
STEP: Final = 600.0
"""Seconds to which the time of the boot is rounded where the system gives it no name:
the wall clock may be corrected while programs run, and they must agree on the name."""


class Clock(Protocol):
    """The clock that all programs sharing a file read; tests bring their own.

    Example:
        from finetuning_async.shared import SharedRateLimiter

        class Standing:
            name = "a boot"

            def now(self) -> float:
                return 0.0

        SharedRateLimiter(clock=Standing())
    """

    @property
    def name(self) -> str:
        """What `now` counts from; times under another name mean nothing."""

    def now(self) -> float:
        """Return the time in seconds; it never goes back."""


class SystemClock:
    """The system's monotonic clock since its last boot.

    Example:
        from finetuning_async.shared import SystemClock

        SystemClock().now()
    """

    @property
    def name(self) -> str:
        """The boot: its id on Linux, else roughly its time."""
        try:
            return BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            # Without a boot id, the wall time of the boot distinguishes boots.
            return f"{(time.time() - time.monotonic()) // STEP:.0f}"

    def now(self) -> float:
        """Return the time in seconds."""
        # Not the loop's clock: all processes of the machine must agree, and trio's loop
        # counts from an instant of its own.
        return time.monotonic()
