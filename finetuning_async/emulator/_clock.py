"""The emulator's clock, which can be put forward, and wall time derived from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

import anyio
import attrs


class Clock:
    """The loop's clock, plus what it was put forward by."""

    def __init__(self) -> None:
        self.ahead: float = 0.0
        self._changed = anyio.Event()

    def now(self) -> float:
        """Seconds; never goes back."""
        return anyio.current_time() + self.ahead

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        self.ahead += seconds
        self.wake()

    def wake(self) -> None:
        """Let all that waits look again: the clock or an end was moved."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait this long, or until `wake`; infinite seconds are allowed."""
        with anyio.move_on_after(seconds):
            await self._changed.wait()


@attrs.frozen
class WallClock:
    """Wall time that starts at ``start`` when the emulator's clock shows ``zero``."""

    start: datetime
    zero: float

    def at(self, now: float) -> datetime:
        """The wall time at ``now`` seconds of the emulator's clock."""
        return self.start + timedelta(seconds=now - self.zero)

    def http_date(self, now: float) -> str:
        """For the ``Date`` header: whole seconds, GMT."""
        return format_datetime(self.at(now).replace(microsecond=0), usegmt=True)

    def iso_seconds(self, now: float) -> str:
        """``2026-03-02T18:04:09Z``, the format of create responses."""
        return f"{self.at(now):%Y-%m-%dT%H:%M:%S}Z"

    def iso_millis(self, now: float) -> str:
        """``2026-03-02T18:04:09.118Z``, the format of ``completedAt`` and webhooks."""
        moment = self.at(now)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

    def plain(self, now: float) -> str:
        """``2026-03-02 18:04:09``, no zone: the format of ``createdAt`` in reads."""
        return f"{self.at(now):%Y-%m-%d %H:%M:%S}"
