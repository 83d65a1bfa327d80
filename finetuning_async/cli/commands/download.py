"""``finetuning download``: save a completed track."""

from __future__ import annotations

import click

from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    output_options,
    pass_common,
)
from finetuning_async.cli._output_path import Destination
from finetuning_async.cli._track_kinds import KINDS
from finetuning_async.cli._track_output import download


@click.command()
@click.argument("track_id", metavar="ID")
@output_options
@common_options
@pass_common
def command(
    common: CommonOptions,
    track_id: str,
    output: str | None,
    no_clobber: bool,
    play: bool,
) -> None:
    """Save a completed track. Without -o the file is named after it.

    ID is that of a track or a sound effect, or the beginning of it.
    """
    destination = Destination(output, no_clobber=no_clobber)
    download(common, KINDS, track_id, destination, play=play)
