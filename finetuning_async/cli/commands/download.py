"""``finetuning download``: save a completed track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    pass_common,
)
from finetuning_async.cli._output_options import output_options
from finetuning_async.cli._track_kinds import KINDS
from finetuning_async.cli._track_output import download

if TYPE_CHECKING:
    from finetuning_async.cli._output_path import Output


@click.command()
@click.argument("track_id", metavar="ID")
@output_options
@common_options
@pass_common
def command(
    common: CommonOptions,
    track_id: str,
    to: Output,
) -> None:
    """Save a completed track. Without -o the file is named after it.

    ID is that of a track or a sound effect, or its first characters, at least 4.
    """
    download(common, KINDS, track_id, to.destination)
