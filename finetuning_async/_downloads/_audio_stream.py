"""Bytes of a track for a program that passes them on, instead of to a file.

What has been handed out cannot be taken back. So a stream that breaks goes on where it
broke only if the host proves that the rest belongs to the same version of the file;
where a download would begin again at 0, this raises.

Between two reads nothing waits and no cancel scope is open, so the block may be entered
in an async generator that a web framework iterates, or abandons.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import anyio

from finetuning_async._downloads._download import empty_file, ended_early, host_of
from finetuning_async._errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
)
from finetuning_async._http import (
    FileChangedError,
    FileVersion,
    RetryableFailure,
    request_events,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from finetuning_async._event_hook import Hook
    from finetuning_async._http import MediaStream, RetryPolicy, Transport

    class Calls(Protocol):
        """The calls of the client that can be ended by closing it."""

        is_closing: bool

        def scope(self, deadline: float) -> AbstractContextManager[Any]:
            """Run one step."""


MP3: Final = "audio/mpeg"
"""What every track is, if the host does not say."""


class AudioStream(AsyncIterator[bytes]):
    """The audio of a track, as it arrives; see `AsyncClient.open_audio`.

    An ``async with`` block opens it, and its items are the bytes, in pieces of 64 KiB
    at most as they come off the network. Nothing is read ahead but the first piece.

    Attributes:
        start: The first byte of the file that it gives.
        end: The byte before which it ends; `None` if the size is not known.
        size: Of the whole file, in bytes; `None` if the host does not say.
        content_type: What the host says it is, such as ``audio/mpeg``.

    Example:
        track = await client.generate("rain", duration=30)
        async with client.open_audio(track, start=500) as audio:
            print(audio.content_type, audio.size)
            async for chunk in audio:
                print(len(chunk))
    """

    def __init__(
        self,
        transport: Transport,
        retry: RetryPolicy,
        calls: Calls,
        url: str,
        *,
        start: int,
        end: int | None,
        timeout: float | None,
        hook: Hook | None = None,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._calls = calls
        self._url = url
        self._until = end
        self._timeout = timeout
        self._hook = hook
        self._position = start
        self._skip = 0
        self._version: FileVersion | None = None
        self._media: MediaStream | None = None
        self._stack: AsyncExitStack | None = None
        self._first: bytes | None = None
        self._is_open = False
        self._is_done = False
        self.start: int = start
        self.end: int | None = end
        self.size: int | None = None
        self.content_type: str = MP3

    def __repr__(self) -> str:
        host, size = host_of(self._url), self.size
        return f"<AudioStream of {host} at byte {self._position} of {size}>"

    async def __aenter__(self) -> Self:
        """Open it, and read its first bytes, so that most errors are raised here."""
        self._is_open = True
        self._first = await self._step()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open = False
        await self._close(error)

    async def __anext__(self) -> bytes:
        if not self._is_open:
            raise RuntimeError(
                "the audio is not open: read it inside `async with"
                " client.open_audio(...) as audio:`"
            )
        chunk, self._first = self._first, None
        if chunk is None:
            chunk = await self._step()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def _step(self) -> bytes | None:
        """The next bytes, within the timeout; `None` at the end."""
        deadline = inf
        if self._timeout is not None:
            deadline = anyio.current_time() + self._timeout
        with self._calls.scope(deadline):
            try:
                return await self._receive()
            except RetryableFailure as failure:
                first = failure
            host = host_of(self._url)
            report = request_events.retry_callback(self._hook, "GET", host)
            return await self._retry.run(
                first, self._receive, deadline=deadline, on_retry=report
            )
        # Reached only if the scope has cancelled the block.
        if self._calls.is_closing:
            raise ClientClosedError("the client was closed while audio was read")
        raise APITimeoutError(
            f"no audio came for {self._timeout:g} s, after {self._position} bytes",
            safe_to_retry=True,
        )

    async def _receive(self) -> bytes | None:
        """The next bytes; opens the file, or the rest of it, if it is not open.

        Raises:
            RetryableFailure: The stream broke; the next call goes on where it broke.
            FinetuningError: No further bytes can be had.
        """
        try:
            media = self._media or await self._open()
            return None if self._is_done else await self._read(media)
        except (APIConnectionError, APIStatusError) as error:
            may_go_on = error.safe_to_retry and self._can_go_on()
            await self._close()
            if not may_go_on:
                raise
            failure = RetryableFailure(error)
        except FileChangedError:
            await self._close()
            raise self._changed() from None
        except BaseException as error:
            await self._close(error)
            raise
        raise failure

    async def _open(self) -> MediaStream:
        """Open the file where it is to go on."""
        self._stack = AsyncExitStack()
        media = await self._stack.enter_async_context(
            self._transport.stream(
                self._url,
                offset=self._position,
                until=self._until,
                version=self._version,
            )
        )
        if self._version is None:
            self._take_facts(media)
        elif not media.version.is_same(self._version):
            raise FileChangedError  # it begins at 0, with another version
        # The host may ignore the range, and begin at 0.
        self._skip = self._position - media.offset
        self._media = media
        return media

    def _take_facts(self, media: MediaStream) -> None:
        self.size = media.version.size
        ends = [end for end in (self._until, self.size) if end is not None]
        self.end = min(ends, default=None)
        self.content_type = media.content_type or MP3

    async def _read(self, media: MediaStream) -> bytes | None:
        try:
            chunk = await self._wanted_chunk(media)
        except APIConnectionError:
            # As at the closing of the connection: all that is wanted is here.
            if self._position != self.end:
                raise
            chunk = None
        if chunk is None:
            self._finish(media)
            return None
        if self.end is not None and len(chunk) > self.end - self._position:
            if self.end == self.size:
                raise self._too_long(media)
            chunk = chunk[: self.end - self._position]  # the host ignores the range
        if not chunk:
            self._finish(media)
            return None
        self._position += len(chunk)
        self._version = media.version
        return chunk

    async def _wanted_chunk(self, media: MediaStream) -> bytes | None:
        """The next bytes that have not been handed out yet."""
        chunk = await media.next_chunk()
        while chunk is not None and len(chunk) <= self._skip:
            self._skip -= len(chunk)
            chunk = await media.next_chunk()
        if chunk is not None and self._skip:
            chunk, self._skip = chunk[self._skip :], 0
        return chunk

    def _finish(self, media: MediaStream) -> None:
        """The stream has ended: check that nothing is missing."""
        if self.end is not None and self._position < self.end:
            raise ended_early(media.host, self._position, self.end)
        if self._position == self.start:
            raise empty_file(media.host)
        self._is_done = True

    def _can_go_on(self) -> bool:
        """Whether the rest can be joined to what was handed out."""
        return self._version is None or (
            self._media is None or self._media.is_resumable
        )

    def _changed(self) -> APIConnectionError:
        return APIConnectionError(
            f"{host_of(self._url)} sent another version of the file after"
            f" {self._position} bytes; begin again",
            safe_to_retry=True,
        )

    def _too_long(self, media: MediaStream) -> APIConnectionError:
        return APIConnectionError(
            f"{media.host} sent more than the {self.size} bytes that it had announced",
            safe_to_retry=False,
        )

    async def _close(self, error: BaseException | None = None) -> None:
        """Close the response, after an error of the block or of a read, if any."""
        stack, self._stack, self._media = self._stack, None, None
        if stack is not None:
            trace = error.__traceback__ if error is not None else None
            await stack.__aexit__(type(error) if error else None, error, trace)
