"""``finetuning generate``: create one track of music and save it."""

from __future__ import annotations

from typing import Any

import click

from finetuning_async.cli._create_command import (
    CreateOptions,
    CreateRun,
    create_options,
)
from finetuning_async.cli._options import (
    CommonOptions,
    Number,
    TextOrFile,
    common_options,
    on_unknown_option,
    pass_common,
)
from finetuning_async.cli._track_kinds import TRACK


@click.command()
@click.argument("tags", nargs=-1, required=True)
@click.option("--duration", type=Number(), metavar="SECONDS", help="5 to 210.")
@click.option("--bpm", type=Number(), metavar="NUMBER", help="60 to 200.")
@click.option("--key", metavar="NOTE", help="C, C#, ... B, or a flat such as Bb.")
@click.option("--scale", metavar="WORD", help="major or minor.")
@click.option(
    "--time-sig", "timesignature", metavar="BEATS", help="Beats per bar, 2 to 7."
)
@click.option(
    "--language", metavar="CODE", help="Language of the vocals: en, ja, de, ..."
)
@click.option(
    "--lyrics",
    type=TextOrFile(),
    metavar="TEXT",
    help="The text to sing; @FILE reads it from a file, @- from stdin.",
)
@click.option("--seed", type=int, metavar="NUMBER", help="0 to 2147483647.")
@create_options
@on_unknown_option
@common_options
@pass_common
def command(
    common: CommonOptions,
    /,
    tags: tuple[str, ...],
    options: CreateOptions,
    **parameters: Any,
) -> None:
    """Create one track of music and save it. Costs one credit.

    TAGS describe the sound; several words are joined. The service chooses what you do
    not set. Without -o the file is named after the track. With --json the track is
    printed, and saved only if -o is given.
    """
    words = " ".join(tags)
    CreateRun(common, TRACK, options, parameters["lyrics"]).run(
        lambda client, **more: client.generations.create(words, **parameters, **more)
    )
