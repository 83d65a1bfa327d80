"""The clock that all programs of a machine read: the system's monotonic one.

It begins anew with each boot, so what was written before means nothing after; hence the
name of the boot beside it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Protocol

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
STEP: Final = 600.0
"""Seconds to which the time of the boot is told where the system gives it no name."""


class Clock(Protocol):
    """A clock that all who share a file read; tests bring their own.

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
        """What `now` counts from; with another name, its numbers mean nothing."""

    def now(self) -> float:
        """Seconds; it never goes back."""


class SystemClock:
    """The system's monotonic clock since its last boot.

    Example:
        from finetuning_async.shared import SystemClock

        SystemClock().now()
    """

    @property
    def name(self) -> str:
        """The boot: as Linux names it, else roughly its time."""
        try:
            return BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            return f"{(time.time() - time.monotonic()) // STEP:.0f}"

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()
