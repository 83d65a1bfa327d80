"""``finetuning get``: show one track, sound effect or playlist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from finetuning_async.cli._connect import call_service
from finetuning_async.cli._find import find
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import print_json
from finetuning_async.cli._tables import print_fields
from finetuning_async.cli._track_fields import track_fields
from finetuning_async.cli.commands.playlist import print_playlist

if TYPE_CHECKING:
    from finetuning_async import AsyncClient


@click.command()
@click.argument("track_id", metavar="ID")
@json_option
@common_options
@pass_common
def command(common: CommonOptions, track_id: str, as_json: bool) -> None:
    """Show one track, sound effect or playlist.

    ID is its id; of a track or a sound effect the beginning will do,
    from 4 characters on.
    """
    found = call_service(common, lambda client: _find(client, track_id))
    if as_json:
        print_json(found.raw)
    elif hasattr(found, "tracks"):
        print_playlist(common, found)
    else:
        print_fields(track_fields(found))


async def _find(client: AsyncClient, text: str) -> Any:
    """The track or sound effect, else the playlist.

    Raises:
        NotFoundError: There is none.
    """
    from finetuning_async import NotFoundError  # slow to import

    try:
        return await find(client, text)
    except NotFoundError as missing:
        try:
            return await client.playlists.get(text)
        except NotFoundError:
            raise missing from None
