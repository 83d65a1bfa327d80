"""``finetuning open``: open the audio of a track in the browser."""

from __future__ import annotations

import sys

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._find import find
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    pass_common,
)
from finetuning_async.cli._output import shown


@click.command()
@click.argument("track_id", metavar="ID")
@common_options
@pass_common
def command(common: CommonOptions, track_id: str) -> None:
    """Open the audio of a completed track in the browser.

    ID is that of a track or a sound effect, or its first characters, at least 4.
    """
    track = call_service(common, lambda client: find(client, track_id))
    if track.audio_url is None:
        raise click.ClickException(
            f"{track.id} is {shown(track.status)}; there is no audio to open."
        )
    # On Linux the opener leaves at once, and its exit code says whether it found one.
    if click.launch(track.audio_url, wait=sys.platform == "linux"):
        raise click.ClickException(f"no browser opened {shown(track.audio_url)}")
