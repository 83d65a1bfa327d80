"""Accepted tracks to their end: wait, download, report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, cast

import anyio

from finetuning_async._errors import (
    APIStatusError,
    FinetuningError,
    NotFoundError,
    WaitTimeoutError,
)
from finetuning_async.batch._audio_files import save
from finetuning_async.batch._outputs import result_of
from finetuning_async.journal import Ended, is_fatal

if TYPE_CHECKING:
    from finetuning_async._api import Generation
    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Item, Saved

logger = logging.getLogger("finetuning_async")

PAUSES: Final = (5.0, 20.0, 60.0)
"""Seconds after each failed download of one run; the next run begins anew."""


async def end_of(
    client: AsyncClient, item: Item, track: Generation | None, *, timeout: float
) -> Ended | None:
    """Wait for the end of an accepted item's track.

    Args:
        client: Who waits.
        item: Whose track.
        track: Its state, if known.
        timeout: Seconds.

    Returns:
        What became of it; `None` if it still runs.

    Raises:
        FinetuningError: As `AsyncClient.wait_for_completion`.
    """
    try:
        ended = await client.wait_for_completion(
            track or item.entry.track_id or "", timeout=timeout
        )
    except WaitTimeoutError as error:
        logger.warning("%s: %s", item.name, error)
        return None
    except NotFoundError as error:
        return Ended(True, None, error.code, str(error))
    final = cast("Generation", ended)  # a batch makes no effects
    if final.status == "failed":
        word = final.error_message or "no reason was given"
        return Ended(True, result_of(final), "FAILED", word)
    return Ended(False, result_of(final))


class Follower:
    """Follows the tracks of one run.

    Args:
        desk: What the run shares.
    """

    def __init__(self, desk: RunContext) -> None:
        self._desk = desk
        self._downloads = anyio.Semaphore(desk.options.downloads)

    def start(self, item: Item, track: Generation | None = None) -> None:
        """Follow an item that is accepted or completed.

        Args:
            item: Which.
            track: Its state, if known.
        """
        self._desk.running[item.seq] = item
        self._desk.tasks.start_soon(self._follow, item, track)

    async def _follow(self, item: Item, track: Generation | None) -> None:
        try:
            if item.entry.state == "accepted":
                item = await self._wait(item, track)
            if item.entry.state == "completed":
                self._desk.running[item.seq] = item
                await self._download(item)
        finally:
            self._desk.running.pop(item.seq, None)
            self._desk.tell()

    async def _wait(self, item: Item, track: Generation | None) -> Item:
        """Wait for the end of a track; left to the next run if it takes too long."""
        desk = self._desk
        ended = await end_of(
            desk.client, item, track, timeout=desk.options.wait_timeout
        )
        if ended is None:
            return item
        if ended.failed:
            return await desk.end(item, ended)
        return await desk.record(item, ended)

    async def _download(self, item: Item) -> None:
        """Save a track, or leave it to the next run."""
        for pause in PAUSES:
            try:
                saved = await self._save(item)
            except FinetuningError as error:
                if is_fatal(error) and not isinstance(error, APIStatusError):
                    raise
                logger.warning("%s was not saved: %s", item.name, error)
            except OSError as error:
                self._desk.pause("disk", f"{self._desk.folder.path}: {error}")
                return
            else:
                await self._desk.end(item, saved)
                return
            await anyio.sleep(pause)

    async def _save(self, item: Item) -> Saved:
        desk = self._desk
        async with self._downloads:
            saved = await save(desk.client, desk.folder, item, tags=desk.options.tags)
        if saved.file not in (None, item.saved_as):
            logger.warning(
                "%s is somebody else's file; %s is saved as %s",
                desk.folder.path / item.saved_as,
                item.name,
                saved.file,
            )
        return saved
