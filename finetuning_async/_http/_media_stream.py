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
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async._http._byte_ranges import (
    FileChangedError,
    FileVersion,
    is_encoded,
    parse_extent,
)
from finetuning_async._http._exception_map import permanent_failure_advice
from finetuning_async._http._media_redirects import check_media_url, follow_redirects
from finetuning_async._logging import own_requests
from finetuning_async._secrets import mask_query, scrub

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from finetuning_async._http._http_clients import ClientPool
    from finetuning_async._http._http_library import Library
    from finetuning_async._http._timeouts import Timeout

logger = logging.getLogger("finetuning_async")

# An error page with status 200, or the login page of a captive portal.
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
    until: int | None = None,
    version: FileVersion | None = None,
) -> AsyncGenerator[MediaStream]:
    """Open a file of the media host, without the API key and without cookies.

    Args:
        pool: The connections.
        timeout: For each step on the wire.
        url: Where the file is, as the service sent it. Redirects are followed, each
            after the same check.
        base_url: Of the API. If it is on this machine, the file may be there as well.
        offset: The first byte wanted, at least 0; the host may start at 0 regardless.
        until: The byte before which it may end; the host may go on regardless.
        version: The version of the bytes before `offset`; `None` if none were received,
            so that any version will do.

    Raises:
        InvalidRequestError: The URL is not ``https``, or its host is not public; or
            the file, in any version, ends before `offset`.
        FileChangedError: The response cannot be joined to the bytes before `offset`.
        APIStatusError: The host refused.
        APIResponseError: The response is not a file.
        APIConnectionError: The host could not be reached, or redirects to a place where
            no file may be fetched from, or the stream broke.
    """
    broken: Exception | None = None
    async with AsyncExitStack() as stack:
        begun_at = anyio.current_time()
        try:
            with own_requests():
                pooled = await stack.enter_async_context(pool.lease())
                request = pooled.client.build_request(
                    "GET",
                    check_media_url(url, base_url, pool.library),
                    headers=_headers(pool.library, offset, until, version),
                    extensions={"timeout": timeout.as_dict()},
                )
                response = await stack.enter_async_context(
                    follow_redirects(pool, pooled, request, base_url)
                )
            _log(url, str(response.status_code), begun_at)
        except pool.library.network_errors as error:
            _log(url, f"no response, {type(error).__name__},", begun_at)
            broken = error
        if broken is None:
            media = MediaStream(
                response, pool.library, offset, version, first_host=_host(url)
            )
            try:
                yield media
            finally:
                await media.abort()
    if broken is not None:
        raise _broken_stream(_host(url), broken, pool.library)


def _headers(
    library: Library, offset: int, until: int | None, version: FileVersion | None
) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": library.user_agent}
    if offset and version is not None:
        if version.validator is None:
            return headers  # a part could not be joined to the bytes before it
        headers["If-Range"] = version.validator
    if offset or until is not None:
        last = "" if until is None else until - 1
        headers["Range"] = f"bytes={offset}-{last}"
    return headers


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _log(url: str, outcome: str, begun_at: float) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        took = (anyio.current_time() - begun_at) * 1000
        logger.debug("GET %s: %s in %.0f ms", mask_query(url.strip()), outcome, took)


class MediaStream:
    """A file of the media host, while it arrives.

    Args:
        response: The response that carries it.
        library: The library of the response.
        requested: The offset that was asked for.
        version: The version of the bytes before it; `None` for any.
        first_host: The host of the URL that was opened, before any redirect.

    Attributes:
        host: The host that sends the file.
        content_type: What it says the file is; empty if it does not.
        offset: Where the bytes begin in the file.
        version: Their version; its size is that of the whole file.
        is_resumable: Whether the rest may be requested after a failure: the bytes can
            be counted, and the version can be distinguished from others.
    """

    def __init__(
        self,
        response: Any,
        library: Library,
        requested: int = 0,
        version: FileVersion | None = None,
        *,
        first_host: str | None = None,
    ) -> None:
        self.host: str = response.url.host
        moved = first_host not in {None, self.host}
        self._redirected = f", after a redirect from {first_host}" if moved else ""
        self._response, self._library = response, library
        self._is_encoded = is_encoded(response.headers)
        self.content_type: str = response.headers.get("content-type", "")
        self.offset, self.version = self._extent(requested, version)
        is_known = self.version.validator is not None
        self.is_resumable = is_known and not self._is_encoded
        self._source = self._chunks()

    def _extent(
        self, requested: int, version: FileVersion | None
    ) -> tuple[int, FileVersion]:
        """Where the response begins in the file, and in which version.

        Raises:
            FileChangedError: It cannot be joined to the bytes before `requested`.
            InvalidRequestError: The file has no byte `requested`.
            APIStatusError: The host refused.
            APIResponseError: It is not a file, or another part of one.
        """
        status, headers = self._response.status_code, self._response.headers
        if status not in {200, 206} and not (requested and status == 416):
            raise _refused_file(self._response)
        if status != 416:
            self._reject_page(self.content_type)
        offset, found = parse_extent(status, headers)
        if version is None:
            return self._first_extent(requested, offset, found)
        if status == 416 and found.size == requested:
            # All bytes are there already. Unlike a 206, a 416 need not repeat the
            # validator.
            offset = requested
            found = attrs.evolve(found, validator=found.validator or version.validator)
        if offset == 0:
            return offset, found
        if requested:
            is_same = not self._is_encoded and found.is_same(version)
            if offset == requested and is_same:
                return offset, attrs.evolve(found, size=found.size or version.size)
            raise FileChangedError
        raise self._wrong_part(offset, requested)

    def _first_extent(
        self, requested: int, offset: int | None, found: FileVersion
    ) -> tuple[int, FileVersion]:
        """The same where nothing was received, so that there is nothing to join."""
        status = self._response.status_code
        if status == 416 or (found.size is not None and 0 < found.size <= requested):
            size = "" if found.size is None else f", which is {found.size}"
            allowed = f"less than the size of the file{size}"
            raise InvalidRequestError("start", requested, allowed)
        is_readable = not (self._is_encoded and status == 206)
        if offset is not None and offset in {0, requested} and is_readable:
            return offset, found
        raise self._wrong_part(offset, requested)

    def _wrong_part(self, offset: int | None, requested: int) -> APIResponseError:
        if offset is None:
            text = "sent a part of the file without saying which one"
        elif offset == requested:
            text = "sent a part of the file compressed, so that it cannot be read"
        else:
            text = (
                f"sent the file from byte {offset}, although it was requested from byte"
                f" {requested}"
            )
        return APIResponseError(f"{self.host} {text}")

    def _reject_page(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        if _PAGE.fullmatch(kind):
            raise APIResponseError(
                f"{self.host} sent {kind} instead of the track{self._redirected}: an"
                " error page of the host, or the login page of a network. Log in to the"
                " network, or read the track again for a fresh URL"
            )

    async def next_chunk(self) -> bytes | None:
        """The next bytes, as they come off the network; `None` at the end.

        Raises:
            APIConnectionError: The stream broke.
        """
        broken: Exception
        try:
            chunk = await anext(self._source, None)
            if chunk is not None or not self._is_cut_short():
                return chunk
            broken = EOFError("it ended too early")
        except self._library.network_errors as error:
            broken = error
        raise _broken_stream(self.host, broken, self._library)

    def _is_cut_short(self) -> bool:
        """Whether fewer encoded bytes came than announced.

        For bytes that are not encoded, the download compares the size.
        """
        length = self._response.headers.get("content-length", "")
        if not self._is_encoded or not length.isdigit():
            return False
        received: int = self._response.num_bytes_downloaded
        return 0 < received < int(length)  # 0 for a response that a mock made whole

    async def abort(self) -> None:
        """Stop reading.

        The HTTP library reads through nested async generators. Abandoned halfway, they
        would be left to the garbage collector, which trio warns of; a cancellation
        closes all of them.
        """
        with anyio.CancelScope() as scope, suppress(*self._library.network_errors):
            scope.cancel()
            while await anext(self._source, None) is not None:
                pass

    def _chunks(self) -> AsyncIterator[bytes]:
        """The body; raw if it is not encoded: the library's decoder would cost time."""
        if self._response.status_code == 416:  # its body is an error page
            return _no_chunks()
        if self._is_encoded or self._response.is_stream_consumed:  # by a hook, say
            return aiter(self._response.aiter_bytes())
        return aiter(self._response.stream)


async def _no_chunks() -> AsyncIterator[bytes]:
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
    timed_out = isinstance(error, library.timeout_errors)
    kind = APITimeoutError if timed_out else APIConnectionError
    name, text = type(error).__name__, scrub(str(error).partition("\n")[0])
    advice = permanent_failure_advice(error, library)
    return kind(
        f"the download from {host} failed: {name}: {text}"
        + (f"; {advice}" if advice else ""),
        safe_to_retry=advice is None,
    )
