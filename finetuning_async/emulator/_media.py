"""The media host: public MP3s with byte ranges (section 3.16, U30)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.responses import Response

from finetuning_async.emulator._audio import AudioStore
from finetuning_async.emulator._middleware import extension

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from finetuning_async.emulator._records import Job
    from finetuning_async.emulator._service import Service

CHUNK = 64 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def endpoint(service: Service) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint for ``/audio/<id>.mp3``."""
    store = AudioStore(service.settings)

    async def audio(request: Request) -> Response:
        job = _find(service, request.path_params["name"])
        if job is None:
            return Response("Not found", 404, media_type="text/plain")
        content = store.get(job)
        if content is None:
            content = await _render(store, job, inline=_inline(request))
        job.downloads += 1
        return _respond(request, content)

    return audio


def _find(service: Service, name: str) -> Job | None:
    job = service.jobs.get(name.removesuffix(".mp3"))
    if job is None or job.status_at(service.clock.now()) != "completed":
        return None
    return job


def _inline(request: Request) -> bool:
    return bool(extension(request.scope).get("inline"))


async def _render(store: AudioStore, job: Job, *, inline: bool) -> bytes:
    if inline:  # under virtual time a thread would only add real waiting
        return store.render(job)
    return await anyio.to_thread.run_sync(store.render, job)


def _respond(request: Request, content: bytes) -> Response:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    span = _span(request, etag, len(content))
    if span is None:
        return _Chunked(content, 200, headers, "audio/mpeg")
    if not span:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return Response(b"", 416, headers)
    last = span.stop - 1
    headers["Content-Range"] = f"bytes {span.start}-{last}/{len(content)}"
    return _Chunked(content[span.start : span.stop], 206, headers, "audio/mpeg")


class _Chunked(Response):
    """A body sent in chunks; Starlette's own would wait for a disconnect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        del scope, receive
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        body = bytes(self.body)
        for begin in range(0, len(body), CHUNK):
            end = begin + CHUNK
            part = {"type": "http.response.body", "body": body[begin:end]}
            await send(part | {"more_body": end < len(body)})


def _span(request: Request, etag: str, size: int) -> range | None:
    """The requested bytes: ``None`` is all, an empty range cannot be served."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    stop = min(int(last) + 1, size) if last else size
    return range(int(first), stop)
