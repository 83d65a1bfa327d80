"""Wall time derived from the loop's clock, in the service's three formats."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

import attrs


@attrs.frozen
class WallClock:
    """Wall time that starts at ``start`` when the loop's clock shows ``zero``."""

    start: datetime
    zero: float

    def at(self, now: float) -> datetime:
        """The wall time at ``now`` seconds of the loop's clock."""
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
