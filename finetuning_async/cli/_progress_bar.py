"""Progress on a terminal: lines that stay, and a bar below them that disappears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from finetuning_async.cli._delay_notice import clock_text
from finetuning_async.cli._output import (
    redirect_messages,
    shown,
    size_text,
)
from finetuning_async.cli._progress import LineReporter, fraction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import ConsoleOptions, RenderResult

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async.cli._delay_notice import Delay


MOST_CELLS: Final = 32
"""The widest bar."""

SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

FEWEST_CELLS: Final = 6
"""A narrower bar says nothing and is left out."""


class _Line(ProgressColumn):
    """Everything in one line: spinner, activity, bar, and time or bytes."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop"))

    def render(self, task: Task) -> _LineOf:
        """Draw the line."""
        return _LineOf(task)


class _LineOf:
    """The line of a task, for whatever width it gets."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        task = self._task
        forms = task.fields.get("forms") or (task.description,)
        text, cells, time = layout(forms, _times(task), options.max_width - 2)
        spin = SPINNER[int(task.get_time() * 10) % len(SPINNER)]
        # Without "default" each part would be padded to the width of the line.
        yield Text(f"{spin} {text} ", end="", justify="default")
        if cells:
            bar = [*console.render(_bar(task, cells), options)]
            yield from bar
            # Without colours its empty part is not drawn.
            empty = cells - Segment.get_line_length(bar)
            yield Text(" " * (empty + 1), end="", justify="default")
        style = "progress.download" if task.total else ""
        yield Text(time, end="", style=style, justify="default")

    def __rich_measure__(
        self, console: Console, options: ConsoleOptions
    ) -> Measurement:
        return Measurement(1, options.max_width)


def layout(
    forms: Sequence[str], times: Sequence[str], width: int
) -> tuple[str, int, str]:
    """What of a line fits a width: its text, the cells of its bar, and its time.

    >>> layout(["waiting for the rate limit", "waiting"], ["0:12"], 24)
    ('waiting', 11, '0:12')

    Args:
        forms: What it does, the longest form first.
        times: How long it takes, the longest form first.
        width: In cells, of which a wide letter takes two.
    """
    for form in forms:
        for time in times:
            left = width - cell_len(form) - cell_len(time) - 1
            if left >= 0:
                cells = min(left - 1, MOST_CELLS)
                return form, cells if cells >= FEWEST_CELLS else 0, time
    text = Text(forms[-1])
    text.truncate(max(width, 1), overflow="ellipsis")
    return text.plain, 0, ""


def _bar(task: Task, cells: int) -> ProgressBar:
    """The bar: it shows time while the track is made, bytes while it is downloaded."""
    part = _fraction_done(task)
    return ProgressBar(
        total=1,
        completed=part or 0,
        width=cells,
        pulse=part is None,
        animation_time=task.get_time(),
    )


def _fraction_done(task: Task) -> float | None:
    """How full the bar is; `None` if that is unknown."""
    if task.total:
        return task.completed / task.total
    expected = task.fields.get("expected")
    return None if expected is None else fraction(task.elapsed or 0.0, expected)


def _times(task: Task) -> tuple[str, ...]:
    """The elapsed and the expected time, or the bytes; then shorter forms."""
    if task.total:
        done, total = size_text(int(task.completed)), size_text(int(task.total))
        return f"{done} of {total}", f"{task.percentage:.0f} %"
    elapsed = task.elapsed or 0.0
    return times(elapsed, task.fields.get("expected")), clock_text(elapsed)


def times(elapsed: float, expected: float | None) -> str:
    """The elapsed time, and the usual time.

    >>> times(12, 70), times(80, 70)
    ('0:12 of about 1:10', '1:20, usually about 1:10')
    """
    if expected is None:
        return clock_text(elapsed)
    between = " of about " if elapsed <= expected else ", usually about "
    return f"{clock_text(elapsed)}{between}{clock_text(expected)}"


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
            _Line(),
            console=self._console,
            expand=True,
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

    def delayed(self, delay: Delay, now: float) -> None:
        """The track is not accepted yet: below, it says why. Trouble gets a line."""
        self._progress.update(self._task, forms=delay.forms)
        if not delay.is_wait:
            super().delayed(delay, now)

    def accepted(self, track: Generation | SoundEffect) -> None:
        """The service has accepted the track: the time starts."""
        self._progress.reset(self._task, total=None, expected=self._expected)
        super().accepted(track)

    def status(self, track: Generation | SoundEffect) -> None:
        """The status of the track has changed."""
        self._progress.update(self._task, forms=(shown(track.status),))

    def ended(self, track: Generation | SoundEffect, seconds: float | None) -> None:
        """The track has ended, `seconds` after the wait began or, `None`, before it."""
        self._progress.update(self._task, forms=(shown(track.status),))
        super().ended(track, seconds)

    def loading(self, done: int, total: int | None) -> None:
        """`done` of `total` bytes are downloaded."""
        self._progress.update(
            self._task, forms=("downloading",), completed=done, total=total
        )
