"""Markdown on a terminal: code can be copied, tables are whole, links can be typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from rich.console import Console
from rich.markdown import CodeBlock, Markdown, TableElement
from rich.segment import Segment
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

WIDEST: Final = 100
"""Columns above which prose is no longer easy to read."""

_GUIDE_LINK: Final = re.compile(r"\[([^\]\[]+)\]\(([a-z-]+)\.md(?:#[^)]*)?\)")


class _Code(CodeBlock):
    """Code as it is to be copied: no margin, no line broken."""

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        del options
        yield Segment(str(self.text).rstrip(), console.get_style("cyan"))
        yield Segment.line()


class _WholeTable(TableElement):
    """A table whose words are broken where they do not fit, instead of cut off."""

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        for part in super().__rich_console__(console, options):
            if isinstance(part, Table):
                for column in part.columns:
                    column.overflow = "fold"
            yield part


class _Guide(Markdown):
    elements: ClassVar = {
        **Markdown.elements,
        "fence": _Code,
        "table_open": _WholeTable,
    }


def print_markdown(text: str) -> None:
    """Print Markdown on a terminal; links to guides become the command that shows them.

    The terminal breaks lines of code that are longer than it is wide; a copy of them
    is whole.
    """
    console = Console()
    named = _GUIDE_LINK.sub(r"\1 (`finetuning guide \2`)", text)
    console.print(_Guide(named), width=min(console.width, WIDEST), crop=False)
