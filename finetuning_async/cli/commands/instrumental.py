"""``finetuning instrumental``: make one track without vocals and save it."""

from __future__ import annotations

from typing import Any

import click

from finetuning_async.cli._create_command import (
    Maker,
    Making,
    Plan,
    enhance_option,
    making_options,
)
from finetuning_async.cli._options import (
    Common,
    Number,
    common_options,
    on_unknown_option,
    pass_common,
)
from finetuning_async.cli._track_kinds import TRACK


@click.command(cls=Maker)
@click.argument("prompt", nargs=-1, required=True)
@click.option(
    "--duration",
    type=Number(),
    metavar="SECONDS",
    help="30 to 210; the service takes steps of 15.",
)
@enhance_option
@click.option("--seed", type=int, metavar="NUMBER", help="0 to 2147483647.")
@making_options
@on_unknown_option
@common_options
@pass_common
def command(
    common: Common, /, prompt: tuple[str, ...], plan: Plan, **parameters: Any
) -> None:
    """Make one track without vocals and save it (short: inst). Costs one credit.

    PROMPT is what it shall sound like; several words are joined. The service picks
    instruments and tempo. Files and --json are as for generate.
    """
    words = " ".join(prompt)
    Making(common, TRACK, plan).run(
        lambda client, **more: client.instrumentals.create(words, **parameters, **more)
    )
