"""An MP3 from the media host to a file, whole or not at all.

It is written under a temporary name beside the target, checked against the announced
length, synced and renamed at the end. A broken stream goes on where it broke, if the
host takes ranges. The API key never goes to the media host.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from finetuning_async import _report
from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    InvalidRequestError,
)
from finetuning_async._retry import Repeatable
from finetuning_async._threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from finetuning_async._hook import Hook
    from finetuning_async._retry import RetryPolicy
    from finetuning_async._transport import MediaStream, Transport
    from finetuning_async._types import Track

BATCH: Final = 1 << 20
"""Bytes gathered before a thread writes them: a hop per chunk halves the speed."""


class TargetFile:
    """A file that appears under its name only when it is whole.

    Args:
        path: The final name. Its folder is made if need be.

    Raises:
        InvalidRequestError: Nothing can be written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO
        try:
            if path.is_dir():
                raise IsADirectoryError(f"{path} is a directory")
            path.parent.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(
                prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise InvalidRequestError(
                "path", str(path), f"a file that can be written ({reason})"
            ) from None
        self._file = os.fdopen(number, "wb")
        self._part = Path(name)

    def append(self, chunks: list[bytes]) -> None:
        """Write chunks behind what is there."""
        self._file.writelines(chunks)

    def restart(self) -> None:
        """Begin again at the first byte."""
        self._file.seek(0)
        self._file.truncate()

    def keep(self) -> None:
        """Sync, and give it its final name; an older file of that name is replaced."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        # mkstemp makes it private; an ordinary file has what the umask leaves.
        mask = os.umask(0)
        os.umask(mask)
        self._part.chmod(0o666 & ~mask)
        self._part.replace(self.path)

    def discard(self) -> None:
        """Remove it, unless it was kept."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()


class Download:
    """One download.

    Args:
        transport: How to reach the media host.
        retry: How often a broken stream is taken up again.
        url: Where the file is; used as it came.
        on_progress: Called with the bytes done and the total, if that is known.
        hook: Who is told of repetitions; `None` for nobody.

    Attributes:
        done: Bytes written so far.
        total: Bytes announced; `None` if the host does not say.
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
        self.total: int | None = None
        self._tag: str | None = None

    async def to(self, path: Path, *, deadline: float = inf) -> Path:
        """Download to a file.

        Args:
            path: The file.
            deadline: On the loop's clock; no pause is begun that does not fit. Whoever
                sets one cancels this when it comes.

        Raises:
            InvalidRequestError: Nothing can be written there.
            APIStatusError: The media host refused.
            APIConnectionError: The stream broke, repeatedly.
            APIResponseError: It ended too early or too late.
        """
        target = await in_thread(TargetFile, path)
        try:
            try:
                await self._attempt(target)
            except Repeatable as first:
                await self._retry.again(
                    first,
                    lambda: self._attempt(target),
                    deadline=deadline,
                    on_retry=_report.retries(self._hook, "GET", host_of(self._url)),
                )
            await in_thread(target.keep)
        finally:
            target.discard()
        return path

    async def _attempt(self, target: TargetFile) -> None:
        try:
            async with self._transport.stream(
                self._url, offset=self.done, tag=self._tag
            ) as media:
                if media.offset != self.done:
                    await in_thread(target.restart)
                    self.done = 0
                self.total, self._tag = media.total, media.tag
                await self._copy(media, target)
        except (APIConnectionError, APIStatusError) as error:
            if not error.safe_to_retry:
                raise
            broken = error
        else:
            return
        raise Repeatable(broken)

    async def _copy(self, media: MediaStream, target: TargetFile) -> None:
        batch: list[bytes] = []
        size = 0
        try:
            async for chunk in media.chunks():
                batch.append(chunk)
                size += len(chunk)
                self._tell(self.done + size)
                if size >= BATCH:
                    full, batch, written, size = batch, [], size, 0
                    await self._write(target, full, written)
        finally:  # what arrived before a break need not come again
            await self._write(target, batch, size)
        self._check_length(media)

    async def _write(self, target: TargetFile, batch: list[bytes], size: int) -> None:
        if size:
            await in_thread(target.append, batch)
            self.done += size

    def _tell(self, done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, self.total)

    def _check_length(self, media: MediaStream) -> None:
        if not self.done:
            raise APIResponseError(f"{media.host} sent an empty file")
        if self.total is not None and self.done != self.total:
            seen, self.done = self.done, self.done if self.done < self.total else 0
            raise APIConnectionError(
                f"the download from {media.host} ended after {seen} of {self.total}"
                " bytes",
                safe_to_retry=True,
            )


def host_of(url: str) -> str:
    """The host of a URL, which is all of it that may be shown."""
    return urlsplit(url).hostname or ""


def check_target(path: Path) -> None:
    """Check that a file can be written at a path, before anything is paid for.

    Raises:
        InvalidRequestError: It cannot.
    """
    TargetFile(path).discard()


def audio_url(track: Track | str) -> str:
    """Where the audio of a track is; a URL is taken as it is.

    Raises:
        InvalidRequestError: The track is not completed.
    """
    if isinstance(track, str):
        return track
    if track.audio_url is None:
        raise InvalidRequestError(
            "generation_or_url",
            f"{track.id} ({track.status})",
            "a completed track, which has an audio_url",
        )
    return track.audio_url
