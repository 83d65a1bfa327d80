"""``finetuning completion``: the script with which a shell completes commands."""

from __future__ import annotations

import click

VARIABLE = "_FINETUNING_COMPLETE"


EPILOG = """\b
bash  eval "$(finetuning completion bash)"   in ~/.bashrc
zsh   eval "$(finetuning completion zsh)"    in ~/.zshrc
fish  finetuning completion fish | source    in ~/.config/fish/config.fish

\b
It prints the same as _FINETUNING_COMPLETE=bash_source finetuning.
"""


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the shell completion script."""
    from click.shell_completion import get_completion_class  # only needed here

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choices are click's own
    program = ctx.find_root()
    click.echo(made(program.command, {}, "finetuning", VARIABLE).source(), nl=False)
