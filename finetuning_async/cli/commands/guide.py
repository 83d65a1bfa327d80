"""``finetuning guide``: read a guide."""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Read a guide; without NAME, list them.

    In a pipe it is the Markdown as it is.
    """
    guides = _guides()
    if name is None:
        _print_list(guides)
    elif name not in guides:
        known = ", ".join(guides)
        raise click.BadParameter(f"{name!r} is none of: {known}", param_hint="NAME")
    else:
        _print_guide(guides[name].read_text("utf-8"))


def _guides() -> dict[str, Traversable]:
    folder = files("finetuning_async") / "guides"
    found = {file.name.removesuffix(".md"): file for file in folder.iterdir()}
    return {name: found[name] for name in sorted(found) if found[name].is_file()}


def _print_list(guides: dict[str, Traversable]) -> None:
    widest = max(map(len, guides))
    for name, file in guides.items():
        title = file.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        click.echo(f"{name:{widest}}  {title}")


def _print_guide(text: str) -> None:
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console  # only needed here
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text), width=min(console.width, 100))
