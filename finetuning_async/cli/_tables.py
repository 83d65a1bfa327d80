"""Tables and named values on stdout, for whatever width there is.

On a terminal a row is one line that fits: ids are cut to a beginning that is unique
among the rows, columns that matter less are left out, and the one that holds text gets
the rest. Times are local. Elsewhere everything is there in full, and times are ISO
8601 in UTC. Widths are in cells, of which a Chinese or Japanese letter takes two.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Final

import click

from finetuning_async.cli._output import is_terminal, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Sequence[str | None]

GAP: Final = "  "
"""Between two columns."""

SHORTEST_ID: Final = 8
"""Characters of a short id, at least: the first group of a UUID."""

LONGEST_WHOLE_ID: Final = 12
"""An id of up to this many characters is not cut."""

NARROWEST_TEXT: Final = 16
"""Cells of the column with text; for fewer, another column is left out."""


class Table:
    """A table whose first column holds ids.

    Args:
        heads: The heads of its columns.
        text: The column that holds text.
        optional: Those to leave out where the width does not do, the first one first.
    """

    def __init__(
        self, *heads: str, text: str, optional: Sequence[str] = ("CREATED", "SECONDS")
    ) -> None:
        self._heads = heads
        self._text = heads.index(text)
        self._optional = [heads.index(head) for head in optional if head in heads]

    def show(self, rows: Iterable[Row]) -> None:
        """Print it on stdout."""
        lines = [[shown(cell or "") for cell in row] for row in rows]
        width = _terminal_width()
        if width is not None:
            for cells, short in zip(
                lines, short_ids([cells[0] for cells in lines]), strict=True
            ):
                cells[0] = short
        for line in self.layout([list(self._heads), *lines], width):
            click.echo(line)

    def layout(self, lines: Sequence[Sequence[str]], width: int | None) -> list[str]:
        """The lines as printed, the heads first.

        Args:
            lines: The cells of each.
            width: In cells; `None` if nothing limits it.
        """
        from rich.cells import cell_len  # slow to import

        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        columns = list(range(len(self._heads)))
        if width is not None:
            columns, widths[self._text] = self._fit(widths, width)
        return [_line([(line[n], widths[n]) for n in columns]) for line in lines]

    def _fit(self, widths: Sequence[int], width: int) -> tuple[list[int], int]:
        """Which columns to show, and the width of the one that holds text."""
        columns = list(range(len(widths)))
        wanted = min(widths[self._text], NARROWEST_TEXT)
        for left_out in (None, *self._optional):
            if left_out is not None:
                columns.remove(left_out)
            others = [widths[n] for n in columns if n != self._text]
            left = width - sum(others) - len(GAP) * len(others)
            if left >= wanted:
                break
        return columns, max(min(left, widths[self._text]), 1)


def _line(cells: Sequence[tuple[str, int]]) -> str:
    from rich.cells import set_cell_size  # slow to import

    padded = (set_cell_size(cut(text, width), width) for text, width in cells)
    return GAP.join(padded).rstrip()


def cut(text: str, width: int) -> str:
    """A text in at most so many cells; an ellipsis shows that something is cut off.

    >>> cut("piano", 4), cut("夜のピアノ", 5), cut("rain", 4)
    ('pia…', '夜の…', 'rain')
    """
    from rich.cells import cell_len, set_cell_size  # slow to import

    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def short_ids(ids: Sequence[str]) -> list[str]:
    """The beginning of each id, long enough to differ from the others.

    >>> short_ids(["5e0c7b1a-93d4", "5e0c7b1a-11aa", "gen_7qk2m9"])
    ['5e0c7b1a-9', '5e0c7b1a-1', 'gen_7qk2m9']
    """
    length = SHORTEST_ID
    unique = len(set(ids))
    while len({one[:length] for one in ids}) < unique:
        length += 1
    if length == SHORTEST_ID + 1:
        length += 1  # a hyphen distinguishes nothing
    return [one if len(one) <= LONGEST_WHOLE_ID else one[:length] for one in ids]


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one name and value a line on stdout; `None` is left out.

    On a terminal a long value goes on below its start.
    """
    known = {
        name: time_text(value) if isinstance(value, dt.datetime) else shown(str(value))
        for name, value in fields.items()
        if value is not None
    }
    names = max(map(len, known), default=0)
    width = _terminal_width()
    for name, value in known.items():
        lines = [value] if width is None else wrap(value, width - names - len(GAP))
        if width is not None and _is_too_long(lines, width - names - len(GAP)):
            # Below its name an id fits, and a URL is at least in one piece.
            click.echo(f"{name}\n{value}")
            continue
        for number, line in enumerate(lines):
            head = "" if number else name
            click.echo(f"{head:<{names}}{GAP}{line}")


def _is_too_long(lines: Sequence[str], width: int) -> bool:
    """Whether there is only one word, and that does not fit."""
    from rich.cells import cell_len  # slow to import

    return len(lines) == 1 and cell_len(lines[0]) > width


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most so many cells; a longer word stays whole.

    A URL that is broken into lines could not be clicked or copied.
    """
    from rich.cells import cell_len  # slow to import

    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def time_text(moment: dt.datetime | None) -> str:
    """A time: on a terminal the local one to the minute, else ISO 8601 in UTC."""
    if moment is None:
        return ""
    if is_terminal(sys.stdout):
        return f"{moment.astimezone():%Y-%m-%d %H:%M}"
    utc = moment.astimezone(dt.UTC).isoformat(timespec="seconds")
    return utc.replace("+00:00", "Z")


def _terminal_width() -> int | None:
    """The width of the terminal that stdout is; `None` if it is none."""
    if not is_terminal(sys.stdout):
        return None
    from shutil import get_terminal_size  # only tables need it

    return get_terminal_size().columns
