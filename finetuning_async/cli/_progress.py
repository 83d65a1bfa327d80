"""Progress on stderr while a track is made.

SilentReporter   nothing, for ``--quiet``; the base of the others
LineReporter     a line for each event
BarReporter      (in `_progress_bar`) the same on a terminal, with a bar below
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Self

from finetuning_async.cli._output import (
    duration_text,
    say,
    shown,
    size_text,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async.cli._delay_notice import Delay

EXPLAIN_AFTER: Final = 5.0
"""Seconds without acceptance after which a line says why."""

_FILLED_AT_EXPECTED: Final = 0.8
"""How full the bar is when the expected time is over."""


def fraction(elapsed: float, expected: float) -> float:
    """How full a bar is, from 0 to below 1; it slows down after `expected`.

    It is linear up to ``0.8``, then ``1 - 0.2 * exp(1 - elapsed / expected)``: this
    starts at a similar speed and never reaches the end, however long the track takes.

    Args:
        elapsed: Seconds, at least 0.
        expected: Seconds, above 0.
    """
    part = elapsed / expected
    if part <= 1:
        return _FILLED_AT_EXPECTED * part
    return min(1 - (1 - _FILLED_AT_EXPECTED) * math.exp(1 - part), 0.99)


class SilentReporter:
    """Prints nothing. Use it as a context manager around the work.

    Args:
        expected: Seconds that the track usually takes; `None` if unknown.
        doing: The first activity to show.
    """

    def __init__(self, expected: float | None = None, doing: str = "sending") -> None:
        self._expected = expected
        self._doing = doing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return

    def note(self, text: str) -> None:
        """Print a message."""

    def delayed(self, delay: Delay, now: float) -> None:
        """The track is not accepted yet; `now` is in seconds."""

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has accepted the track."""

    def status(self, track: Generation | SoundEffect) -> None:
        """The status of the track has changed."""

    def ended(self, track: Generation | SoundEffect, seconds: float | None) -> None:
        """The track has ended, `seconds` after the wait began or, `None`, before it."""

    def loading(self, done: int, total: int | None) -> None:
        """`done` of `total` bytes are downloaded."""

    def saved(self, path: Path, track: Generation | SoundEffect) -> None:
        """The file is complete and in its place."""


class LineReporter(SilentReporter):
    """Prints a line for each event."""

    def __init__(self, expected: float | None = None, doing: str = "sending") -> None:
        super().__init__(expected, doing)
        from finetuning_async.cli._delay_notice import LineInterval  # slow to import

        self._interval = LineInterval()
        self._delayed_since: float | None = None

    def note(self, text: str) -> None:
        """Print a message."""
        say(text)

    def delayed(self, delay: Delay, now: float) -> None:
        """The track is not accepted yet; `now` is in seconds."""
        if self._delayed_since is None:
            self._delayed_since = now
        waited = now - self._delayed_since
        if waited >= EXPLAIN_AFTER and self._interval.is_due(delay, now):
            self.note(f"not accepted yet: {delay}")

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has accepted the track."""
        self.note(f"accepted {track.id}{_quota_left(track)}")
        for name, (asked, got) in track.changed_by_service.items():
            change = f"{shown(name)} from {_plain(asked)} to {_plain(got)}"
            self.note(f"note: the service changed {change}")
        self.status(track)

    def status(self, track: Generation | SoundEffect) -> None:
        """The status of the track has changed."""
        if not track.is_final:
            self.note(shown(track.status))

    def ended(self, track: Generation | SoundEffect, seconds: float | None) -> None:
        """The track has ended, `seconds` after the wait began or, `None`, before it."""
        took = "" if seconds is None else f" after {duration_text(seconds)}"
        self.note(f"{shown(track.status)}{took}")

    def saved(self, path: Path, track: Generation | SoundEffect) -> None:
        """The file is complete and in its place."""
        facts = [] if track.duration is None else [f"{track.duration:.1f} s"]
        if path.is_file():  # a pipe has no size
            facts.append(size_text(path.stat().st_size))
        name = "to stdout" if str(path) == "/dev/stdout" else shown(str(path))
        self.note(f"Saved {name} ({', '.join(facts)})" if facts else f"Saved {name}")


def _plain(value: object) -> str:
    """A value as a person writes it: 45, not 45.0."""
    return f"{value:g}" if isinstance(value, float) else shown(str(value))


def _quota_left(track: Generation | SoundEffect) -> str:
    """What the account has left: credits, or sound effects of today."""
    if track.kind == "sound_effect":
        left = getattr(track, "daily_remaining", None)
        return "" if left is None else f" · {left} left today"
    left = getattr(track, "credits_remaining", None)
    return "" if left is None else f" · {left} credits left"
