"""What is said on stderr while a track is made.

Silent   nothing, for ``--quiet``; the others build on it
Lines    a line for each event
Bar      (in `_bar`) the same on a terminal, with a bar meanwhile
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

_AT_TYPICAL: Final = 0.8
"""How full the bar is when the typical time is over."""


def fraction(elapsed: float, expected: float) -> float:
    """How full a bar is, 0 to 1 (never reached): it slows down after `expected`.

    Linear up to ``0.8``; then ``1 - 0.2 * exp(1 - elapsed / expected)``, so that the
    speed at the joint is about the same, and what is left shrinks without end.

    Args:
        elapsed: Seconds, at least 0.
        expected: Seconds, above 0.
    """
    part = elapsed / expected
    if part <= 1:
        return _AT_TYPICAL * part
    return min(1 - (1 - _AT_TYPICAL) * math.exp(1 - part), 0.99)


class Silent:
    """Says nothing. A context manager around what it reports on.

    Args:
        expected: Seconds that the track takes as a rule; `None` if nobody knows.
        doing: What is under way at first.
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
        """Something to know."""

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has taken it."""

    def status(self, track: Generation | SoundEffect) -> None:
        """Its state has changed."""

    def ended(self, track: Generation | SoundEffect, seconds: float) -> None:
        """It is final, so many seconds after the wait began."""

    def loading(self, done: int, total: int | None) -> None:
        """So many bytes are here."""

    def saved(self, path: Path, track: Generation | SoundEffect) -> None:
        """The file is whole and in its place."""


class Lines(Silent):
    """A line for each event."""

    def note(self, text: str) -> None:
        """Something to know."""
        say(text)

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has taken it."""
        self.note(f"accepted {track.id}{_left(track)}")
        for name, (asked, got) in track.changed_by_service.items():
            change = f"{shown(name)} from {_plain(asked)} to {_plain(got)}"
            self.note(f"note: the service changed {change}")
        self.status(track)

    def status(self, track: Generation | SoundEffect) -> None:
        """Its state has changed."""
        if not track.is_final:
            self.note(shown(track.status))

    def ended(self, track: Generation | SoundEffect, seconds: float) -> None:
        """It is final, so many seconds after the wait began."""
        self.note(f"{shown(track.status)} after {duration_text(seconds)}")

    def saved(self, path: Path, track: Generation | SoundEffect) -> None:
        """The file is whole and in its place."""
        facts = [] if track.duration is None else [f"{track.duration:.1f} s"]
        if path.is_file():  # a pipe has no size
            facts.append(size_text(path.stat().st_size))
        name = shown(str(path))
        self.note(f"Saved {name} ({', '.join(facts)})" if facts else f"Saved {name}")


def _plain(value: object) -> str:
    """A value as a person writes it: 45, not 45.0."""
    return f"{value:g}" if isinstance(value, float) else shown(str(value))


def _left(track: Generation | SoundEffect) -> str:
    """What the account has left, in the words of what was made."""
    if track.kind == "sound_effect":
        left = getattr(track, "daily_remaining", None)
        return "" if left is None else f" · {left} more today"
    left = getattr(track, "credits_remaining", None)
    return "" if left is None else f" · {left} credits left"
