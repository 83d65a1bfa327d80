"""``finetuning playlists``: list the playlists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async.cli._connect import ask
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import (
    print_json,
    print_table,
    seconds_text,
    yes_or_no,
)

if TYPE_CHECKING:
    from finetuning_async import Playlist

HEADS = ("ID", "TRACKS", "SECONDS", "PUBLIC", "NAME")


@click.command()
@json_option
@common_options
@pass_common
def command(common: Common, as_json: bool) -> None:
    """List the playlists. They are made and deleted in the web application."""
    page = ask(common, lambda client: client.playlists.list())
    if as_json:
        print_json({"playlists": [one.raw for one in page.items]})
    else:
        print_table(HEADS, map(_row, page.items))


def _row(playlist: Playlist) -> tuple[str, ...]:
    count = playlist.track_count
    return (
        playlist.id,
        "" if count is None else str(count),
        seconds_text(playlist.total_duration, digits=0),
        yes_or_no(playlist.is_public),
        playlist.name,
    )
