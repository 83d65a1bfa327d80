"""Downloads an MP3 from the media host to a file, completely or not at all.

It is written under a temporary name beside the target, checked against the announced
length and renamed at the end. A stream that breaks is resumed where it broke, if the
host proves that the rest belongs to the same version of the file; else the download
starts again at 0. The API key is never sent to the media host.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from functools import cache, partial
from math import inf
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

from finetuning_async._downloads._atomic_file import MAX_CHUNKS, AtomicFile
from finetuning_async._downloads._placement import Placement
from finetuning_async._downloads._target_path import inspect_target
from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    InvalidRequestError,
)
from finetuning_async._http import (
    FileChangedError,
    FileVersion,
    RetryableFailure,
    request_events,
)
from finetuning_async._runtime import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from finetuning_async._event_hook import Hook
    from finetuning_async._http import MediaStream, RetryPolicy, Transport
    from finetuning_async._types import Track

BATCH_SIZE: Final = 1 << 21
"""Bytes gathered before a thread writes them, 2 MiB: a thread hop per chunk would halve
the speed. The system goes on receiving during a write, so nothing is read meanwhile."""


class Download:
    """One download.

    Args:
        transport: Reaches the media host.
        retry: How often a broken stream is resumed.
        url: Where the file is; used exactly as given.
        on_progress: Called with the bytes done and the total, if that is known.
        hook: The event callback, for retries; `None` for none.

    Attributes:
        offset: Bytes that the attempts so far have written and that the next one may
            be appended to; 0 if nothing can be.
    """

    def __init__(
        self,
        transport: Transport,
        retry: RetryPolicy,
        url: str,
        on_progress: Callable[[int, int | None], object] | None,
        hook: Hook | None = None,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._url = url
        self._on_progress = on_progress
        self._hook = hook
        self.offset = 0
        self._version = FileVersion()

    async def to(
        self,
        path: Path,
        *,
        deadline: float = inf,
        finish: Callable[[bytes], bytes] | None = None,
    ) -> Path:
        """Download to a file.

        Args:
            path: The file.
            deadline: On the loop's clock; no pause is begun that would pass it. The
                caller must cancel this call when it comes.
            finish: Turns its complete content into what is saved, in a thread.

        Raises:
            InvalidRequestError: The path cannot be written, or the URL is not one that
                files are downloaded from.
            APIStatusError: The media host refused.
            APIConnectionError: The stream broke, repeatedly, or a redirect led to a
                place that is not allowed.
            APIResponseError: The response is not a track.
            OSError: The file could not be written.
        """
        target = AtomicFile(path, finish)
        try:
            try:
                await self._attempt(target)
            except RetryableFailure as first:
                await self._retry.run(
                    first,
                    lambda: self._attempt(target),
                    deadline=deadline,
                    on_retry=request_events.retry_callback(
                        self._hook, "GET", host_of(self._url)
                    ),
                )
        finally:
            target.discard()
        return path

    async def _attempt(self, target: AtomicFile) -> None:
        try:
            broken = await self._fetch(target)
        except FileChangedError:
            # The host has another version by now: what is written is worthless. This
            # costs no retry, and a request for the whole file cannot raise it again.
            self.offset = 0
            broken = await self._fetch(target)
        if broken is not None:
            raise RetryableFailure(broken)

    async def _fetch(
        self, target: AtomicFile
    ) -> APIConnectionError | APIStatusError | None:
        """Download what is missing.

        Returns:
            The error that broke the stream, if a retry may help.

        Raises:
            FileChangedError: The host no longer has the version that was begun.
        """
        async with AsyncExitStack() as stack:
            try:
                media = await stack.enter_async_context(
                    self._transport.stream(
                        self._url, offset=self.offset, version=self._version
                    )
                )
            except (APIConnectionError, APIStatusError) as error:
                if not error.safe_to_retry:
                    raise
                return error
            self._version = media.version
            return await self._copy(media, target)

    async def _copy(
        self, media: MediaStream, target: AtomicFile
    ) -> APIConnectionError | None:
        """Receive the stream, and write it in threads, batch by batch.

        Returns:
            The error that broke the stream, if one did.

        Raises:
            APIResponseError: The file is empty.
        """
        # The host may ignore the range and start at 0: then what is written is dropped.
        self.offset = media.offset
        _keep_freed_memory()
        await in_thread(target.open_at, media.offset)
        reader = _BatchReader(media, self._on_progress)
        while await reader.read_batch():
            await in_thread(target.append, reader.batch)
        broken = _wrong_length(media, reader)
        if broken is None:
            await _finish_placement(partial(target.commit, reader.batch))
            return None
        await in_thread(target.append, reader.batch)  # need not be downloaded again
        # The next attempt may only ask for the rest if the bytes are those of the file
        # itself (no content coding), if an ETag or date identifies the version, and if
        # the stream was not longer than announced: then none of it can be trusted.
        size = media.version.size
        is_too_long = size is not None and reader.received > size
        self.offset = reader.received if media.is_resumable and not is_too_long else 0
        return broken


def _wrong_length(
    media: MediaStream, reader: _BatchReader
) -> APIConnectionError | None:
    received, size = reader.received, media.version.size
    # An error after the last announced byte, as at the closing of the connection, does
    # not matter: the file is complete.
    if reader.error is not None and received != size:
        return reader.error
    if not received:
        raise empty_file(media.host)
    if size is None or received == size:
        return None
    return ended_early(media.host, received, size)


def empty_file(host: str) -> APIResponseError:
    """The error of a file without a byte."""
    return APIResponseError(f"{host} sent an empty file")


def ended_early(host: str, received: int, size: int) -> APIConnectionError:
    """The error of a stream that ended before its end."""
    return APIConnectionError(
        f"the download from {host} ended after {received} of {size} bytes",
        safe_to_retry=True,
    )


async def _finish_placement(step: Callable[[], float | None]) -> None:
    """Move a complete file to its target.

    Args:
        step: Does a part of it, in a thread, and returns `None` once the file is in
            place; else seconds after which to call it again.

    Raises:
        OSError: It could not be written, or the pipe's reader has closed it.
    """
    # The pauses are spent in the loop and not in the thread: a pipe may have no reader
    # for hours, and a thread cannot be cancelled.
    pause = await in_thread(step)
    while pause is not None:
        await anyio.sleep(pause)
        pause = await in_thread(step)


async def place_file(part: Path, path: Path) -> Path:
    """Move a complete file to its target, as a download is moved there.

    Args:
        part: The file; it no longer exists at the end.
        path: Its target. What is there is replaced, or written into.

    Returns:
        The folder that it is in then, symbolic links resolved.

    Raises:
        InvalidRequestError: No file can be written there.
        OSError: It could not be written, or the pipe's reader has closed it.
    """
    placement = Placement(part, await in_thread(inspect_target, path))
    try:
        await _finish_placement(placement.step)
    finally:
        placement.close()
    return placement.folder


class _BatchReader:
    """Reads a stream, batch by batch.

    Attributes:
        batch: The chunks received since the list was emptied last.
        received: Where the next byte belongs in the file.
        error: Why the stream broke before its end.
    """

    def __init__(
        self,
        media: MediaStream,
        on_progress: Callable[[int, int | None], object] | None,
    ) -> None:
        self._media = media
        self._on_progress = on_progress
        self.batch: list[bytes] = []
        self.received = media.offset
        self.error: APIConnectionError | None = None

    async def read_batch(self) -> bool:
        """Fill the batch; `False` if the stream ended or broke before it was full."""
        goal = self.received + BATCH_SIZE
        while self.received < goal and len(self.batch) < MAX_CHUNKS:
            try:
                chunk = await self._media.next_chunk()
            except APIConnectionError as error:
                self.error = error
                return False
            if chunk is None:
                return False
            await self._add(chunk)
        return True

    async def _add(self, chunk: bytes) -> None:
        self.batch.append(chunk)
        self.received += len(chunk)
        if self._on_progress is not None:
            result = self._on_progress(self.received, self._media.version.size)
            if inspect.isawaitable(result):
                await result


@cache
def _keep_freed_memory() -> None:
    """Let freed memory stay in the process, for the next batch.

    glibc returns free memory above twice the largest block that was ever freed to the
    system (mallopt(3), ``M_TRIM_THRESHOLD``). A batch would then be mapped again page
    by page: a quarter of the time of a download. One large block, freed at once, raises
    the threshold.
    """
    bytearray(2 * BATCH_SIZE)


def host_of(url: str) -> str:
    """The host of a URL: the rest may be a secret and is not shown."""
    return urlsplit(url).hostname or ""


def audio_url(track: Track | str) -> str:
    """The URL of a track's audio; a URL is returned as it is.

    Raises:
        InvalidRequestError: The track is not completed.
    """
    if isinstance(track, str):
        return track
    url: str | None = getattr(track, "audio_url", None)
    if url is None:
        raise InvalidRequestError(
            "generation_or_url",
            f"{track.id} ({track.status})" if hasattr(track, "status") else track,
            "a completed track, or its audio_url",
        )
    return url
