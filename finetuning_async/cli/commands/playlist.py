"""``finetuning playlist``: show or change one playlist.

A playlist is given by its id, or by its name in any case.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from finetuning_async.cli._bulk_result import report_bulk
from finetuning_async.cli._connect import call_service
from finetuning_async.cli._find import SHORTEST, full_ids
from finetuning_async.cli._options import (
    CommonOptions,
    common_options,
    json_option,
    pass_common,
)
from finetuning_async.cli._output import (
    print_json,
    say,
    seconds_text,
    shown,
    yes_or_no,
)
from finetuning_async.cli._tables import Table, print_fields, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async import AsyncClient, BulkResult, Playlist, PlaylistTrack

TABLE: Final = Table("ID", "STATUS", "SECONDS", "TITLE", "CREATED", text="TITLE")
INTERRUPT_HINT = (
    "Some tracks may be done already.\nTo check: finetuning playlist show {}"
)

_ID: Final = re.compile("pl_.+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The known forms of ids."""


@click.group()
def command() -> None:
    """Show or change a playlist, given by its id or name."""


@command.command()
@click.argument("playlist")
@json_option
@common_options
@pass_common
def show(common: CommonOptions, playlist: str, as_json: bool) -> None:
    """Show a playlist and its tracks.

    Your own by id or name, another user's public one by its id.
    """

    async def main(client: AsyncClient) -> Playlist:
        (playlist_id,) = await playlist_ids(client, playlist)
        return await client.playlists.get(playlist_id)

    found = call_service(common, main)
    if as_json:
        print_json(found.raw)
    else:
        print_playlist(common, found)


def print_playlist(common: CommonOptions, playlist: Playlist) -> None:
    """Print a playlist and its tracks."""
    print_fields(_fields(playlist))
    if playlist.tracks:
        click.echo()
        TABLE.show(map(_row, playlist.tracks))
    elif not common.quiet:
        say(f"It has no tracks. To add some: finetuning playlist add {playlist.id} ID")


@command.command()
@click.argument("playlist")
@click.argument("ids", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def add(
    common: CommonOptions, playlist: str, ids: tuple[str, ...], as_json: bool
) -> int:
    """Add tracks to a playlist. A public one accepts only public tracks."""

    async def main(client: AsyncClient) -> BulkResult:
        (playlist_id,) = await playlist_ids(client, playlist)
        found = await full_ids(client, ids)
        return await client.playlists.add_tracks(playlist_id, found)

    common.interrupt_hint = INTERRUPT_HINT.format(playlist)
    return report_bulk(
        common, call_service(common, main), "added", as_json=as_json, key="trackId"
    )


@command.command()
@click.argument("playlist")
@click.argument("ids", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def remove(
    common: CommonOptions, playlist: str, ids: tuple[str, ...], as_json: bool
) -> int:
    """Remove tracks from a playlist. They are not deleted."""

    async def main(client: AsyncClient) -> BulkResult:
        (playlist_id,) = await playlist_ids(client, playlist)
        found = await full_ids(client, ids)
        return await client.playlists.remove_tracks(playlist_id, found)

    common.interrupt_hint = INTERRUPT_HINT.format(playlist)
    return report_bulk(
        common, call_service(common, main), "removed", as_json=as_json, key="trackId"
    )


@command.command()
@click.argument("source")
@click.argument("target")
@click.argument("ids", nargs=-1, required=True)
@json_option
@common_options
@pass_common
def move(
    common: CommonOptions, source: str, target: str, ids: tuple[str, ...], as_json: bool
) -> int:
    """Move tracks from one playlist to another.

    A track that the target rejects stays where it is.
    """

    async def main(client: AsyncClient) -> BulkResult:
        source_id, target_id = await playlist_ids(client, source, target)
        if source_id == target_id:
            raise click.UsageError("SOURCE and TARGET are the same playlist.")
        found = await full_ids(client, ids)
        return await client.playlists.move_tracks(source_id, target_id, found)

    common.interrupt_hint = INTERRUPT_HINT.format(source)
    return report_bulk(
        common, call_service(common, main), "moved", as_json=as_json, key="trackId"
    )


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
        seconds_text(track.duration if track.status == "completed" else None),
        track.title or track.prompt,
        time_text(track.created_at),
    )


async def playlist_ids(client: AsyncClient, *names: str) -> list[str]:
    """The ids of playlists that are given by id or name.

    The playlists are listed only if something is not clearly an id.

    Raises:
        click.ClickException: No playlist has that name, or several have.
        FinetuningError: The playlists could not be listed.
    """
    if all(map(_is_id, names)):
        return list(names)
    known = (await client.playlists.list()).items
    return [_resolve(name, known) for name in names]


def _resolve(name: str, known: Sequence[Playlist]) -> str:
    # Another user's public playlist is not in the list; and an id may have a form that
    # is not documented.
    if _is_id(name) or any(name == one.id for one in known):
        return name
    found = [one for one in known if _normalized(one.name) == _normalized(name)]
    if not found and len(name) >= SHORTEST:  # the short id of a table
        found = [one for one in known if one.id.startswith(name.lower())]
    if not found:
        raise click.ClickException(
            f"no playlist is named {name!r}.\nTo list yours: finetuning playlists"
        )
    if len(found) > 1:
        lines = "".join(f"\n  {one.id}  {shown(one.name)}" for one in found)
        raise click.ClickException(
            f"{len(found)} playlists are meant by {name!r}; give the id of one:{lines}"
        )
    return found[0].id


def _is_id(text: str) -> bool:
    return _ID.fullmatch(text.lower()) is not None


def _normalized(name: str) -> str:
    return name.strip().casefold()
