"""``finetuning instrumental``: create one track without vocals and save it."""

from __future__ import annotations

from typing import Any

import click

from finetuning_async.cli._create_command import (
    CreateCommand,
    CreateOptions,
    CreateRun,
    create_options,
    enhance_option,
)
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    common_options,
    on_unknown_option,
    pass_common,
)
from finetuning_async.cli._track_kinds import TRACK


@click.command(cls=CreateCommand)
@click.argument("prompt", nargs=-1, required=True)
@click.option(
    "--duration",
    type=Number(),
    metavar="SECONDS",
    help="30 to 210; the service rounds it to steps of 15.",
)
@enhance_option
@click.option("--seed", type=int, metavar="NUMBER", help="0 to 2147483647.")
@create_options
@on_unknown_option
@common_options
@pass_common
def command(
    common: CommonOptions,
    /,
    prompt: tuple[str, ...],
    options: CreateOptions,
    **parameters: Any,
) -> None:
    """Create one track without vocals and save it (short: inst). Costs one credit.

    PROMPT describes the sound; several words are joined. The service chooses
    instruments and tempo. -o and --json work as in generate.
    """
    words = " ".join(prompt)
    CreateRun(common, TRACK, options).run(
        lambda client, **more: client.instrumentals.create(words, **parameters, **more)
    )
