"""A track's audio, passed on from the media host to a browser, with ranges.

It goes through this process chunk by chunk: nothing is kept. So the address of the file
stays with the application, and whoever may not hear the track gets nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Final

import attrs
from starlette.responses import Response, StreamingResponse

from finetuning_async._errors import APIStatusError
from finetuning_async._session import session_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._client import AsyncClient
    from finetuning_async._http import MediaStream

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
"""One range: a request for several is answered by the whole (RFC 9110, 14.2)."""

MEDIA_TYPE: Final = "audio/mpeg"
EFFECT: Final = "sound_effect"


_MOVED: Final = frozenset({403, 404, 410})
"""What a media host may say of a URL that is no longer valid."""


@attrs.frozen
class Audio:
    """A track's audio, while it arrives.

    Attributes:
        chunks: Its bytes, from the first one on.
        size: How many there are; `None` if the media host does not say.
        etag: What tells it from another version; `None` likewise.
    """

    chunks: AsyncGenerator[bytes]
    size: int | None
    etag: str | None


@asynccontextmanager
async def open_audio(client: AsyncClient, url: str) -> AsyncGenerator[Audio]:
    """Open a track's audio at the media host; closing the client closes it.

    Raises:
        FinetuningError: It cannot be opened.
    """
    session = session_of(client)
    with session.calls.scope(inf):
        async with session.pipeline.transport.stream(url) as media:
            chunks = _chunks(media)
            async with aclosing(chunks):
                version = media.version
                yield Audio(chunks, version.size, version.validator)


async def _chunks(media: MediaStream) -> AsyncGenerator[bytes]:
    while (chunk := await media.next_chunk()) is not None:
        yield chunk


class AudioResponse(Response):
    """The audio of a completed track.

    Args:
        client: Opens it.
        track: The track, with its `audio_url`.
        request: The browser's, which may ask for a range.
    """

    def __init__(
        self, client: AsyncClient, track: Generation | SoundEffect, request: Request
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._client, self._track, self._request = client, track, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the audio, and pass it on.

        Raises:
            FinetuningError: It cannot be opened; nothing was sent yet.
        """
        async with AsyncExitStack() as stack:
            audio = await self._open(stack)
            await self._passed_on(audio)(scope, receive, send)

    async def _open(self, stack: AsyncExitStack) -> Audio:
        track, client = self._track, self._client
        try:
            opening = open_audio(client, str(track.audio_url))
            return await stack.enter_async_context(opening)
        except APIStatusError as error:
            if error.status_code not in _MOVED:
                raise
        # The journal keeps the URL of when the track ended; the service has the newest.
        family = client.sound_effects if track.kind == EFFECT else client.generations
        fresh = await family.get(track.id)
        opening = open_audio(client, str(fresh.audio_url))
        return await stack.enter_async_context(opening)

    def _passed_on(self, audio: Audio) -> Response:
        headers = {"Cache-Control": "private", "Accept-Ranges": "bytes"}
        if audio.etag is not None and audio.etag.startswith('"'):
            headers["ETag"] = audio.etag
        if audio.size is None:
            headers["Accept-Ranges"] = "none"
            return self._response(200, headers, audio.chunks)
        span = requested_bytes(self._request.headers, audio.size, audio.etag)
        if span is None:
            headers["Content-Length"] = str(audio.size)
            return self._response(200, headers, audio.chunks)
        if not span:
            headers["Content-Range"] = f"bytes */{audio.size}"
            return Response(status_code=416, headers=headers)
        last = span.stop - 1
        headers["Content-Range"] = f"bytes {span.start}-{last}/{audio.size}"
        headers["Content-Length"] = str(len(span))
        return self._response(206, headers, _cut(audio.chunks, span))

    def _response(
        self, status: int, headers: dict[str, str], chunks: AsyncGenerator[bytes]
    ) -> Response:
        if self._request.method == "HEAD":
            return Response(None, status, headers, MEDIA_TYPE)
        return StreamingResponse(chunks, status, headers, MEDIA_TYPE)


def requested_bytes(
    headers: Mapping[str, str], size: int, etag: str | None
) -> range | None:
    """The bytes that a request asks for, by its ``Range`` (RFC 9110, section 14.2).

    Args:
        headers: The request's.
        size: Of the whole, in bytes.
        etag: Of the whole; a part of another version is of no use (``If-Range``).

    Returns:
        `None` for the whole, also where the header cannot be read; an empty range if
        there are no such bytes.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return range(max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None  # not a range at all
    return range(int(first), min(int(last) + 1, size) if last else size)


async def _cut(chunks: AsyncGenerator[bytes], span: range) -> AsyncGenerator[bytes]:
    """The bytes of a range; those before it are dropped, those after it not read."""
    at = 0
    async for chunk in chunks:
        wanted = chunk[max(span.start - at, 0) : span.stop - at]
        at += len(chunk)
        if wanted:
            yield wanted
        if at >= span.stop:
            return
