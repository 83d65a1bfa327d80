"""An MP3 from the media host to a file, whole or not at all.

It is written under a temporary name beside the target, checked against the announced
length and renamed at the end. A broken stream goes on where it broke, if the host
proves that the rest is of the same file; else it begins anew. The API key never goes to
the media host.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from functools import cache, partial
from math import inf
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

from finetuning_async._downloads._atomic_file import MOST_CHUNKS, AtomicFile
from finetuning_async._downloads._placement import Placement
from finetuning_async._downloads._target_path import look
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

BATCH: Final = 1 << 21
"""Bytes gathered before a thread writes them, 2 MiB: a hop per chunk halves the speed.
Meanwhile the system goes on receiving, so nothing is read here beside it."""


class Download:
    """One download.

    Args:
        transport: How to reach the media host.
        retry: How often a broken stream is taken up again.
        url: Where the file is; used as it came.
        on_progress: Called with the bytes done and the total, if that is known.
        hook: Who is told of repetitions; `None` for nobody.

    Attributes:
        done: Bytes written by the attempts so far, to go on behind; 0 if nothing can be
            joined to them.
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
        self.done = 0
        self._version = FileVersion()

    async def to(self, path: Path, *, deadline: float = inf) -> Path:
        """Download to a file.

        Args:
            path: The file.
            deadline: On the loop's clock; no pause is begun that does not fit. Whoever
                sets one cancels this when it comes.

        Raises:
            InvalidRequestError: Nothing can be written there, or no file is fetched
                from the URL.
            APIStatusError: The media host refused.
            APIConnectionError: The stream broke, repeatedly, or led astray.
            APIResponseError: What came is no track.
            OSError: It could not be written.
        """
        target = AtomicFile(path)
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
        except FileChangedError:  # cannot come of a request for all of it
            self.done = 0
            broken = await self._fetch(target)
        if broken is not None:
            raise RetryableFailure(broken)

    async def _fetch(
        self, target: AtomicFile
    ) -> APIConnectionError | APIStatusError | None:
        """Fetch what is not there yet.

        Returns:
            What broke it, if something did that may pass.

        Raises:
            FileChangedError: The rest of what is there is not to be had any more.
        """
        async with AsyncExitStack() as stack:
            try:
                media = await stack.enter_async_context(
                    self._transport.stream(
                        self._url, offset=self.done, version=self._version
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
        """Take what comes; a thread writes it, batch by batch.

        Returns:
            What broke it, if something did.

        Raises:
            APIResponseError: It is empty.
        """
        self.done = media.offset  # what stands behind it is dropped
        _keep_memory()
        await in_thread(target.begin, media.offset)
        arriving = _Arriving(media, self._on_progress)
        while await arriving.fills_a_batch():
            await in_thread(target.append, arriving.batch)
        broken = _wrong_length(media, arriving)
        if broken is None:
            await _in_place(partial(target.keep, arriving.batch))
            return None
        await in_thread(target.append, arriving.batch)  # it need not come again
        size = media.version.size
        is_too_long = size is not None and arriving.arrived > size
        self.done = arriving.arrived if media.is_resumable and not is_too_long else 0
        return broken


def _wrong_length(media: MediaStream, arriving: _Arriving) -> APIConnectionError | None:
    arrived, size = arriving.arrived, media.version.size
    if arriving.broken is not None and arrived != size:
        return arriving.broken
    if not arrived:
        raise APIResponseError(f"{media.host} sent an empty file")
    if size is None or arrived == size:
        return None
    return APIConnectionError(
        f"the download from {media.host} ended after {arrived} of {size} bytes",
        safe_to_retry=True,
    )


async def _in_place(go_on: Callable[[], float | None]) -> None:
    """Bring a whole file to its place.

    Args:
        go_on: Goes on with it, in a thread: `None` once it is there, else seconds after
            which to call it again.

    Raises:
        OSError: It could not be written, or nobody reads it any more.
    """
    pause = await in_thread(go_on)
    while pause is not None:
        await anyio.sleep(pause)
        pause = await in_thread(go_on)


async def put(part: Path, path: Path) -> Path:
    """Bring a file that is whole to its place, as a download is brought there.

    Args:
        part: The file; gone at the end.
        path: Its place. What stands there is replaced, or written into.

    Returns:
        The folder that it is in then, behind symbolic links.

    Raises:
        InvalidRequestError: No file can be written there.
        OSError: It could not be written, or nobody reads it any more.
    """
    delivery = Placement(part, await in_thread(look, path))
    try:
        await _in_place(delivery.go_on)
    finally:
        delivery.close()
    return delivery.folder


class _Arriving:
    """A file while it arrives, batch by batch.

    Attributes:
        batch: The chunks that came since it was emptied last.
        arrived: Where the next byte belongs in the file.
        broken: Why the stream ended before its end.
    """

    def __init__(
        self,
        media: MediaStream,
        on_progress: Callable[[int, int | None], object] | None,
    ) -> None:
        self._media = media
        self._on_progress = on_progress
        self.batch: list[bytes] = []
        self.arrived = media.offset
        self.broken: APIConnectionError | None = None

    async def fills_a_batch(self) -> bool:
        """Gather the next batch; `False` if the stream ended or broke before."""
        goal = self.arrived + BATCH
        while self.arrived < goal and len(self.batch) < MOST_CHUNKS:
            try:
                chunk = await self._media.next_chunk()
            except APIConnectionError as error:
                self.broken = error
                return False
            if chunk is None:
                return False
            await self._take(chunk)
        return True

    async def _take(self, chunk: bytes) -> None:
        self.batch.append(chunk)
        self.arrived += len(chunk)
        if self._on_progress is not None:
            told = self._on_progress(self.arrived, self._media.version.size)
            if inspect.isawaitable(told):
                await told


@cache
def _keep_memory() -> None:
    """Let memory that was freed stay in the process, for the next batch.

    glibc gives back what is free above twice the largest block that was ever freed
    (mallopt(3), ``M_TRIM_THRESHOLD``), and a batch would come back page by page: a
    quarter of the time of a download.
    """
    bytearray(2 * BATCH)


def host_of(url: str) -> str:
    """The host of a URL, which is all of it that may be shown."""
    return urlsplit(url).hostname or ""


def audio_url(track: Track | str) -> str:
    """Where the audio of a track is; a URL is taken as it is.

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
            "a completed track, which has an audio_url, or such a URL",
        )
    return url
