"""Progress on a terminal: lines that stay, and a bar below them that disappears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from finetuning_async.cli._output import (
    duration_text,
    redirect_messages,
    shown,
    size_text,
)
from finetuning_async.cli._progress import LineReporter, fraction

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from finetuning_async._api import Generation, SoundEffect


class _BarColumn(ProgressColumn):
    """The bar: it shows time while the track is made, bytes while it is downloaded."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self._width = width

    def render(self, task: Task) -> ProgressBar:
        """Draw the bar."""
        part = _fraction_done(task)
        return ProgressBar(
            total=1,
            completed=part or 0,
            width=self._width,
            pulse=part is None,
            animation_time=task.get_time(),
        )


def _fraction_done(task: Task) -> float | None:
    """How full the bar is; `None` if that is unknown."""
    if task.total:
        return task.completed / task.total
    expected = task.fields.get("expected")
    return None if expected is None else fraction(task.elapsed or 0.0, expected)


class _TimeColumn(ProgressColumn):
    """The elapsed and the expected time, or the bytes."""

    def render(self, task: Task) -> Text:
        """Format the column."""
        if task.total:
            got = f"{size_text(int(task.completed))} of {size_text(int(task.total))}"
            return Text(got, style="progress.download")
        return Text(times(task.elapsed or 0.0, task.fields.get("expected")))


def times(elapsed: float, expected: float | None) -> str:
    """The elapsed time, and the usual time.

    >>> times(12, 70), times(80, 70)
    ('0:12 of about 1:10', '1:20, usually about 1:10')
    """
    if expected is None:
        return _clock(elapsed)
    between = " of about " if elapsed <= expected else ", usually about "
    return f"{_clock(elapsed)}{between}{_clock(expected)}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


class BarReporter(LineReporter):
    """Prints lines, and below them a bar that disappears at the end.

    Args:
        expected: Seconds that the track usually takes; `None` if unknown.
        doing: The first activity to show.
        no_color: Whether to use no colours; ``NO_COLOR`` means the same.
    """

    def __init__(self, expected: float | None, doing: str, *, no_color: bool) -> None:
        super().__init__(expected, doing)
        self._console = Console(
            stderr=True, no_color=no_color or None, emoji=False, highlight=False
        )
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _BarColumn(),
            _TimeColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # rich would print data on stderr
        )
        self._task = self._progress.add_task(doing, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        self._redirect = redirect_messages(self._print)
        self._redirect.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._redirect.__exit__(kind, error, traceback)
        self._progress.stop()

    def _print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has accepted the track: the time starts."""
        self._progress.reset(self._task, total=None, expected=self._expected)
        super().accepted(track)

    def status(self, track: Generation | SoundEffect) -> None:
        """The status of the track has changed."""
        self._progress.update(self._task, description=shown(track.status))

    def ended(self, track: Generation | SoundEffect, seconds: float) -> None:
        """The track has ended, `seconds` after the wait began."""
        self._progress.update(self._task, description=shown(track.status))
        self.note(f"{shown(track.status)} after {duration_text(seconds)}")

    def loading(self, done: int, total: int | None) -> None:
        """`done` of `total` bytes are downloaded."""
        self._progress.update(
            self._task, description="downloading", completed=done, total=total
        )
