"""``finetuning download``: save a completed track."""

from __future__ import annotations

import click

from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    output_option,
    pass_common,
)
from finetuning_async.cli._output_path import Destination
from finetuning_async.cli._track_kinds import KINDS
from finetuning_async.cli._track_output import download


@click.command()
@click.argument("track_id", metavar="ID")
@output_option
@common_options
@pass_common
def command(common: CommonOptions, track_id: str, output: str | None) -> None:
    """Save a completed track. Without -o the file is named after it.

    ID is that of a track or a sound effect, or the beginning of it.
    """
    download(common, KINDS, track_id, Destination(output))
