"""Progress on a terminal: a bar that shows the time, and gives way to lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from finetuning_async.cli._output import duration_text, screen, shown, size_text
from finetuning_async.cli._progress import Lines, fraction

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from finetuning_async._api import Generation, SoundEffect


class _Clocked(ProgressColumn):
    """The bar itself: filled by time while the track is made, by bytes after that."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self._width = width

    def render(self, task: Task) -> ProgressBar:
        """Draw it."""
        part = _part(task)
        return ProgressBar(
            total=1,
            completed=part or 0,
            width=self._width,
            pulse=part is None,
            animation_time=task.get_time(),
        )


def _part(task: Task) -> float | None:
    """How full it is; `None` where nobody can know."""
    if task.total:
        return task.completed / task.total
    expected = task.fields.get("expected")
    return None if expected is None else fraction(task.elapsed or 0.0, expected)


class _Times(ProgressColumn):
    """The time gone and the end expected, or the bytes."""

    def render(self, task: Task) -> Text:
        """Write it."""
        if task.total:
            got = f"{size_text(int(task.completed))} of {size_text(int(task.total))}"
            return Text(got, style="progress.download")
        return Text(times(task.elapsed or 0.0, task.fields.get("expected")))


def times(elapsed: float, expected: float | None) -> str:
    """The time gone, and what is usual.

    >>> times(12, 70), times(80, 70)
    ('0:12 of about 1:10', '1:20, usually about 1:10')
    """
    if expected is None:
        return _clock(elapsed)
    link = " of about " if elapsed <= expected else ", usually about "
    return f"{_clock(elapsed)}{link}{_clock(expected)}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


class Bar(Lines):
    """Lines that stay, and below them a bar that goes away.

    Args:
        expected: Seconds that the track takes as a rule; `None` if nobody knows.
        doing: What is under way at first.
        no_color: No colours; ``NO_COLOR`` means the same.
    """

    def __init__(self, expected: float | None, doing: str, *, no_color: bool) -> None:
        super().__init__(expected, doing)
        self._console = Console(
            stderr=True, no_color=no_color or None, emoji=False, highlight=False
        )
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Clocked(),
            _Times(),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # data must not go to stderr
        )
        self._task = self._progress.add_task(doing, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        self._screen = screen(self._print)
        self._screen.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._screen.__exit__(kind, error, traceback)
        self._progress.stop()

    def _print(self, line: str) -> None:
        """Show a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has taken it: from now on time counts."""
        self._progress.reset(self._task, total=None, expected=self._expected)
        super().accepted(track)

    def status(self, track: Generation | SoundEffect) -> None:
        """Its state has changed."""
        self._progress.update(self._task, description=shown(track.status))

    def ended(self, track: Generation | SoundEffect, seconds: float) -> None:
        """It is final, so many seconds after the wait began."""
        self._progress.update(self._task, description=shown(track.status))
        self.note(f"{shown(track.status)} after {duration_text(seconds)}")

    def loading(self, done: int, total: int | None) -> None:
        """So many bytes are here."""
        self._progress.update(
            self._task, description="downloading", completed=done, total=total
        )
