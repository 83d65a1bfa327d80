"""One track to its file: downloaded under another name, tagged, renamed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from finetuning_async._download import put
from finetuning_async._errors import APIStatusError
from finetuning_async._threads import in_thread
from finetuning_async.batch._id3 import music_frames, with_tags

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._lock import Folder
    from finetuning_async.batch._records import Item


async def save(client: AsyncClient, folder: Folder, item: Item, *, tags: bool) -> None:
    """Download a completed item; its file appears whole or not at all.

    Raises:
        FinetuningError: It could not be downloaded.
        OSError: It could not be written.
    """
    facts: dict[str, Any] = json.loads(item.entry.result or "{}")
    part = folder.unfinished / item.file
    await fetch(client, item.entry.track_id or "", facts.get("audio_url"), part)
    await in_thread(_finish, part, facts if tags else None)
    await in_thread(_sync_folder, await put(part, folder.path / item.file))


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


def _finish(part: Path, facts: dict[str, Any] | None) -> None:
    if facts is not None:
        frames = music_frames(
            title=facts.get("title") or facts.get("prompt"),
            bpm=facts.get("bpm"),
            keyscale=facts.get("keyscale"),
        )
        part.write_bytes(with_tags(part.read_bytes(), frames))
    with part.open("rb+") as file:  # Windows syncs no file that is open to read only
        os.fsync(file.fileno())


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
