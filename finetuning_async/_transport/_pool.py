"""Where requests go, and the connections that they share."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import anyio
import httpx
from anyio.lowlevel import current_token

from finetuning_async._checks import python_number
from finetuning_async._errors import ClientClosedError, InvalidRequestError
from finetuning_async._secrets import mask_query
from finetuning_async._transport._connecting import Connecting
from finetuning_async._transport._cookies import no_cookies
from finetuning_async._transport._untouched import State, look
from finetuning_async._version import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from finetuning_async._transport._direct import Direct

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
Timeout: TypeAlias = httpx.Timeout
"""What other modules call httpx's timeouts: only this package imports httpx."""

USER_AGENT: Final = (
    f"finetuning-async/{__version__}"
    f" python/{'.'.join(map(str, sys.version_info[:3]))} httpx/{httpx.__version__}"
)
HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",  # what can be unpacked in small steps
    "User-Agent": USER_AGENT,
}
_FOR_EVER: Final = 1e12
"""Seconds; so many, or what no `float` can hold, are no limit."""
DEFAULT_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)


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
        " and [::1]), since the API key goes with every request",
    )


def is_secure(url: SplitResult) -> bool:
    """Whether a key may go there.

    Raises:
        ValueError: The port is none.
    """
    if not url.hostname or url.port == 0:
        return False
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)


def as_timeout(value: float | httpx.Timeout | None) -> httpx.Timeout:
    """Turn the `request_timeout` of a client into httpx's form; `None` is no limit.

    Raises:
        InvalidRequestError: It is not above 0, NaN, or no number.
    """
    if isinstance(value, httpx.Timeout):
        return value
    seconds = python_number(value)
    if value is None or (seconds is not None and seconds > 0):
        is_limit = seconds is not None and seconds < _FOR_EVER
        return httpx.Timeout(seconds if is_limit else None)
    raise InvalidRequestError(
        "request_timeout", value, "seconds above 0, an httpx.Timeout, or None"
    )


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


class Pool:
    """The connections of a client and of its `with_options` views.

    Makes its `httpx.AsyncClient` at the first call. One that the caller gave is used
    as it is, and never closed here.

    Args:
        http_client: The caller's, if any.
        connecting: How connections are made, if not in the usual way.

    Raises:
        InvalidRequestError: Both were given, or it is another kind of client.

    Attributes:
        is_closed: Whether `aclose` was called.
        is_traced: Whether the transport is known to tell when bytes leave.
        tracks: The ids that requests over these connections were about, of late.
    """

    def __init__(
        self,
        http_client: httpx.AsyncClient | None,
        connecting: Connecting | None = None,
    ) -> None:
        if http_client is not None and not isinstance(http_client, httpx.AsyncClient):
            raise InvalidRequestError("http_client", http_client, "httpx.AsyncClient")
        self._given = http_client
        self._connecting = connecting or Connecting()
        if http_client is not None and not self._connecting.is_default:
            raise InvalidRequestError(
                "http_client",
                http_client,
                "given without proxy=, verify= and trust_env=, for it has its own;"
                " set them on it",
            )
        self._own: httpx.AsyncClient | None = None
        self._media: httpx.AsyncClient | None = None
        self._users: Counter[httpx.AsyncClient] = Counter()
        self._retired: set[httpx.AsyncClient] = set()
        self._made_in: State | None = None
        self._direct: dict[str, Direct | None] = {}
        self._context: ssl.SSLContext | None = None
        self._loop: object = None
        self.is_closed: bool = False
        self.is_traced: bool = http_client is None
        self.tracks: Recent = Recent(REMEMBERED)
        if http_client is None:
            # It loads httpcore: not before, nor at the first call, which would stand
            # still meanwhile.
            from finetuning_async._transport._direct import Direct
            from finetuning_async._transport._media_transport import MediaTransport

            self._make_direct = Direct
            self._make_media = MediaTransport

    def client(self) -> httpx.AsyncClient:
        """The client to send with.

        Raises:
            ClientClosedError: It was closed.
        """
        if self.is_closed:
            raise ClientClosedError("the client is closed; make a new AsyncClient")
        if self._given is not None:
            return self._given
        state = look()
        if self._own is not None and state is not self._made_in:
            self._retired.add(self._own)  # made by, or beside, what stood there then
            self._own = None
        if self._own is None:
            self._own, self._made_in = self._connecting.new_client(self._tls()), state
        return self._own

    def _must_be_httpx(self) -> bool:
        """Whether somebody stands in httpx who must not be passed by.

        Asked right after `client`, which has looked.
        """
        return self._made_in is None or not self._made_in.is_untouched

    def media_client(self) -> httpx.AsyncClient:
        """The client to fetch files with: in larger pieces, where that can be.

        Raises:
            ClientClosedError: It was closed.
        """
        client = self.client()
        if self._must_be_httpx():
            return client
        if self._connecting.may_have_a_proxy("http", "https"):  # a redirect may change
            return client
        if self._media is None:
            transport = self._make_media(self._tls())
            self._media = httpx.AsyncClient(transport=transport, cookies=no_cookies())
        return self._media

    @asynccontextmanager
    async def using(self, client: httpx.AsyncClient) -> AsyncGenerator[None]:
        """Say that a client is in use; one that is retired is closed after the last."""
        self._users[client] += 1
        try:
            yield
        finally:
            self._users[client] -= 1
            await self._close_if_over(client)

    async def _close_if_over(self, client: httpx.AsyncClient) -> None:
        if self._users[client]:
            return
        del self._users[client]
        if client in self._retired:
            self._retired.remove(client)
            with anyio.CancelScope(shield=True):
                await client.aclose()

    async def retire(self) -> None:
        """Send what comes now over fresh connections, for one has lost its place.

        A response that belongs to another request came over it. What is under way is
        heard to its end. A caller's client stays.
        """
        own, self._own = self._own, None
        opened, self._direct = self._direct, {}
        for direct in opened.values():
            if direct is not None:
                await direct.aclose()
        if own is not None:
            self._retired.add(own)
            await self._close_if_over(own)

    def direct(self, base_url: str) -> Direct | None:
        """Connections of our own, or `None` if httpx is to send.

        Raises:
            ClientClosedError: The client was closed.
        """
        client = self.client()
        if self._must_be_httpx():
            return None
        if base_url not in self._direct:
            self._direct[base_url] = self._directly(client, base_url)
        return self._direct[base_url]

    def _directly(self, client: httpx.AsyncClient, base_url: str) -> Direct | None:
        """Connections to a base URL, unless a proxy may stand in between."""
        sample = client.build_request("GET", base_url, headers=HEADERS)
        if self._connecting.may_have_a_proxy(sample.url.scheme):
            return None
        return self._make_direct(sample, self._tls())

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._connecting.tls()
        return self._context

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
            self._loop, self._own, self._media, self._direct = loop, None, None, {}
            self._users.clear()
            self._retired.clear()
        if not self.is_closed and base_url not in self._direct:
            self.client()
            if self._given is None:
                self._connecting.check(base_url)

    async def aclose(self) -> None:
        """Close the connections made here. A second call does nothing."""
        self.is_closed = True
        clients = self._own, self._media, *self._retired
        self._own = self._media = None
        opened, self._direct = self._direct, {}
        for direct in opened.values():
            if direct is not None:
                await direct.aclose()
        for client in clients:
            if client is not None:
                await client.aclose()
