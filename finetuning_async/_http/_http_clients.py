"""The HTTP library's clients, and the connections that requests share.

httpcore 1.0 has two faults that a pool of clients works around (httpx2 has neither):

- A request that is cancelled while it connects takes a place in httpcore's pool forever
  (https://github.com/encode/httpcore/issues/1093). So the client that it used is
  *retired*: new requests go to a fresh one, and the old one is closed when its last
  request has ended.
- Its pool becomes slow with hundreds of concurrent requests. So there are several
  clients, with a few requests each.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

import anyio
import httpx
from anyio.lowlevel import current_token

from finetuning_async._errors import ClientClosedError, InvalidRequestError
from finetuning_async._http._connection_config import ConnectionConfig
from finetuning_async._http._http_library import HTTPX, library_of
from finetuning_async._runtime import run_to_completion
from finetuning_async._secrets import mask_query

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from finetuning_async._http._delivery import SendTracker
    from finetuning_async._http._http_library import HTTPClient, Library

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_base_url(text: str) -> str:
    """Check a base URL.

    Returns:
        The URL without a trailing slash.

    Raises:
        InvalidRequestError: It is neither ``https`` nor ``http`` to a loopback address,
            where the key would cross the network in clear; or it has a login, a query
            or a fragment, which no request could keep.
    """
    if not isinstance(text, str):
        raise InvalidRequestError("base_url", text, "a string")
    try:
        url = urlsplit(text.strip())
        is_plain = not (url.username or url.password or url.query or url.fragment)
        if is_plain and is_secure(url) and httpx.URL(url.geturl()).host:
            return url.geturl().rstrip("/")
    except (ValueError, httpx.InvalidURL):
        pass
    raise InvalidRequestError(
        "base_url",
        (mask_query(text.strip()) or "").removesuffix("?****"),
        "an https:// URL without a login or query (http:// only for localhost,"
        " 127.0.0.1 and [::1]); the API key goes with every request",
    )


def is_secure(url: SplitResult) -> bool:
    """Whether the API key may be sent to a URL.

    Raises:
        ValueError: The port is not a number from 0 to 65535.
    """
    if not url.hostname or url.port == 0:
        return False
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)


REQUESTS_PER_CLIENT: Final = 10
"""Requests that one httpx client of our own sends at a time.

Whenever a request begins or ends, httpcore's pool walks through all of its connections,
so the cost of n concurrent requests on one client grows with n squared."""

RECENT_IDS: Final = 1000
"""Track ids that are remembered. A response that belongs to another request belongs to
a recent one."""


class RecentIds:
    """The ids that were added last, each once.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: dict[str, None] = {}

    def __contains__(self, track_id: object) -> bool:
        return track_id in self._ids

    def add(self, track_id: str) -> None:
        """Add an id, or move it to the end; drop the oldest if there are too many."""
        self._ids.pop(track_id, None)
        self._ids[track_id] = None
        if len(self._ids) > self._size:
            del self._ids[next(iter(self._ids))]


_left_to_parents: list[PooledClient] = []
"""Clients that a fork has copied: their connections are the parent's."""


class PooledClient:
    """A client of the HTTP library, and how many requests use it.

    Args:
        client: The client.
    """

    __slots__ = ("client", "users")

    def __init__(self, client: Any) -> None:
        self.client: Any = client
        self.users: int = 0


class ClientPool:
    """The connections of an `AsyncClient` and of its `with_options` views.

    Makes an `httpx.AsyncClient` at the first call, and more for many concurrent
    requests. A client that the caller passed is used as it is, and never closed here.

    Args:
        http_client: The caller's client, if any.
        config: How connections are made, if not by default.

    Raises:
        InvalidRequestError: Both were given, or `http_client` is not an `AsyncClient`.

    Attributes:
        library: The HTTP library of the client.
        is_external: Whether the client is the caller's.
        keeps_few: Whether the client is likely to keep few connections alive.
        is_closed: Whether `aclose` was called.
        is_traced: Whether the transport is known to call trackers.
        recent_ids: Tracks that recent requests over these connections were about.
    """

    def __init__(
        self, http_client: HTTPClient | None, config: ConnectionConfig | None = None
    ) -> None:
        library = HTTPX if http_client is None else library_of(http_client)
        if library is None:
            raise InvalidRequestError(
                "http_client", http_client, "an AsyncClient of httpx or httpx2"
            )
        self._config = config or ConnectionConfig()
        if http_client is not None and not self._config.is_default:
            raise InvalidRequestError(
                "http_client",
                http_client,
                "given without proxy=, verify= or trust_env=; set them on the client"
                " itself",
            )
        self.library: Library = library
        self.is_external: bool = http_client is not None
        self.keeps_few: bool = self.is_external and library is HTTPX
        self._open = [] if http_client is None else [PooledClient(http_client)]
        self._retired: list[PooledClient] = []
        self._context: ssl.SSLContext | None = None
        self._loop: object = None
        self._process = os.getpid()
        self._checked: set[str] = set()
        self._headers: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self.is_closed: bool = False
        self.is_traced: bool = False
        self.recent_ids: RecentIds = RecentIds(RECENT_IDS)
        if http_client is None:
            # httpx imports it at the first call, and would block the event loop then.
            import httpcore  # noqa: F401

    def check_open(self) -> None:
        """Check that the pool is open.

        Raises:
            ClientClosedError: `aclose` was called.
        """
        if self.is_closed:
            raise ClientClosedError("the client is closed; make a new AsyncClient")

    def acquire(self) -> PooledClient:
        """A client for one request, until `release`.

        Raises:
            ClientClosedError: The pool was closed.
        """
        self.check_open()
        for pooled in self._open:
            if pooled.users < REQUESTS_PER_CLIENT or self.is_external:
                break
        else:
            pooled = self._new()
        pooled.users += 1
        return pooled

    def _new(self) -> PooledClient:
        if self._context is None:
            self._context = self._config.tls()
        pooled = PooledClient(self._config.new_client(self._context))
        self._open.append(pooled)
        return pooled

    def headers(self, client: Any, method: str, base_url: str, ours: Any) -> Any:
        """The headers of a request, without the secret ones.

        Ours override those of a caller's client. The result is cached: apart from the
        length of the content, headers rarely change between calls, and making them
        costs more than comparing them.

        Args:
            client: The client that sends the request.
            method: The HTTP method.
            base_url: The base URL of the API, which the ``Host`` header names.
            ours: `Library.plain_headers` or `Library.json_headers`.
        """
        raw = client.headers.raw if self.is_external else ()
        key = (method, base_url, id(ours))
        last = self._headers.get(key)
        if last is None or last[0] != raw:
            merged = self.library.Headers(raw)
            merged.update(ours)
            made = self.library.Request(method, base_url, headers=merged)
            last = self._headers[key] = raw, made.headers
        return last[1]

    async def release(self, pooled: PooledClient) -> None:
        """End the use of a client by one request."""
        pooled.users -= 1
        if self._retired:
            await self.close_retired()

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[PooledClient]:
        """A client for one request, in a block.

        Raises:
            ClientClosedError: The pool was closed.
        """
        pooled = self.acquire()
        try:
            yield pooled
        finally:
            await self.release(pooled)

    def retire(self, pooled: PooledClient | None = None) -> None:
        """Send new requests over fresh connections; a caller's client stays in use.

        There are two reasons to retire a client. A request was cancelled while it
        connected, which takes a place in httpcore's pool forever. Or a response of
        another request came over one of its connections: then none can be trusted.

        Requests in flight keep the retired client, since closing it would cut off
        their responses, and with them the id of a track that is paid for.

        Args:
            pooled: The client; `None` for all.
        """
        if not self.is_external:
            old = self._open if pooled is None else [pooled]
            # Each goes on the list once, though several of its requests may fail.
            self._retired += [each for each in old if each in self._open]
            self._open = [each for each in self._open if each not in old]

    async def discard(self, pooled: PooledClient, tracker: SendTracker) -> None:
        """Clean up after a cancelled request that did not release its connection."""
        self.retire(pooled)
        if tracker.open_stream is not None:
            # Cancelled during the TLS handshake, httpcore forgets the TCP stream, and
            # closing its client would not close it. `aclose` of the stream closes it
            # before its first await, so the shield cannot hang.
            with anyio.CancelScope(shield=True):
                await tracker.open_stream.aclose()

    async def close_retired(self) -> None:
        """Close the retired clients that no request uses any more."""
        idle = [pooled for pooled in self._retired if not pooled.users]
        # Taken off the list before the await: another task may get here meanwhile.
        self._retired = [pooled for pooled in self._retired if pooled.users]
        for pooled in idle:
            await run_to_completion(pooled.client.aclose)

    def enter_loop(self, base_url: str) -> None:
        """Drop the connections if they belong to an event loop that has ended.

        Args:
            base_url: Where requests will go.

        Raises:
            InvalidRequestError: The environment names an invalid proxy for it. It is
                raised here, before any request is sent.
        """
        loop = current_token().native_token
        if loop is not self._loop:
            if self._process != os.getpid():
                # In a forked child they would be reported as unclosed.
                _left_to_parents.extend([*self._open, *self._retired])
            self._loop, self._retired, self._process = loop, [], os.getpid()
            if not self.is_external:
                self._open = []
        if not (self.is_external or self.is_closed or base_url in self._checked):
            self._config.check(base_url)
            self._checked.add(base_url)

    async def aclose(self) -> None:
        """Close our own connections; a second call does nothing.

        A client that a request still uses is closed when the request ends: httpx would
        forget the connection instead of closing it.
        """
        self.is_closed = True
        self.retire()
        await self.close_retired()
