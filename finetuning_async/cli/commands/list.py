"""``finetuning list``: list tracks, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._listing import show_list
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    list_options,
    pass_common,
)
from finetuning_async.cli._output import seconds_text
from finetuning_async.cli._tables import Table, time_text
from finetuning_async.cli._track_fields import track_seconds
from finetuning_async.cli._track_kinds import TRACK

if TYPE_CHECKING:
    from finetuning_async import Generation

TABLE: Final = Table("ID", "STATUS", "SECONDS", "PROMPT", "CREATED", text="PROMPT")


@click.command()
@list_options
@click.option("--type", metavar="WORD", help="Only this type: music or instrumental.")
@json_option
@common_options
@pass_common
def command(common: CommonOptions, /, **options: Any) -> None:
    """List tracks, newest first."""
    show_list(common, TRACK, TABLE, _row, **options)


def _row(track: Generation) -> tuple[str, ...]:
    return (
        track.id,
        track.status,
        seconds_text(track_seconds(track)),
        track.prompt,
        time_text(track.created_at),
    )
