"""``finetuning help COMMAND``: the same as ``finetuning COMMAND --help``."""

from __future__ import annotations

import click


@click.command()
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    here = ctx.find_root()
    for word in words:
        group = here.command
        inner = (
            group.get_command(here, word) if isinstance(group, click.Group) else None
        )
        if inner is None:
            raise click.UsageError(f"No such command {word!r}.", here)
        here = inner.context_class(inner, here, info_name=word)
    click.echo(here.get_help())
