"""``finetuning wait``: wait for a track to end, whichever process created it."""

from __future__ import annotations

import click

from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    output_option,
    pass_common,
    timeout_option,
)
from finetuning_async.cli._output_path import Destination
from finetuning_async.cli._track_kinds import KINDS
from finetuning_async.cli._track_output import wait_for


@click.command()
@click.argument("track_id", metavar="ID")
@output_option
@json_option
@timeout_option()
@common_options
@pass_common
def command(
    common: CommonOptions,
    track_id: str,
    output: str | None,
    as_json: bool,
    timeout: float,
) -> None:
    """Wait for a track to end. Add -o to save it; -o . names the file after it.

    ID is that of a track or a sound effect, or the beginning of it.
    """
    destination = None if output is None else Destination(output)
    wait_for(common, KINDS, track_id, destination, timeout=timeout, as_json=as_json)
