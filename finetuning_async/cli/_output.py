"""stdout for data, stderr for the rest."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

import click

from finetuning_async._secrets import is_plain, mask_query, shown as shown

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from finetuning_async import Page
    from finetuning_async.cli._options import Common


def say(line: str) -> None:
    """Tell a person something, on stderr.

    If nobody can be told any more, what is under way goes on: it may be paid.
    """
    with suppress(OSError):
        show = _screens[-1] if _screens else _say
        show(printable(line))


def _say(line: str) -> None:
    click.echo(line, err=True)


_screens: list[Callable[[str], object]] = []


@contextmanager
def screen(show: Callable[[str], object]) -> Generator[None]:
    """Let something that redraws a part of the terminal show what is said meanwhile.

    Else the next drawing would take the lines for its own, and erase them.
    """
    _screens.append(show)
    try:
        yield
    finally:
        _screens.remove(show)


def printable(text: str) -> str:
    """Text with all that is not plain escaped, but for the line breaks.

    What others say goes into such a text by `shown`, so that its line breaks are
    theirs to see.
    """
    return "\n".join(map(shown, text.split("\n")))


def print_json(data: Mapping[str, Any]) -> None:
    """Print data as the service wraps it, two spaces a level, on stdout."""
    text = json.dumps({"data": _masked(data)}, indent=2, ensure_ascii=False)
    # Escaped like the control codes that JSON escapes by itself: the rest of what a
    # terminal obeys, and halves of surrogate pairs, which no stream can write.
    click.echo("".join(map(_in_json, text)))


def _in_json(char: str) -> str:
    if char == "\n" or is_plain(char):  # between the values; in them it is escaped
        return char
    if ord(char) > 0xFFFF:
        return json.dumps(char)[1:-1]
    return f"\\u{ord(char):04x}"


def _masked(data: Any) -> Any:
    """The data with the query of each ``webhook`` hidden: it is a secret."""
    if isinstance(data, list):
        return [_masked(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        name: mask_query(value)
        if name == "webhook" and isinstance(value, str)
        else _masked(value)
        for name, value in data.items()
    }


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values below each other on stdout; `None` is left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        click.echo(f"{name:<{width}}  {shown(str(value))}")


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns on stdout; on a terminal the last is cut to fit its width."""
    table = [tuple(map(shown, row)) for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    most = _columns() if is_terminal(sys.stdout) else None
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo(_cut("  ".join(cells).rstrip(), most))


def note_more(common: Common, page: Page[Any]) -> None:
    """Say how to see the next page, if there is one."""
    if page.has_more and not common.quiet:
        say(f"More: --offset {page.next_offset}")


def seconds_text(seconds: float | None, *, digits: int = 1) -> str:
    """Seconds for a table; empty if nobody knows."""
    return "" if seconds is None else f"{seconds:.{digits}f}"


def date_text(moment: dt.datetime | None) -> str:
    """A moment for a table; empty if nobody knows."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def yes_or_no(fact: bool | None) -> str:
    """A fact for people; empty if nobody knows."""
    return "" if fact is None else "yes" if fact else "no"


def is_terminal(stream: TextIO | None) -> bool:
    """Python has `None` for a stream that was closed at the start."""
    return stream is not None and stream.isatty()


def _columns() -> int:
    from shutil import get_terminal_size  # needed by tables only

    return get_terminal_size().columns


def _cut(line: str, most: int | None) -> str:
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def size_text(count: int) -> str:
    """Bytes for people.

    >>> size_text(240_123)
    '240 kB'
    """
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.1f} MB"


def duration_text(seconds: float) -> str:
    """Seconds for people.

    >>> duration_text(41.4), duration_text(75)
    ('41 s', '1 min 15 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
