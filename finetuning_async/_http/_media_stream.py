"""Files of the media host, while they arrive."""

from __future__ import annotations

import logging
import re
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import attrs

from finetuning_async._errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    NotFoundError,
)
from finetuning_async._http._byte_ranges import (
    FileChangedError,
    FileVersion,
    extent_of,
    is_encoded,
)
from finetuning_async._http._exception_map import lasting_problem
from finetuning_async._http._media_redirects import arrived, check_media_url
from finetuning_async._logging import own_requests
from finetuning_async._secrets import mask_query, scrub

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from finetuning_async._http._http_clients import ClientPool
    from finetuning_async._http._http_library import Library
    from finetuning_async._http._timeouts import Timeout

logger = logging.getLogger("finetuning_async")

# An error that came with status 200, or the page of a captive portal.
_PAGE: Final = re.compile(
    r"text/(html|xml)|application/(json|xml|xhtml\+xml)|[^/;\s]+/[^/;\s]+\+(json|xml)"
)


@asynccontextmanager
async def open_media(
    pool: ClientPool,
    timeout: Timeout,
    url: str,
    *,
    base_url: str,
    offset: int = 0,
    version: FileVersion | None = None,
) -> AsyncGenerator[MediaStream]:
    """Open a file of the media host. The API key does not go with it, nor any cookie.

    Args:
        pool: Where connections come from.
        timeout: For each step of it.
        url: Where it is, as the service gave it. Redirects are followed, each after the
            same check.
        base_url: Of the API. If it is on this machine, the file may be here, too.
        offset: From which byte, at least 0. The host may start at 0 all the same.
        version: Whose bytes are there up to the offset; needed above 0.

    Raises:
        InvalidRequestError: The URL is none of ``https``, or of no public host.
        FileChangedError: What comes cannot be joined to what is there.
        APIStatusError: The host refused.
        APIResponseError: It is no file.
        APIConnectionError: The host could not be reached, or leads where no file is
            fetched from, or the stream broke.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": pool.library.user_agent}
    if offset and version is not None and version.validator is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version.validator}
    broken: Exception | None = None
    async with AsyncExitStack() as stack:
        begun_at = anyio.current_time()
        try:
            with own_requests():
                lent = await stack.enter_async_context(pool.using())
                request = lent.client.build_request(
                    "GET",
                    check_media_url(url, base_url, pool.library),
                    headers=headers,
                    extensions={"timeout": timeout.as_dict()},
                )
                response = await stack.enter_async_context(
                    arrived(pool, lent, request, base_url)
                )
            _log(url, str(response.status_code), begun_at)
        except pool.library.network as error:
            _log(url, f"no answer, {type(error).__name__},", begun_at)
            broken = error
        if broken is None:
            media = MediaStream(
                response,
                pool.library,
                asked=offset,
                version=version,
                began_at=urlsplit(url).hostname,
            )
            try:
                yield media
            finally:
                await media.leave()
    if broken is not None:
        raise _broken_stream(urlsplit(url).hostname, broken, pool.library)


def _log(url: str, outcome: str, begun_at: float) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        took = (anyio.current_time() - begun_at) * 1000
        logger.debug("GET %s: %s in %.0f ms", mask_query(url.strip()), outcome, took)


class MediaStream:
    """A file of the media host while it arrives.

    Args:
        response: What brings it.
        library: Whose response it is.
        asked: From which byte it was asked for.
        version: Whose bytes are there up to that.
        began_at: The host of the URL that led here.

    Attributes:
        host: Who sends it.
        offset: Where the bytes begin.
        version: Whose bytes they are; its size is that of the whole file.
        can_go_on: Whether the bytes can be counted, and the version can be told from
            others; so that the rest of them may be asked for.
    """

    def __init__(
        self,
        response: Any,
        library: Library,
        *,
        asked: int = 0,
        version: FileVersion | None = None,
        began_at: str | None = None,
    ) -> None:
        self.host: str = response.url.host
        moved = began_at not in {None, self.host}
        self._from = f", after a redirect from {began_at}" if moved else ""
        self._response, self._library = response, library
        self._is_encoded = is_encoded(response.headers)
        self.offset, self.version = self._extent(asked, version or FileVersion())
        is_known = self.version.validator is not None
        self.can_go_on = is_known and not self._is_encoded
        self._source = self._body()

    def _extent(self, asked: int, version: FileVersion) -> tuple[int, FileVersion]:
        """Where the response begins in the file, and in which.

        Raises:
            FileChangedError: It cannot be joined to what is there.
            APIStatusError: The host refused.
            APIResponseError: It is no file.
        """
        status, headers = self._response.status_code, self._response.headers
        if status not in {200, 206} and not (asked and status == 416):
            raise _refused_file(self._response)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if status != 416 and _PAGE.fullmatch(kind):
            raise APIResponseError(
                f"{self.host} sent {kind} in place of the track{self._from}: a page or"
                " an error, of the host or of a network that wants a login first"
            )
        offset, found = extent_of(status, headers)
        if status == 416 and found.size == asked:
            # All is there. It may lack the validator, which a part must not.
            offset = asked
            found = attrs.evolve(found, validator=found.validator or version.validator)
        if offset == 0:
            return offset, found
        if asked:
            if offset == asked and not self._is_encoded and found.is_same(version):
                return offset, attrs.evolve(found, size=found.size or version.size)
            raise FileChangedError
        raise APIResponseError(
            f"{self.host} sent a part of the file, but not which"
            if offset is None
            else f"{self.host} sent what comes after {offset} bytes, asked for what"
            " comes after 0"
        )

    async def next_chunk(self) -> bytes | None:
        """The next bytes as they come off the network; `None` at the end.

        Raises:
            APIConnectionError: The stream broke.
        """
        broken: Exception
        try:
            chunk = await anext(self._source, None)
            if chunk is not None or not self._is_cut_short():
                return chunk
            broken = EOFError("it ended too early")
        except self._library.network as error:
            broken = error
        raise _broken_stream(self.host, broken, self._library)

    def _is_cut_short(self) -> bool:
        """Whether less of a code came than was announced; of the file, who takes it."""
        length = self._response.headers.get("content-length", "")
        if not self._is_encoded or not length.isdigit():
            return False
        came: int = self._response.num_bytes_downloaded
        return 0 < came < int(length)  # 0 of a response that a mock made whole

    async def leave(self) -> None:
        """Read no more of it.

        The library reads through async generators, one within another. Left half-way,
        they fall to the garbage collector, of which trio warns; a cancellation ends
        them.
        """
        with anyio.CancelScope() as scope, suppress(*self._library.network):
            scope.cancel()
            while await anext(self._source, None) is not None:
                pass

    def _body(self) -> AsyncIterator[bytes]:
        """What arrives: as it is, for the library's decoding of no code takes time."""
        if self._response.status_code == 416:  # what comes is a page about it
            return _nothing()
        if self._is_encoded or self._response.is_stream_consumed:  # by a hook, say
            return aiter(self._response.aiter_bytes())
        return aiter(self._response.stream)


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for chunk in none:
        yield chunk


def _refused_file(response: Any) -> APIStatusError:
    status = response.status_code
    kind = NotFoundError if status == 404 else APIStatusError
    return kind(
        f"{response.url.host} refused the file; read the track again for a fresh URL",
        status_code=status,
        code=f"HTTP_{status}",
        safe_to_retry=status >= 500 or status == 429,
    )


def _broken_stream(
    host: str | None, error: Exception, library: Library
) -> APIConnectionError:
    timed_out = isinstance(error, library.timeouts)
    kind = APITimeoutError if timed_out else APIConnectionError
    name, text = type(error).__name__, scrub(str(error).partition("\n")[0])
    advice = lasting_problem(error, library)
    return kind(
        f"the download from {host} broke: {name}: {text}"
        + (f"; {advice}" if advice else ""),
        safe_to_retry=advice is None,
    )
