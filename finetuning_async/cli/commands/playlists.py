"""``finetuning playlists``: list your playlists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import (
    print_json,
    say_empty,
    seconds_text,
    yes_or_no,
)
from finetuning_async.cli._tables import Table

if TYPE_CHECKING:
    from finetuning_async import Playlist

TABLE: Final = Table(
    *("ID", "TRACKS", "SECONDS", "PUBLIC", "NAME"),
    text="NAME",
    optional=("SECONDS", "PUBLIC"),
)


@click.command()
@json_option
@common_options
@pass_common
def command(common: CommonOptions, as_json: bool) -> None:
    """List your playlists. Create and delete them in the web application."""
    page = call_service(common, lambda client: client.playlists.list())
    if as_json:
        print_json({"playlists": [one.raw for one in page.items]})
    elif page.items:
        TABLE.show(map(_row, page.items))
    else:
        say_empty(common, "playlist", "use the web application")


def _row(playlist: Playlist) -> tuple[str, ...]:
    count = playlist.track_count
    return (
        playlist.id,
        "" if count is None else str(count),
        seconds_text(playlist.total_duration, digits=0),
        yes_or_no(playlist.is_public),
        playlist.name,
    )
