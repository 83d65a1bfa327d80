"""``finetuning get``: show one track."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import print_fields, print_json

if TYPE_CHECKING:
    from finetuning_async import Generation


@click.command()
@click.argument("track_id", metavar="ID")
@json_option
@common_options
@pass_common
def command(common: CommonOptions, track_id: str, as_json: bool) -> None:
    """Show one track."""
    track = call_service(common, lambda client: client.generations.get(track_id))
    if as_json:
        print_json(track.raw)
    else:
        print_fields(_fields(track))


def _fields(track: Generation) -> dict[str, object]:
    made = track.parameters
    return {
        "id": track.id,
        "status": track.status,
        "kind": track.kind,
        "title": track.title,
        "prompt": track.prompt,
        "seconds": track.duration or made.duration,
        "bpm": made.bpm,
        "keyscale": made.keyscale,
        "timesignature": made.timesignature,
        "language": made.language,
        "seed": made.seed,
        "created": track.created_at,
        "completed": track.completed_at,
        "audio": track.audio_url,
        "error": track.error_message,
    }
