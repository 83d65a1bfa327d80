"""A track's audio, passed on from the media host to a browser, with ranges.

It goes through this process chunk by chunk: nothing is kept. So the address of the file
stays with the application, and whoever may not hear the track gets nothing.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse

from finetuning_async._errors import APIStatusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._client import AsyncClient
    from finetuning_async._downloads import AudioStream

_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
"""One range: a request for several is answered by the whole (RFC 9110, 14.2)."""

MEDIA_TYPE: Final = "audio/mpeg"
EFFECT: Final = "sound_effect"

STEP_TIMEOUT: Final = 30.0
"""Seconds for which the media host may send nothing."""


_MOVED: Final = frozenset({403, 404, 410})
"""What a media host may say of a URL that is no longer valid."""


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
            response = await self._response(stack)
            await response(scope, receive, send)

    async def _response(self, stack: AsyncExitStack) -> Response:
        headers = {"Cache-Control": "private", "Accept-Ranges": "bytes"}
        audio = await self._open(stack)
        if audio.size is None:
            headers["Accept-Ranges"] = "none"
            return self._passed_on(200, headers, audio)
        span = requested_bytes(self._request.headers, audio.size)
        if span is None:
            headers["Content-Length"] = str(audio.size)
            return self._passed_on(200, headers, audio)
        if not span:
            headers["Content-Range"] = f"bytes */{audio.size}"
            return Response(status_code=416, headers=headers)
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{audio.size}"
        headers["Content-Length"] = str(len(span))
        if len(span) < audio.size:
            # Only now is it known what the range means in this file.
            await stack.aclose()
            audio = await self._open(stack, span.start, span.stop)
        return self._passed_on(206, headers, audio)

    async def _open(
        self, stack: AsyncExitStack, start: int = 0, end: int | None = None
    ) -> AudioStream:
        options: Any = {"start": start, "end": end, "timeout": STEP_TIMEOUT}
        track, client = self._track, self._client
        try:
            opening = client.open_audio(track, **options)
            return await stack.enter_async_context(opening)
        except APIStatusError as error:
            if error.status_code not in _MOVED:
                raise
        # The journal keeps the URL of when the track ended; the service has the newest.
        family = client.sound_effects if track.kind == EFFECT else client.generations
        self._track = await family.get(track.id)
        opening = client.open_audio(self._track, **options)
        return await stack.enter_async_context(opening)

    def _passed_on(
        self, status: int, headers: dict[str, str], audio: AudioStream
    ) -> Response:
        if self._request.method == "HEAD":
            return Response(None, status, headers, MEDIA_TYPE)
        return StreamingResponse(audio, status, headers, MEDIA_TYPE)


def requested_bytes(headers: Mapping[str, str], size: int) -> range | None:
    """The bytes that a request asks for, by its ``Range`` (RFC 9110, section 14.2).

    Args:
        headers: The request's.
        size: Of the whole, in bytes.

    Returns:
        `None` for the whole, also where the header cannot be read; an empty range if
        there are no such bytes.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    # No version is named in our responses, so none can be the one that is meant.
    if match is None or "if-range" in headers:
        return None
    first, last = match.groups()
    if not first:
        return range(max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None  # not a range at all
    return range(int(first), min(int(last) + 1, size) if last else size)
