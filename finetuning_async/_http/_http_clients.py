"""Where requests go, and the connections that they share."""

from __future__ import annotations

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
    """Normalise a base URL.

    Returns:
        The URL without a trailing slash.

    Raises:
        InvalidRequestError: It is no ``https`` URL, nor an ``http`` one to a loopback
            address: the key would cross the network in clear. Or it has a login, a
            query or a fragment, which no request could keep.
    """
    if not isinstance(text, str):
        raise InvalidRequestError("base_url", text, "text")
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
        "an https:// URL without login and query (http:// only for localhost, 127.0.0.1"
        " and [::1]); the API key goes with every request",
    )


def is_secure(url: SplitResult) -> bool:
    """Whether a key may go there.

    Raises:
        ValueError: The port is none.
    """
    if not url.hostname or url.port == 0:
        return False
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)


AT_ONCE: Final = 10
"""Requests that one client of httpx sends at a time, if it is of our own.

At each begin and end of a request its pool walks through all of its connections, which
makes a hundred times the work of a hundred; so there are several with a few each."""

REMEMBERED: Final = 1000
"""Ids of tracks: an answer that went astray is that to a request of a moment ago."""


class Recent:
    """The texts added last, each once.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: dict[str, None] = {}

    def __contains__(self, text: object) -> bool:
        return text in self._texts

    def add(self, text: str) -> None:
        """Keep a text, in the place of the oldest."""
        self._texts.pop(text, None)
        self._texts[text] = None
        if len(self._texts) > self._most:
            del self._texts[next(iter(self._texts))]


class Lent:
    """A client of the HTTP library, and how many requests use it.

    Args:
        client: It.
    """

    __slots__ = ("client", "users")

    def __init__(self, client: Any) -> None:
        self.client: Any = client
        self.users: int = 0


class ClientPool:
    """The connections of a client and of its `with_options` views.

    Makes an `httpx.AsyncClient` at the first call, and more where many requests are
    sent at once. One that the caller gave is used as it is, and never closed here.

    Args:
        http_client: The caller's, if any.
        connecting: How connections are made, if not in the usual way.

    Raises:
        InvalidRequestError: Both were given, or it is another kind of client.

    Attributes:
        library: What the client is of.
        is_given: Whether the client is the caller's.
        keeps_few: Whether it is likely to keep few connections.
        is_closed: Whether `aclose` was called.
        is_traced: Whether the transport is known to tell when bytes leave.
        tracks: The ids that requests over these connections were about, of late.
    """

    def __init__(
        self, http_client: HTTPClient | None, connecting: ConnectionConfig | None = None
    ) -> None:
        library = HTTPX if http_client is None else library_of(http_client)
        if library is None:
            raise InvalidRequestError(
                "http_client", http_client, "an AsyncClient of httpx or httpx2"
            )
        self._connecting = connecting or ConnectionConfig()
        if http_client is not None and not self._connecting.is_default:
            raise InvalidRequestError(
                "http_client",
                http_client,
                "given without proxy=, verify= and trust_env=, for it has its own;"
                " set them on it",
            )
        self.library: Library = library
        self.is_given: bool = http_client is not None
        self.keeps_few: bool = self.is_given and library is HTTPX
        self._open = [] if http_client is None else [Lent(http_client)]
        self._retired: list[Lent] = []
        self._context: ssl.SSLContext | None = None
        self._loop: object = None
        self._checked: set[str] = set()
        self._headers: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self.is_closed: bool = False
        self.is_traced: bool = False
        self.tracks: Recent = Recent(REMEMBERED)
        if http_client is None:
            # httpx loads it at the first call, which would stand still meanwhile.
            import httpcore  # noqa: F401

    def check_open(self) -> None:
        """Check that requests may be sent.

        Raises:
            ClientClosedError: `aclose` was called.
        """
        if self.is_closed:
            raise ClientClosedError("the client is closed; make a new AsyncClient")

    def lend(self) -> Lent:
        """The client to send with, until `take_back`.

        Raises:
            ClientClosedError: It was closed.
        """
        self.check_open()
        for lent in self._open:
            if lent.users < AT_ONCE or self.is_given:
                break
        else:
            lent = self._new()
        lent.users += 1
        return lent

    def _new(self) -> Lent:
        if self._context is None:
            self._context = self._connecting.tls()
        lent = Lent(self._connecting.new_client(self._context))
        self._open.append(lent)
        return lent

    def headers(self, client: Any, method: str, base_url: str, ours: Any) -> Any:
        """The headers of a request by a client that was lent, but for what is secret.

        Ours stand in the place of those of the caller's client. They are mostly what
        they were at the last call, the length of the content aside.
        """
        raw = client.headers.raw if self.is_given else ()
        key = (method, base_url, id(ours))
        last = self._headers.get(key)
        if last is None or last[0] != raw:
            merged = self.library.Headers(raw)
            merged.update(ours)
            made = self.library.Request(method, base_url, headers=merged)
            last = self._headers[key] = raw, made.headers
        return last[1]

    async def take_back(self, lent: Lent) -> None:
        """Say that a request is over."""
        lent.users -= 1
        if self._retired:
            await self.close_retired()

    @asynccontextmanager
    async def using(self) -> AsyncGenerator[Lent]:
        """The client to send with, in this block.

        Raises:
            ClientClosedError: It was closed.
        """
        lent = self.lend()
        try:
            yield lent
        finally:
            await self.take_back(lent)

    def retire(self, lent: Lent | None = None) -> None:
        """Send what comes now over fresh connections; a caller's client stays.

        What is under way is heard to its end. For two reasons: a response that belongs
        to another request came over them; or a request was cancelled while it
        connected, by which httpcore 1.0 loses track of a connection for ever
        (https://github.com/encode/httpcore/issues/1093).

        Args:
            lent: What they belong to; `None` for all.
        """
        if not self.is_given:
            old = self._open if lent is None else [lent]
            self._retired += [each for each in old if each in self._open]
            self._open = [each for each in self._open if each not in old]

    async def abandon(self, lent: Lent, trace: SendTracker) -> None:
        """Clean up after a request that was cancelled, and whose connection is lost."""
        self.retire(lent)
        if trace.opened is not None:  # httpcore forgets it if TLS was under way
            with anyio.CancelScope(shield=True):  # it is closed before the first await
                await trace.opened.aclose()

    async def close_retired(self) -> None:
        """Close the clients that were retired and that no request uses any more."""
        over = [lent for lent in self._retired if not lent.users]
        self._retired = [lent for lent in self._retired if lent.users]
        for lent in over:
            await run_to_completion(lent.client.aclose)

    def enter_loop(self, base_url: str) -> None:
        """Drop the connections if they belong to an event loop that has ended.

        Args:
            base_url: Where requests are to go.

        Raises:
            InvalidRequestError: None can be made, as the environment stands. It is said
                here, where no request is on its way yet.
        """
        loop = current_token().native_token
        if loop is not self._loop:
            self._loop, self._retired = loop, []
            if not self.is_given:
                self._open = []
        if not (self.is_given or self.is_closed or base_url in self._checked):
            self._connecting.check(base_url)
            self._checked.add(base_url)

    async def aclose(self) -> None:
        """Close the connections made here; a second call does nothing.

        What a request still uses is closed at its end; the library would forget it.
        """
        self.is_closed = True
        self.retire()
        await self.close_retired()
