"""One track to its file: download under a temporary name, tag, rename.

A file that a batch has not written is never replaced: the track gets another name.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypeAlias

from finetuning_async._client import AsyncClient
from finetuning_async._downloads import (
    find_problems,
    music_frames,
    place_file,
    with_tags,
)
from finetuning_async._errors import APIStatusError
from finetuning_async._runtime import in_thread
from finetuning_async.batch._item import BatchItem
from finetuning_async.batch._object_folder import ObjectFolder, folder_of
from finetuning_async.journal import Saved, fold, other_names

if TYPE_CHECKING:
    from finetuning_async.batch._folder import Folder
    from finetuning_async.batch._options import Options
    from finetuning_async.journal import Item

logger = logging.getLogger("finetuning_async")

_TAKEN: Final = "%s exists and does not belong to this batch; the track is saved as %s"

CHUNK: Final = 1 << 16
"""Bytes of two files that are compared at a time."""

Save: TypeAlias = Callable[[AsyncClient, BatchItem], Awaitable[None]]
"""Saves a completed item, before it counts as ``downloaded``.

Example:
    import procrastinate
    from finetuning_async.batch import BatchItem
    from finetuning_async.procrastinate import Batches, Save

    async def show(client: AsyncClient, item: BatchItem) -> None:
        print(item.custom_id, item.result["audio_url"])

    save: Save = show
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    Batches(app, client=AsyncClient, save=save)
"""


async def save(
    client: AsyncClient, folder: Folder, item: Item, options: Options
) -> Saved:
    """Download a completed item; its file appears complete or not at all.

    A file that does not pass the check is reported in the log, and kept.

    Returns:
        The event to record.

    Raises:
        FinetuningError: It could not be downloaded.
        OSError: It could not be written.
    """
    part = folder.unfinished / item.file
    url = item.result.get("audio_url")
    await fetch(client, item.entry.track_id or "", url, part)
    if isinstance(folder, ObjectFolder):
        return await in_thread(_upload, part, folder, item, options)
    name, size = await in_thread(_finish, part, folder.path, item, options)
    await in_thread(_sync_folder, await place_file(part, folder.path / name))
    return Saved(size=size, file=None if name == item.file else name)


def into(folder: str | os.PathLike[str]) -> Save:
    """Save MP3s into a folder, under each item's `file`; created if needed.

    A file appears complete or not at all. If another file has its name, which no batch
    has written, it gets another name. Workers on several machines need a folder that
    they share.

    Args:
        folder: Holds a folder for each batch, of the batch's name; or the URL of an
            object store, such as ``s3://bucket/music/`` (extra ``objects``).

    Example:
        import procrastinate
        from finetuning_async.procrastinate import Batches, into

        app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        Batches(app, client=AsyncClient, save=into("/mnt/music"))
    """
    if "://" in os.fspath(folder):
        return _into_store(os.fspath(folder))
    path = Path(folder)

    async def save(client: AsyncClient, item: BatchItem) -> None:
        url = item.result.get("audio_url")
        target = path / item.file
        part = target.with_name(f".{target.name}.part")
        await fetch(client, item.generation_id or "", url, part)
        await in_thread(_move_into_place, part, target, item.key)

    return save


def _into_store(url: str) -> Save:
    objects = folder_of(url)
    assert isinstance(objects, ObjectFolder)  # noqa: S101 - a URL is one

    async def save(client: AsyncClient, item: BatchItem) -> None:
        url = item.result.get("audio_url")
        with TemporaryDirectory(prefix="finetuning-") as scratch:
            part = Path(scratch) / "part.mp3"
            await fetch(client, item.generation_id or "", url, part)
            body = await in_thread(part.read_bytes)
        name = await in_thread(objects.store_as, item.file, item.key, body, body)
        if name != item.file:
            logger.warning(_TAKEN, objects.location_of(item.file), name)

    return save


def _move_into_place(part: Path, target: Path, key: str) -> None:
    name = free_name(part, target.parent, target.name, key)
    if name != target.name:
        logger.warning(_TAKEN, target, name)
    part.replace(target.with_name(name))


async def fetch(
    client: AsyncClient, track_id: str, url: str | None, path: Path
) -> None:
    """Download a track; an unknown or expired URL is read from the service.

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


def _finish(part: Path, folder: Path, item: Item, options: Options) -> tuple[str, int]:
    """Check a download, tag it, sync it and find its name; returns name and size.

    Names of items are unique, so no other item takes the name meanwhile.
    """
    # After a crash the file may be there already, with tags or without. So the name is
    # tried with the plain download first, and again once it is tagged.
    name = free_name(part, folder, item.saved_as, item.key)
    if options.check:
        _check(part.read_bytes(), item, folder / name)
    if options.metadata or options.tags:
        part.write_bytes(_tagged(part.read_bytes(), item))
        if name != item.saved_as:
            name = free_name(part, folder, item.saved_as, item.key)
    with part.open("rb+") as file:  # Windows syncs no file that is open to read only
        os.fsync(file.fileno())
    return name, part.stat().st_size


def _upload(part: Path, folder: ObjectFolder, item: Item, options: Options) -> Saved:
    """Check a download, tag it, and write it as an object."""
    plain = body = part.read_bytes()
    if options.check:
        _check(plain, item, folder.location_of(item.saved_as))
    if options.metadata or options.tags:
        body = _tagged(plain, item)
    name = folder.store_as(item.saved_as, item.key, body, plain)
    part.unlink()
    return Saved(size=len(body), file=None if name == item.file else name)


def free_name(part: Path, folder: Path, name: str, key: str) -> str:
    """A name in a folder under which a file replaces nothing but a part of itself.

    Args:
        part: The file.
        folder: Where it goes.
        name: The name it should have.
        key: The item's; other names are made from it.
    """
    with os.scandir(folder) as entries:
        existing = {entry.name for entry in entries}
    folded = {fold(found) for found in existing}

    def is_free(wanted: str) -> bool:
        if wanted in existing:
            return _may_replace(folder / wanted, part)
        return fold(wanted) not in folded

    return next(filter(is_free, chain([name], other_names(name, key))))


def _may_replace(path: Path, whole: Path) -> bool:
    """Whether nothing is lost when a file is written to an existing path.

    So it is with a pipe, a device, or a link to nothing; and with a file that is the
    beginning of the new one, or all of it: an earlier run has left it.
    """
    if not path.is_file():
        return not (path.is_dir() or path.is_socket())
    with path.open("rb") as mine, whole.open("rb") as other:
        while chunk := mine.read(CHUNK):
            if other.read(len(chunk)) != chunk:
                return False
    return True


def _check(audio: bytes, item: Item, place: object) -> None:
    """Log what is wrong with a download."""
    asked = json.loads(item.body).get("duration")
    for problem in find_problems(audio, asked):
        logger.warning("%s %s; it is kept, and was paid for", place, problem)


def _tagged(audio: bytes, item: Item) -> bytes:
    result = item.result
    frames = music_frames(
        {
            **result,
            "title": result.get("title") or result.get("prompt"),
            "key": result.get("keyscale"),
            "lyrics": json.loads(item.body).get("lyrics"),
            "seed": item.entry.seed,
            "id": item.entry.track_id,
        }
    )
    return with_tags(audio, frames)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable before the journal records it; Windows syncs no folders.

    Otherwise a power cut could keep ``downloaded`` in the journal and undo the rename.
    """
    directory: int | None = getattr(os, "O_DIRECTORY", None)
    if directory is None:
        return
    number = os.open(folder, os.O_RDONLY | directory)
    try:
        os.fsync(number)
    finally:
        os.close(number)
