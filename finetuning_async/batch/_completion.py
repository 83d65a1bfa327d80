"""`Completer`: takes accepted tracks to their end: wait, download, report."""

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
from finetuning_async.batch._outputs import result_json
from finetuning_async.journal import Ended, is_fatal

if TYPE_CHECKING:
    from finetuning_async._api import Generation
    from finetuning_async._client import AsyncClient
    from finetuning_async.batch._run_context import RunContext
    from finetuning_async.journal import Item, Saved

logger = logging.getLogger("finetuning_async")

DOWNLOAD_DELAYS: Final = (5.0, 20.0, 60.0)
"""Seconds after each failed download of one run; the next run tries three times too."""


async def wait_for_end(
    client: AsyncClient, item: Item, track: Generation | None, *, timeout: float
) -> Ended | None:
    """Wait for the end of an accepted item's track.

    Args:
        client: Waits.
        item: The item.
        track: The track's state, if known.
        timeout: Seconds.

    Returns:
        The event to record; `None` if the track is still running.

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
    # The poller raises this only after several 404s and complete listings without the
    # track; a single 404 does not end an item.
    except NotFoundError as error:
        return Ended(True, None, error.code, str(error))
    final = cast("Generation", ended)  # a batch makes no effects
    if final.status == "failed":
        message = final.error_message or "the service gave no reason"
        return Ended(True, result_json(final), "FAILED", message)
    return Ended(False, result_json(final))


class Completer:
    """Completes the accepted tracks of one run.

    Args:
        context: What the parts of the run share.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._downloads = anyio.Semaphore(context.options.downloads)

    def start(self, item: Item, track: Generation | None = None) -> None:
        """Complete an item that is accepted or completed, in a task of its own.

        Args:
            item: The item.
            track: Its track's state, if known.
        """
        self._context.running[item.seq] = item
        self._context.tasks.start_soon(self._complete, item, track)

    async def _complete(self, item: Item, track: Generation | None) -> None:
        try:
            if item.entry.state == "accepted":
                item = await self._wait(item, track)
            if item.entry.state == "completed":
                self._context.running[item.seq] = item
                await self._download(item)
        finally:
            self._context.running.pop(item.seq, None)
            self._context.notify()

    async def _wait(self, item: Item, track: Generation | None) -> Item:
        """Wait for the end of a track; after a timeout it is left to the next run."""
        context = self._context
        ended = await wait_for_end(
            context.client, item, track, timeout=context.options.wait_timeout
        )
        if ended is None:
            return item
        if ended.failed:
            return await context.finish(item, ended)
        return await context.record(item, ended)

    async def _download(self, item: Item) -> None:
        """Save a track, or leave it to the next run."""
        for delay in DOWNLOAD_DELAYS:
            try:
                saved = await self._save(item)
            except FinetuningError as error:
                # A 401 or 403 may come from the host of the file: it ends no batch.
                if is_fatal(error) and not isinstance(error, APIStatusError):
                    raise
                logger.warning("%s was not saved: %s; retrying", item.name, error)
            except OSError as error:
                self._context.pause("disk", f"{self._context.folder.path}: {error}")
                return
            else:
                await self._context.finish(item, saved)
                return
            await anyio.sleep(delay)

    async def _save(self, item: Item) -> Saved:
        context = self._context
        async with self._downloads:
            saved = await save(
                context.client, context.folder, item, tags=context.options.tags
            )
        if saved.file not in (None, item.saved_as):
            logger.warning(
                "%s exists and does not belong to this batch; %s is saved as %s",
                context.folder.path / item.saved_as,
                item.name,
                saved.file,
            )
        return saved
