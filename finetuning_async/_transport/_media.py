"""Files of the media host, while they arrive."""

from __future__ import annotations

import logging
import re
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import anyio
import httpx

from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async._log_setup import told_by_us
from finetuning_async._secrets import mask_query, scrub
from finetuning_async._transport._failures import NETWORK_ERRORS
from finetuning_async._transport._pool import USER_AGENT, Pool, Timeout, is_secure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

logger = logging.getLogger("finetuning_async")

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


@asynccontextmanager
async def open_media(
    pool: Pool,
    timeout: Timeout,
    url: str,
    *,
    offset: int = 0,
    tag: str | None = None,
) -> AsyncGenerator[MediaStream]:
    """Open a file of the media host. The API key does not go with it.

    Args:
        pool: Where connections come from.
        timeout: For each step of it.
        url: Where it is, as the service gave it; redirects are followed.
        offset: From which byte; the host may start at 0 all the same.
        tag: The ``ETag`` of the part that is already there.

    Raises:
        InvalidRequestError: The URL is none of ``https``.
        APIStatusError: The host refused.
        APIConnectionError: It could not be reached, or the stream broke.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if tag is not None:
            headers["If-Range"] = tag
    broken: Exception | None = None
    async with AsyncExitStack() as stack:
        begun_at = anyio.current_time()
        try:
            with told_by_us():
                response = await stack.enter_async_context(
                    pool.media_client().stream(
                        "GET",
                        _check_media_url(url),
                        headers=headers,
                        follow_redirects=True,
                        timeout=timeout,
                    )
                )
            _log(url, str(response.status_code), begun_at)
        except NETWORK_ERRORS as error:
            _log(url, f"no answer, {type(error).__name__},", begun_at)
            broken = error
        if broken is None:
            media = MediaStream(response, asked=offset)
            try:
                yield media
            finally:
                await media.leave()
    if broken is not None:
        raise _broken_stream(urlsplit(url).hostname, broken)


def _log(url: str, outcome: str, begun_at: float) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        took = (anyio.current_time() - begun_at) * 1000
        logger.debug("GET %s: %s in %.0f ms", mask_query(url.strip()), outcome, took)


class MediaStream:
    """A file of the media host while it arrives.

    Args:
        response: What brings it.
        asked: From which byte it was asked for.

    Attributes:
        host: Who sends it.
        offset: Where the bytes begin.
        total: The length of the whole file, in bytes, if the host says.
        tag: Its ``ETag``, if that is a strong one.
    """

    def __init__(self, response: httpx.Response, *, asked: int = 0) -> None:
        self.host = response.url.host
        if response.status_code not in {200, 206}:
            raise _refused_file(response)
        self.offset, self.total = _extent(response, asked)
        self._source = _body(response)
        tag = response.headers.get("etag", "")
        self.tag = tag if tag.startswith('"') else None

    async def next_chunk(self) -> bytes | None:
        """The next bytes as they come off the network; `None` at the end.

        Raises:
            APIConnectionError: The stream broke.
        """
        try:
            return await anext(self._source, None)
        except NETWORK_ERRORS as error:
            broken = error
        raise _broken_stream(self.host, broken)

    async def leave(self) -> None:
        """Read no more of it.

        httpx reads through async generators, one within another. Left half-way, they
        fall to the garbage collector, of which trio warns; a cancellation ends them.
        """
        with anyio.CancelScope() as scope, suppress(*NETWORK_ERRORS):
            scope.cancel()
            while await anext(self._source, None) is not None:
                pass


def _body(response: httpx.Response) -> AsyncIterator[bytes]:
    """What arrives: as it is, for httpx's decoding of what is in no code takes time."""
    if "content-encoding" in response.headers:
        return response.aiter_bytes()
    return aiter(cast("httpx.AsyncByteStream", response.stream))


def _extent(response: httpx.Response, asked: int) -> tuple[int, int | None]:
    """Where a response begins in the file, and how long the file is.

    ``Content-Range: bytes 500-999/1000`` (RFC 9110, section 14.4), else
    ``Content-Length``.

    Raises:
        APIResponseError: It is a part that was asked for, but does not say which.
    """
    if response.status_code == 206:
        match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        if match is not None:
            return int(match[1]), int(match[2]) if match[2].isdigit() else None
        if asked:
            raise APIResponseError(
                f"{response.url.host} sent a part of the file, but not which"
            )
    if "content-encoding" in response.headers:  # it tells the length of the code
        return 0, None
    length = response.headers.get("content-length", "")
    return 0, int(length) if length.isdigit() else None


def _refused_file(response: httpx.Response) -> APIStatusError:
    status = response.status_code
    kind = NotFoundError if status == 404 else APIStatusError
    return kind(
        f"{response.url.host} refused the file; read the track again for a fresh URL",
        status_code=status,
        code=f"HTTP_{status}",
        safe_to_retry=status >= 500 or status == 429,
    )


def _broken_stream(host: str | None, error: Exception) -> APIConnectionError:
    timed_out = isinstance(error, httpx.TimeoutException | TimeoutError)
    kind = APITimeoutError if timed_out else APIConnectionError
    name, text = type(error).__name__, scrub(str(error).partition("\n")[0])
    return kind(f"the download from {host} broke: {name}: {text}", safe_to_retry=True)


def _check_media_url(text: str) -> str:
    try:
        if is_secure(urlsplit(text.strip())) and httpx.URL(text.strip()).host:
            return text.strip()
    except (ValueError, httpx.InvalidURL):
        pass
    raise InvalidRequestError("url", mask_query(text), "an https:// URL of a file")
