"""A playlist as a person names it: by its id, or by its name in any case."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from finetuning_async.cli._output import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async import AsyncClient, Playlist

_ID: Final = re.compile("pl_.+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def playlist_ids(client: AsyncClient, *words: str) -> list[str]:
    """The ids of playlists. They are listed only if one is not named by its id.

    Raises:
        click.ClickException: There is none of that name, or there are several.
        FinetuningError: They could not be listed.
    """
    if all(map(_is_id, words)):
        return list(words)
    known = (await client.playlists.list()).items
    return [_id_of(word, known) for word in words]


def _id_of(word: str, known: Sequence[Playlist]) -> str:
    # Another's public playlist is not in the list; ids need not have a known form.
    if _is_id(word) or any(word == one.id for one in known):
        return word
    found = [one for one in known if _plain(one.name) == _plain(word)]
    if not found:
        raise click.ClickException(
            f"no playlist is called {word!r}.\nTo see what there is:"
            " finetuning playlists"
        )
    if len(found) > 1:
        lines = "".join(f"\n  {one.id}  {shown(one.name)}" for one in found)
        raise click.ClickException(
            f"{len(found)} playlists are called {word!r}; say which by its id:{lines}"
        )
    return found[0].id


def _is_id(word: str) -> bool:
    return _ID.fullmatch(word.lower()) is not None


def _plain(name: str) -> str:
    return name.strip().casefold()
