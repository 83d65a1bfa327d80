"""``finetuning wait``: wait for a track to end, whichever process created it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
    timeout_option,
)
from finetuning_async.cli._output_options import output_options
from finetuning_async.cli._track_kinds import KINDS
from finetuning_async.cli._track_output import wait_for

if TYPE_CHECKING:
    from finetuning_async.cli._output_path import Output


@click.command()
@click.argument("track_id", metavar="ID")
@output_options
@json_option
@timeout_option()
@common_options
@pass_common
def command(
    common: CommonOptions,
    track_id: str,
    to: Output,
    as_json: bool,
    timeout: float,
) -> None:
    """Wait for a track to end. Add -o to save it; -o . names the file after it.

    ID is that of a track or a sound effect, or its first characters, at least 4.
    """
    destination = to.destination_if_given
    wait_for(common, KINDS, track_id, destination, timeout=timeout, as_json=as_json)
