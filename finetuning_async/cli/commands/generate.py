"""``finetuning generate``: make one track of music and save it."""

from __future__ import annotations

from typing import Any

import click

from finetuning_async.cli._create_command import Making, Plan, making_options
from finetuning_async.cli._options import (
    Common,
    Number,
    common_options,
    on_unknown_option,
    pass_common,
)
from finetuning_async.cli._track_kinds import TRACK


@click.command()
@click.argument("tags", nargs=-1, required=True)
@click.option("--duration", type=Number(), metavar="SECONDS", help="5 to 210.")
@click.option("--bpm", type=Number(), metavar="NUMBER", help="60 to 200.")
@click.option("--key", metavar="NOTE", help="C, C#, ... B; or a flat.")
@click.option("--scale", metavar="WORD", help="major or minor.")
@click.option("--time-sig", "timesignature", metavar="BEATS", help="2 to 7 per bar.")
@click.option("--language", metavar="CODE", help="Of the vocals: en, ja, de, ...")
@click.option("--lyrics", metavar="TEXT", help="What is sung.")
@click.option("--seed", type=int, metavar="NUMBER", help="0 to 2147483647.")
@making_options
@on_unknown_option
@common_options
@pass_common
def command(
    common: Common, /, tags: tuple[str, ...], plan: Plan, **parameters: Any
) -> None:
    """Make one track of music and save it. Costs one credit.

    TAGS is what it shall sound like; several words are joined. What is not set is left
    to the service. Without -o the file is named after the track; with --json the track
    is printed, and saved only with -o.
    """
    words = " ".join(tags)
    Making(common, TRACK, plan).run(
        lambda client, **more: client.generations.create(words, **parameters, **more)
    )
