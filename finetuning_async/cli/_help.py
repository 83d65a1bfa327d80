"""Help for terminals of any width: click's own is at least 50 columns wide."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NARROWEST: Final = 20
"""Columns below which the help is not made to fit."""

CLICKS_NARROWEST: Final = 52

AS_IT_IS: Final = "\b\n"
"""Begins a paragraph whose lines click leaves as they are."""

_PAIR: Final = re.compile(r"\s*(\S+(?: \S+)*)\s{2,}(\S.*)")
"""A line of such a paragraph with a name and its meaning."""


class HelpFormatter(click.HelpFormatter):
    """Formats help for the width of the terminal, even if that is narrow."""

    def __init__(self, width: int | None = None, **more: Any) -> None:
        from shutil import get_terminal_size  # only --help needs it

        columns = get_terminal_size().columns
        if width is None and columns < CLICKS_NARROWEST:
            width = max(columns, NARROWEST) - 1
        super().__init__(width=width, **more)

    def write_dl(
        self,
        rows: Iterable[tuple[str, str]],
        col_max: int = 30,
        col_spacing: int = 2,
    ) -> None:
        """Write names and their meanings; a long name has a line of its own."""
        most = col_max if self.width >= CLICKS_NARROWEST else self.width // 3
        super().write_dl(rows, min(col_max, most), col_spacing)

    def write_text(self, text: str) -> None:
        """Write paragraphs; those with lines that do not fit are laid out anew."""
        write = super().write_text
        room = self.width - self.current_indent
        for number, block in enumerate(text.split("\n\n")):
            if number:
                self.write("\n")
            lines = block.removeprefix(AS_IT_IS).splitlines()
            fits = all(len(line) <= room for line in lines)
            if fits or not block.startswith(AS_IT_IS):
                write(block)
            else:
                self._write_anew(lines)

    def _write_anew(self, lines: Sequence[str]) -> None:
        write = super().write_text
        for is_pair, group in groupby(lines, lambda line: bool(_PAIR.fullmatch(line))):
            if is_pair:
                found = (_PAIR.fullmatch(line) for line in group)
                self._write_pairs([(one[1], one[2]) for one in found if one])
            else:
                write(" ".join(group))

    def _write_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        with self.indentation():
            self.width -= self.indent_increment  # click reckons with one indentation
            super().write_dl(pairs, self.width // 6)
            self.width += self.indent_increment


class Context(click.Context):
    """A context whose help fits."""

    formatter_class: type[click.HelpFormatter] = HelpFormatter


def fit_help(command: click.Command) -> click.Command:
    """Make the help of a command and its subcommands fit, and return it."""
    command.context_class = Context
    for inner in getattr(command, "commands", {}).values():
        fit_help(inner)
    return command
