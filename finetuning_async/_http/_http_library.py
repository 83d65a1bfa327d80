"""The HTTP library of a client: httpx, or httpx2, whose interface is the same.

The one place that knows that there are two, and which of their exceptions prove what.
It never imports httpx2: a caller who passes a client of httpx2 has done so.
"""

from __future__ import annotations

import sys
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import httpx

from finetuning_async._version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_NAMES: Final = frozenset({"httpx", "httpx2"})


class HTTPClient(Protocol):
    """An `AsyncClient` of httpx or of httpx2."""

    def build_request(self, *args: Any, **kwargs: Any) -> Any:
        """Make a request with all that the client adds to it."""

    def send(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Send a request."""


class Library:
    """One of the two libraries: its classes, and what its exceptions prove.

    Args:
        module: The imported library.

    Attributes:
        user_agent: The ``User-Agent`` of our requests.
        plain_headers: Headers of our requests without a body, without the secret ones.
        json_headers: The same, of our requests with a body.
        Request: Its request class.
        Headers: Its class of headers.
        build_request: Its clients' method of that name, before any patch or subclass.
        BytesBody: A body class for its requests.
        url: Parses a URL into its class; cached, since the same few URLs come again
            and again.
        status_errors: Raised by a hook that calls `raise_for_status`.
        unsent_errors: Raised before a request has a connection, so that no byte of it
            can have left.
        network_errors: Raised by anything that may fail on the way.
        timeout_errors: Raised when a timeout is over.
        connect_errors: Raised when a connection could not be made.
        url_errors: Raised for a URL that cannot be used.
        proxy_errors: Raised when a proxy refuses.
    """

    def __init__(self, module: Any) -> None:
        name = f"{module.__name__}/{module.__version__}"
        python = ".".join(map(str, sys.version_info[:3]))
        self.user_agent: str = f"finetuning-async/{__version__} python/{python} {name}"
        self.Request: Any = module.Request
        self.Headers: Any = module.Headers
        plain = {
            "Accept": "application/json",
            # Not zstd or brotli: a few bytes of those may expand to megabytes.
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": self.user_agent,
        }
        self.plain_headers: Any = module.Headers(plain)
        self.json_headers: Any = module.Headers(
            plain | {"Content-Type": "application/json"}
        )
        self.build_request: Any = module.AsyncClient.build_request
        self.BytesBody: Any = _bytes_body(module.ByteStream)
        self.url: Callable[[str], Any] = lru_cache(maxsize=64)(module.URL)
        self.status_errors: tuple[Any, ...] = (module.HTTPStatusError,)
        self.url_errors: tuple[Any, ...] = (
            module.UnsupportedProtocol,
            module.InvalidURL,
        )
        self.connect_errors: tuple[Any, ...] = (module.ConnectError,)
        self.proxy_errors: tuple[Any, ...] = (module.ProxyError,)
        self.timeout_errors: tuple[Any, ...] = (module.TimeoutException, TimeoutError)
        self.unsent_errors: tuple[Any, ...] = (
            *self.url_errors,
            *self.connect_errors,
            module.ConnectTimeout,
            module.PoolTimeout,
        )
        self.network_errors: tuple[Any, ...] = (
            module.HTTPError,
            module.InvalidURL,
            module.StreamError,
            httpx.DecodingError,  # httpx decompresses bodies, whichever library sent
            OSError,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            anyio.EndOfStream,
        )

    def __repr__(self) -> str:
        return f"<Library {self.user_agent}>"


def _bytes_body(stream: Any) -> Any:
    """A subclass of the library's byte stream that needs no async generator.

    httpx iterates over a generator, which a cancellation abandons halfway; trio warns
    of that.
    """

    class BytesBody(stream):  # type: ignore[misc]  # only known here
        def __init__(self, content: bytes = b"") -> None:
            super().__init__(content)
            self._content = content

        def __aiter__(self) -> _Once:
            return _Once(self._content)

    return BytesBody


class _Once:
    """An async iterator over one chunk."""

    __slots__ = ("_chunk",)

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk

    def __aiter__(self) -> _Once:
        return self

    async def __anext__(self) -> bytes:
        chunk, self._chunk = self._chunk, b""
        if not chunk:
            raise StopAsyncIteration
        return chunk


def library_of(client: object) -> Library | None:
    """The library of a client; `None` if it is not an `AsyncClient` of either."""
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if cls.__name__ == "AsyncClient" and name in _NAMES:
            return _library(name)
    return None


@cache
def _library(name: str) -> Library:
    return Library(sys.modules[name])


HTTPX: Final = _library("httpx")
"""The library of our own clients."""
