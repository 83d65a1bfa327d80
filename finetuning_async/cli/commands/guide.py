"""``finetuning guide``: read a guide."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar, Final

import click

from finetuning_async.cli._error_exit import InvalidInputError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from rich.console import Console, ConsoleOptions, RenderResult

ORDER: Final = (
    "first-steps",
    "many-tracks",
    "backend",
    "many-processes",
    "was-i-charged",
    "rate-limits",
    "timeouts",
    "emulator",
    "virtual-time",
    "sync",
    "job-queues",
    "coming-from",
    "performance",
    "faq",
)
"""The guides, in the order in which a newcomer reads them."""

_LINK: Final = re.compile(r"\[([^\]\[]+)\]\(([a-z-]+)\.md(?:#[^)]*)?\)")


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Read a guide; without NAME, list them.

    The first letters of NAME do. In a pipe it is the Markdown as it is.
    """
    guides = _guides()
    if name is None:
        _print_list(guides)
    else:
        print_guide(_find(name, guides).read_text("utf-8"))


def _guides() -> dict[str, Traversable]:
    folder = files("finetuning_async") / "guides"
    return {name: folder / f"{name}.md" for name in ORDER}


def _find(name: str, guides: dict[str, Traversable]) -> Traversable:
    found = [one for one in guides if one == name] or [
        one for one in guides if name and one.startswith(name)
    ]
    if len(found) == 1:
        return guides[found[0]]
    from finetuning_async.cli._usage_errors import suggestion

    hint = suggestion(name, guides, alike=0.6)
    parts = (f"There is no guide {name!r}.", hint, "To list them: finetuning guide")
    raise InvalidInputError(" ".join(filter(None, parts)))


def _print_list(guides: dict[str, Traversable]) -> None:
    widest = max(map(len, guides))
    for name, file in guides.items():
        title = file.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        click.echo(f"{name:{widest}}  {title}")


def print_guide(text: str) -> None:
    """Print the Markdown of a guide, laid out if it goes to a terminal."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console  # only needed here
    from rich.markdown import CodeBlock, Markdown
    from rich.segment import Segment

    class Code(CodeBlock):
        """Code as it is to be copied: no margin, no line broken."""

        def __rich_console__(
            self, console: Console, options: ConsoleOptions
        ) -> RenderResult:
            style = console.get_style("cyan")
            yield Segment(str(self.text).rstrip(), style)
            yield Segment.line()

    class Guide(Markdown):
        elements: ClassVar = {**Markdown.elements, "fence": Code}

    console = Console()
    named = _LINK.sub(r"\1 (`finetuning guide \2`)", text)
    console.print(Guide(named), width=min(console.width, 100), crop=False)
