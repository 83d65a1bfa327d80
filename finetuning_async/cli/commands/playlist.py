"""``finetuning playlist``: show a playlist, and change what is in it.

A playlist is named by its id, or by its name in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetuning_async.cli._bulk_result import report
from finetuning_async.cli._connect import ask
from finetuning_async.cli._options import (
    Common,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import (
    date_text,
    print_fields,
    print_json,
    print_table,
    seconds_text,
    yes_or_no,
)
from finetuning_async.cli._playlist_names import playlist_ids

if TYPE_CHECKING:
    from finetuning_async import AsyncClient, BulkResult, Playlist, PlaylistTrack

HEADS = ("ID", "STATUS", "SECONDS", "CREATED", "TITLE")
UNSURE = "Some may be done; `finetuning playlist show {}` shows what is in it."


@click.group()
def command() -> None:
    """One playlist, by its id or name: show, add, remove, move."""


@command.command()
@click.argument("playlist")
@json_option
@common_options
@pass_common
def show(common: Common, playlist: str, as_json: bool) -> None:
    """Show a playlist and its tracks.

    One's own by id or name, another's public one by its id.
    """

    async def main(client: AsyncClient) -> Playlist:
        (playlist_id,) = await playlist_ids(client, playlist)
        return await client.playlists.get(playlist_id)

    found = ask(common, main)
    if as_json:
        print_json(found.raw)
        return
    print_fields(_fields(found))
    if found.tracks:
        click.echo()
        print_table(HEADS, map(_row, found.tracks))


@command.command()
@click.argument("playlist")
@click.argument("ids", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def add(common: Common, playlist: str, ids: tuple[str, ...], as_json: bool) -> int:
    """Add tracks to a playlist. A public one takes public tracks only."""

    async def main(client: AsyncClient) -> BulkResult:
        (playlist_id,) = await playlist_ids(client, playlist)
        return await client.playlists.add_tracks(playlist_id, ids)

    common.if_interrupted = UNSURE.format(playlist)
    return report(common, ask(common, main), "added", as_json=as_json, key="trackId")


@command.command()
@click.argument("playlist")
@click.argument("ids", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def remove(common: Common, playlist: str, ids: tuple[str, ...], as_json: bool) -> int:
    """Take tracks out of a playlist; they are not deleted."""

    async def main(client: AsyncClient) -> BulkResult:
        (playlist_id,) = await playlist_ids(client, playlist)
        return await client.playlists.remove_tracks(playlist_id, ids)

    common.if_interrupted = UNSURE.format(playlist)
    return report(common, ask(common, main), "removed", as_json=as_json, key="trackId")


@command.command()
@click.argument("source")
@click.argument("target")
@click.argument("ids", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def move(
    common: Common, source: str, target: str, ids: tuple[str, ...], as_json: bool
) -> int:
    """Move tracks from one playlist to another.

    One that the target does not take stays where it is.
    """

    async def main(client: AsyncClient) -> BulkResult:
        source_id, target_id = await playlist_ids(client, source, target)
        if source_id == target_id:
            raise click.UsageError("SOURCE and TARGET are the same playlist.")
        return await client.playlists.move_tracks(source_id, target_id, ids)

    common.if_interrupted = UNSURE.format(source)
    return report(common, ask(common, main), "moved", as_json=as_json, key="trackId")


def _fields(playlist: Playlist) -> dict[str, object]:
    return {
        "id": playlist.id,
        "name": playlist.name,
        "description": playlist.description,
        "tracks": playlist.track_count,
        "seconds": seconds_text(playlist.total_duration, digits=0) or None,
        "public": yes_or_no(playlist.is_public) or None,
        "yours": yes_or_no(playlist.is_owner) or None,
        "created": playlist.created_at,
        "updated": playlist.updated_at,
    }


def _row(track: PlaylistTrack) -> tuple[str, ...]:
    return (
        track.id,
        track.status,
        seconds_text(track.duration),
        date_text(track.created_at),
        track.title or track.prompt,
    )
