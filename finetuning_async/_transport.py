"""The one place that speaks httpx: sends a call, and says what is known when it fails.

A request that got no answer leaves one of two kinds of evidence. *Not sent*: no byte of
it left (connection refused, DNS, no free connection); it may be sent again. *Unknown*:
bytes left, then time ran out or the connection broke; for a request that costs money,
sending it again would be a guess.

Whether bytes left is told by httpx's ``trace`` extension, which httpcore calls at each
step. A transport that emits no trace (a mock, a caller's own) leaves everything but
connect and pool errors unknown.

The API key is put on the request here, at the last moment, and taken off again before
anything else can see the request: no exception and no traceback holds it.
"""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.lowlevel
import attrs
import httpx
from anyio.lowlevel import current_token

from finetuning_async._errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    InvalidRequestError,
    NotFoundError,
)
from finetuning_async._evidence import NoAnswer, Trace, Withdrawn
from finetuning_async._secrets import MASK, ApiKey, mask_query, scrub
from finetuning_async._shield import Guarded
from finetuning_async._version import __version__
from finetuning_async._wire import Answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable

    from finetuning_async._wire import Call

KEY_HEADER: Final = "X-API-Key"
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
Timeout: TypeAlias = httpx.Timeout
"""What other modules call httpx's timeouts: only this one imports httpx."""

DEFAULT_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
HEADERS: Final = {
    "Accept": "application/json",
    "User-Agent": f"finetuning-async/{__version__}",
}

CONNECTING: Final = 1.0
"""Seconds for which a cancelled read may go on until its connection is in use.

httpx 0.28 with httpcore 1.0 loses a pool slot for ever when a request is cancelled
between being given a new connection and using it."""

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")

# Before httpcore hands out a connection nothing can have left.
_BEFORE_THE_FIRST_BYTE: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
_NETWORK_ERRORS: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


@cache
def _tls_context() -> ssl.SSLContext:
    """One TLS context for the process: making one takes about 20 ms."""
    return httpx.create_ssl_context()


def check_base_url(text: str) -> str:
    """Normalise a base URL.

    Returns:
        The URL without a trailing slash.

    Raises:
        InvalidRequestError: It is no ``https`` URL, nor an ``http`` one to a loopback
            address: the key would cross the network in clear.
    """
    try:
        url = urlsplit(text.strip())
        is_plain = not (url.username or url.password or url.query or url.fragment)
        if is_plain and _is_secure(url) and httpx.URL(url.geturl()).host:
            return url.geturl().rstrip("/")
    except (ValueError, httpx.InvalidURL):
        pass
    raise InvalidRequestError(
        "base_url",
        (mask_query(text.strip()) or "").removesuffix("?****"),
        "an https:// URL (http:// only for localhost, 127.0.0.1 and [::1]), since the"
        " API key goes with every request",
    )


def _check_media_url(text: str) -> str:
    try:
        if _is_secure(urlsplit(text.strip())) and httpx.URL(text.strip()).host:
            return text.strip()
    except (ValueError, httpx.InvalidURL):
        pass
    raise InvalidRequestError("url", mask_query(text), "an https:// URL of a file")


def _is_secure(url: SplitResult) -> bool:
    """Whether a key may go there.

    Raises:
        ValueError: The port is none.
    """
    if not url.hostname or url.port == 0:
        return False
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)


def as_timeout(value: float | httpx.Timeout | None) -> httpx.Timeout:
    """Turn the `request_timeout` of a client into httpx's form; `None` is no limit."""
    return value if isinstance(value, httpx.Timeout) else httpx.Timeout(value)


class Pool:
    """The connections of a client and of its `with_options` views.

    Makes its `httpx.AsyncClient` at the first request. One that the caller gave is used
    as it is, and never closed here.

    Attributes:
        is_closed: Whether `aclose` was called.
        is_traced: Whether the transport is known to tell when bytes leave.
    """

    def __init__(self, http_client: httpx.AsyncClient | None) -> None:
        self._given = http_client
        self._own: httpx.AsyncClient | None = None
        self._loop: object = None
        self.is_closed: bool = False
        self.is_traced: bool = http_client is None

    def client(self) -> httpx.AsyncClient:
        """The client to send with.

        Raises:
            ClientClosedError: It was closed.
        """
        if self.is_closed:
            raise ClientClosedError("the client is closed; make a new AsyncClient")
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = httpx.AsyncClient(
                verify=_tls_context(),
                limits=httpx.Limits(max_connections=100, max_keepalive_connections=100),
            )
        return self._own

    def enter_loop(self) -> None:
        """Drop the connections if they belong to an event loop that has ended."""
        loop = current_token().native_token
        if loop is not self._loop:
            self._loop, self._own = loop, None

    async def aclose(self) -> None:
        """Close the connections made here. A second call does nothing."""
        self.is_closed = True
        own, self._own = self._own, None
        if own is not None:
            await own.aclose()


@attrs.frozen(kw_only=True, eq=False)
class Transport:
    """Sends calls to one base URL with one key.

    Attributes:
        pool: The connections, shared with other views.
        base_url: Without a trailing slash.
        key: The API key; `None` sends none.
        timeout: For one attempt on the wire.
    """

    pool: Pool
    base_url: str
    key: ApiKey | None
    timeout: httpx.Timeout

    async def send(
        self,
        call: Call,
        *,
        seconds_left: float | None = None,
        still_wanted: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Send one call and read its answer whole.

        Args:
            call: What to send.
            seconds_left: A bound on each step of the attempt, beside `timeout`.
            still_wanted: Asked right before the first byte leaves, of a call that is
                not repeatable; if not, it is not sent.

        Raises:
            NoAnswer: There is none; it says what is known.
            ClientClosedError: The client was closed.
        """
        timeout = _capped(self.timeout, seconds_left)
        if call.repeatable and self.pool.is_traced:
            return await self._send_held(call, timeout)
        return await self._send(call, timeout, Trace(still_wanted))

    async def _send_held(self, call: Call, timeout: httpx.Timeout) -> Answer:
        """Send; cancelled before the first byte left, in a way that the pool bears."""

        async def work(guarded: Guarded[Answer]) -> Answer:
            await anyio.lowlevel.checkpoint_if_cancelled()
            trace = Trace(lambda: not guarded.caller_left, guarded.release)
            with guarded.held():
                return await self._send(call, timeout, trace)
            await anyio.sleep_forever()  # the caller was cancelled, and so is this
            raise AssertionError("unreachable")

        return await Guarded(work, grace=CONNECTING).run()

    async def _send(self, call: Call, timeout: httpx.Timeout, trace: Trace) -> Answer:
        client = self.pool.client()
        request = _build(client, self.base_url, call, timeout, trace)
        failure: NoAnswer | None = None
        response: httpx.Response | None = None
        sent_at = anyio.current_time()
        try:
            with anyio.move_on_after(_sum(timeout)):
                if self.key is not None and call.needs_key:
                    request.headers[KEY_HEADER] = self.key.reveal()
                response = await client.send(request, follow_redirects=False)
        except Exception as error:
            failure = self._no_answer(call, trace, error)
        except BaseException as cancelled:
            _forget_frames(cancelled)
            raise
        finally:
            request.headers.pop(KEY_HEADER, None)
            self.pool.is_traced |= trace.seen
        if failure is not None:  # out of the handler, so that no context clings to it
            raise failure
        if response is None:
            raise _too_slow(trace, timeout)
        return Answer(
            status=response.status_code,
            headers=dict(response.headers.items()),
            content=response.content,
            sent_at=sent_at,
            received_at=anyio.current_time(),
        )

    def _no_answer(self, call: Call, trace: Trace, error: Exception) -> NoAnswer:
        """Say what an exception of the HTTP library proves.

        Raises:
            Exception: The error itself, where it is none of the network's and nothing
                can be lost by showing it: a bug in a transport of the caller's.
        """
        if not isinstance(error, (*_NETWORK_ERRORS, Withdrawn)) and call.repeatable:
            _forget_frames(error)
            raise error
        text = str(error).partition("\n")[0]
        if self.key is not None:
            text = text.replace(self.key.reveal(), MASK)
        name = type(error).__name__.removeprefix("_")
        return NoAnswer(
            trace.evidence(proves_unsent=isinstance(error, _BEFORE_THE_FIRST_BYTE)),
            timed_out=isinstance(error, httpx.TimeoutException | TimeoutError),
            reason=f"{name}: {scrub(text)}" if text else name,
        )

    @asynccontextmanager
    async def stream(
        self, url: str, *, offset: int = 0, tag: str | None = None
    ) -> AsyncGenerator[MediaStream]:
        """Open a file of the media host. The API key does not go with it.

        Args:
            url: Where it is, as the service gave it; redirects are followed.
            offset: From which byte; the host may start at 0 all the same.
            tag: The ``ETag`` of the part that is already there.

        Raises:
            InvalidRequestError: The URL is none of ``https``.
            APIStatusError: The host refused.
            APIConnectionError: It could not be reached, or the stream broke.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": HEADERS["User-Agent"]}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if tag is not None:
                headers["If-Range"] = tag
        broken: Exception | None = None
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(
                    self.pool.client().stream(
                        "GET",
                        _check_media_url(url),
                        headers=headers,
                        follow_redirects=True,
                        timeout=self.timeout,
                    )
                )
            except _NETWORK_ERRORS as error:
                broken = error
            if broken is None:
                yield MediaStream(response)
        if broken is not None:
            raise _broken_stream(urlsplit(url).hostname, broken)


class MediaStream:
    """A file of the media host while it arrives.

    Attributes:
        host: Who sends it.
        offset: Where the bytes begin.
        total: The length of the whole file, in bytes, if the host says.
        tag: Its ``ETag``, if that is a strong one.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.host = response.url.host
        if response.status_code not in {200, 206}:
            raise _refused_file(response)
        self._response = response
        self.offset, self.total = _extent(response)
        tag = response.headers.get("etag", "")
        self.tag = tag if tag.startswith('"') else None

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes as they come off the network, about 64 KiB at a time.

        Raises:
            APIConnectionError: The stream broke.
        """
        broken: Exception | None = None
        source = self._response.aiter_bytes()
        while broken is None:
            try:
                chunk = await anext(source)
            except StopAsyncIteration:
                return
            except _NETWORK_ERRORS as error:
                broken = error
            else:
                yield chunk
        raise _broken_stream(self.host, broken)


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """Where a response begins in the file, and how long the file is.

    ``Content-Range: bytes 500-999/1000`` (RFC 9110, section 14.4), else
    ``Content-Length``.
    """
    if response.status_code == 206:
        match = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        if match is not None:
            return int(match[1]), int(match[2]) if match[2].isdigit() else None
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


def _capped(timeout: httpx.Timeout, seconds: float | None) -> httpx.Timeout:
    """Bound every part of a timeout."""
    if seconds is None:
        return timeout
    return httpx.Timeout(
        **{
            part: seconds if value is None else min(value, seconds)
            for part, value in timeout.as_dict().items()
        }
    )


def _sum(timeout: httpx.Timeout) -> float:
    """Seconds that an attempt may take in all: each of its steps once.

    httpx bounds each read by itself, so an answer that drips would never end.
    """
    parts = timeout.as_dict().values()
    return sum(inf if part is None else part for part in parts)


def _build(
    client: httpx.AsyncClient,
    base_url: str,
    call: Call,
    timeout: httpx.Timeout,
    trace: Trace,
) -> httpx.Request:
    """The request, without the key."""
    headers = dict(HEADERS)
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return client.build_request(
        call.method,
        base_url + call.path,
        params=call.query or None,
        content=None if call.body is None else json.dumps(call.body).encode(),
        headers=headers,
        extensions={"timeout": timeout.as_dict(), "trace": trace},
    )


def _too_slow(trace: Trace, timeout: httpx.Timeout) -> NoAnswer:
    return NoAnswer(
        trace.evidence(),
        timed_out=True,
        reason=f"the answer did not end within {_sum(timeout):g} s",
    )


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an exception and of those behind it.

    Frames of the HTTP library hold the key in their locals, and a report of a crash may
    show them.
    """
    links: list[BaseException | None] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [link.__cause__, link.__context__]
