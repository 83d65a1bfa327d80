"""stdout for data, stderr for the rest."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

import click

from finetuning_async._secrets import is_plain, mask_query, shown as shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from finetuning_async import Page
    from finetuning_async.cli._options import CommonOptions


def say(line: str) -> None:
    """Print a message on stderr.

    An unwritable stderr is no error: the command goes on, because its track may have
    been charged.
    """
    with suppress(OSError):
        show = _redirects[-1] if _redirects else _say
        show(printable(line))


def _say(line: str) -> None:
    click.echo(line, err=True)


_redirects: list[Callable[[str], object]] = []


@contextmanager
def redirect_messages(show: Callable[[str], object]) -> Generator[None]:
    """Let `show` print the messages of `say` while the block runs.

    For what redraws part of the terminal: it would take lines printed behind its back
    for its own, and erase them.
    """
    _redirects.append(show)
    try:
        yield
    finally:
        _redirects.remove(show)


def printable(text: str) -> str:
    """Text with everything escaped that a terminal obeys, except line breaks.

    Text of the service goes through `shown` before it becomes part of such a text, so
    that its line breaks are escaped as well.
    """
    return "\n".join(map(shown, text.split("\n")))


def print_json(data: Mapping[str, Any]) -> None:
    """Print data on stdout, wrapped as the service does, indented by two spaces."""
    text = json.dumps({"data": mask_webhooks(data)}, indent=2, ensure_ascii=False)
    # JSON escapes the ASCII control codes. Escape as well what else a terminal obeys,
    # and unpaired surrogates, which no stream can encode.
    click.echo("".join(map(_escape_in_json, text)))


def print_json_line(data: Mapping[str, Any]) -> None:
    """Print data on stdout as one line of JSON, as the service has it."""
    text = json.dumps(mask_webhooks(dict(data)), ensure_ascii=False)
    click.echo("".join(map(_escape_in_json, text)))


def _escape_in_json(char: str) -> str:
    if char == "\n" or is_plain(char):  # a line break of the layout, not of a value
        return char
    if ord(char) > 0xFFFF:
        return json.dumps(char)[1:-1]
    return f"\\u{ord(char):04x}"


def mask_webhooks(data: Any) -> Any:
    """The data with the query of each ``webhook`` masked: it is a secret."""
    if isinstance(data, list):
        return [mask_webhooks(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        name: mask_query(value)
        if name == "webhook" and isinstance(value, str)
        else mask_webhooks(value)
        for name, value in data.items()
    }


def note_more(common: CommonOptions, page: Page[Any]) -> None:
    """Print how to see the next page, if there is one."""
    if page.has_more and not common.quiet:
        say(f"More: --offset {page.next_offset}")


def say_empty(
    common: CommonOptions, what: str, maker: str, query: Mapping[str, Any] | None = None
) -> None:
    """Say that a list is empty, and what makes it longer.

    Args:
        common: Options that all commands share.
        what: What it lists.
        maker: The command or place where one is created.
        query: What it was filtered by.
    """
    if common.quiet:
        return
    used = query or {}
    filters = [f"{name} {used[name]}" for name in ("status", "type") if used.get(name)]
    if used.get("offset"):
        say(f"There is no {what} after the first {used['offset']}.")
    elif filters:
        say(f"There is no {what} with {' and '.join(filters)}.")
    else:
        say(f"There is no {what} yet. To create one: {maker}")


def seconds_text(seconds: float | None, *, digits: int = 1) -> str:
    """Seconds for a table; empty if unknown."""
    return "" if seconds is None else f"{seconds:.{digits}f}"


def yes_or_no(fact: bool | None) -> str:
    """``yes`` or ``no``; empty if unknown."""
    return "" if fact is None else "yes" if fact else "no"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; `None` is one that was closed at the start."""
    return stream is not None and stream.isatty()


def size_text(count: int) -> str:
    """A number of bytes for people.

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
