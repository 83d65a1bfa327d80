"""One track to its file: downloaded under another name, tagged, renamed.

A file that was not written here is never replaced: the track gets another name.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._downloads import place_file
from finetuning_async._errors import APIStatusError
from finetuning_async._runtime import in_thread
from finetuning_async.batch._id3 import music_frames, with_tags
from finetuning_async.journal import Saved, fold, other_names

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._folder import Folder
    from finetuning_async.journal import Item

PIECE: Final = 1 << 16
"""Bytes of two files that are compared at a time."""


async def save(client: AsyncClient, folder: Folder, item: Item, *, tags: bool) -> Saved:
    """Download a completed item; its file appears whole or not at all.

    Returns:
        What became of it.

    Raises:
        FinetuningError: It could not be downloaded.
        OSError: It could not be written.
    """
    part = folder.unfinished / item.file
    await fetch(client, item.entry.track_id or "", item.facts.get("audio_url"), part)
    name, size = await in_thread(_finish, part, folder.path, item, tags=tags)
    await in_thread(_sync_folder, await place_file(part, folder.path / name))
    return Saved(size=size, file=None if name == item.file else name)


async def fetch(
    client: AsyncClient, track_id: str, url: str | None, path: Path
) -> None:
    """Download; an address that is not known, or no more, is asked for.

    Raises:
        FinetuningError: It could not be downloaded.
    """
    if url is not None:
        try:
            await client.download(url, path)
        except APIStatusError:
            pass
        else:
            return
    await client.download(await client.generations.get(track_id), path)


def _finish(part: Path, folder: Path, item: Item, *, tags: bool) -> tuple[str, int]:
    """Make a file what it is to be; returns its name and size.

    Names of items are unique, so no other item takes it meanwhile.
    """
    # A part of it may have been saved without tags, or with them.
    name = place_for(part, folder, item.saved_as, item.key)
    if tags:
        _write_tags(part, item.facts)
        if name != item.saved_as:
            name = place_for(part, folder, item.saved_as, item.key)
    with part.open("rb+") as file:  # Windows syncs no file that is open to read only
        os.fsync(file.fileno())
    return name, part.stat().st_size


def place_for(part: Path, folder: Path, name: str, key: str) -> str:
    """The name under which a file may be put: nobody else's file has it.

    Args:
        part: The file.
        folder: Where it is to be put.
        name: Its own name.
        key: Of the item, which makes another name of it.
    """
    with os.scandir(folder) as entries:
        there = {entry.name for entry in entries}
    alike = {fold(found) for found in there}

    def is_free(wanted: str) -> bool:
        if wanted in there:
            return _takes(folder / wanted, part)
        return fold(wanted) not in alike

    return next(filter(is_free, chain([name], other_names(name, key))))


def _takes(path: Path, whole: Path) -> bool:
    """Whether nothing is lost where a file is put: a pipe, a device, a link to nothing.

    Or what is there is the beginning of the file, or all of it: so it was meant.
    """
    if not path.is_file():
        return not (path.is_dir() or path.is_socket())
    with path.open("rb") as mine, whole.open("rb") as other:
        while piece := mine.read(PIECE):
            if other.read(len(piece)) != piece:
                return False
    return True


def _write_tags(part: Path, facts: dict[str, Any]) -> None:
    frames = music_frames(
        title=facts.get("title") or facts.get("prompt"),
        bpm=facts.get("bpm"),
        keyscale=facts.get("keyscale"),
    )
    part.write_bytes(with_tags(part.read_bytes(), frames))


def _sync_folder(folder: Path) -> None:
    """Let the new name last before the journal says so; Windows syncs no folders."""
    directory: int | None = getattr(os, "O_DIRECTORY", None)
    if directory is None:
        return
    number = os.open(folder, os.O_RDONLY | directory)
    try:
        os.fsync(number)
    finally:
        os.close(number)
