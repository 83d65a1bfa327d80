"""Which track an id means: of any kind, in full or by a beginning that is unique."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._output import shown
from finetuning_async.cli._track_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetuning_async import AsyncClient
    from finetuning_async.cli._track_kinds import TrackKind

_FULL: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX: Final = re.compile("[0-9a-f-]{4,35}")
"""What may be the beginning of such an id, and is hardly an id of another form."""

SHORTEST: Final = 4
"""Characters of a beginning, at least."""

USUALLY_UNIQUE: Final = 8
"""Characters from which on the newest match is taken: the lists are not read to their
end, which may take as many requests as there are hundreds of tracks."""

_ROWS: Final = 99
"""Rows of the longest page."""


async def find(
    client: AsyncClient,
    text: str,
    kinds: Sequence[TrackKind] = KINDS,
    **how: Any,
) -> Any:
    """Read the track or sound effect that an id means.

    Args:
        client: The client.
        text: An id in full, or its beginning, at least 4 characters.
        kinds: What it may be.
        how: Options of each request for it.

    Raises:
        click.ClickException: Several ids begin so.
        NotFoundError: There is none.
        FinetuningError: It could not be read.
    """
    if _HEX.fullmatch(text.lower()):
        return await _read(client, await _complete(client, text, kinds), kinds, how)
    from finetuning_async import NotFoundError  # slow to import

    try:
        return await _read(client, text, kinds, how)
    except NotFoundError:
        completed = await _complete(client, text, kinds)
        if completed == text:
            raise
    return await _read(client, completed, kinds, how)


async def full_ids(client: AsyncClient, ids: Sequence[str]) -> list[str]:
    """Complete the ids of which only the beginning is given; others stay.

    The list is read to its end: what is done to a track must not hit another.

    Raises:
        click.ClickException: Several ids begin like one of them.
        FinetuningError: The list could not be read.
    """
    if not any(_HEX.fullmatch(one.lower()) for one in ids):
        return list(ids)
    known = [track.id async for track in client.generations.list(limit=_ROWS)]
    return [
        _only(one, [found for found in known if found.startswith(one.lower())]) or one
        if _HEX.fullmatch(one.lower())
        else one
        for one in ids
    ]


async def _read(
    client: AsyncClient, track_id: str, kinds: Sequence[TrackKind], how: dict[str, Any]
) -> Any:
    """Read it as one kind after another."""
    from finetuning_async import NotFoundError  # slow to import

    missing: NotFoundError | None = None
    for kind in kinds:
        try:
            return await kind.get(client, track_id, **how)
        except NotFoundError as error:
            missing = missing or error
    assert missing is not None  # noqa: S101 - there is at least one kind
    raise missing


async def _complete(client: AsyncClient, text: str, kinds: Sequence[TrackKind]) -> str:
    """The id that begins so; the text itself if none does."""
    if len(text) < SHORTEST or _FULL.fullmatch(text.lower()):
        return text
    matches: list[str] = []
    for kind in kinds:
        page = await kind.list(client, limit=_ROWS)
        while page is not None:
            ids = [track.id for track in page.items]
            if text in ids:
                return text
            matches += [one for one in ids if one.lower().startswith(text.lower())]
            if matches and (len(text) >= USUALLY_UNIQUE or len(matches) > 1):
                return _only(text, matches) or text
            page = await page.next_page()
    return _only(text, matches) or text


def _only(text: str, matches: Sequence[str]) -> str | None:
    """The only match; `None` if there is none.

    Raises:
        click.ClickException: There are several.
    """
    found = list(dict.fromkeys(matches))
    if len(found) > 1:
        lines = "".join(f"\n  {shown(one)}" for one in found[:5])
        raise click.ClickException(
            f"{len(found)} ids begin with {text!r}; give more of it:{lines}"
        )
    return found[0] if found else None
