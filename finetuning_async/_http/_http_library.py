"""Which HTTP library a client is of: httpx, or httpx2, whose interface is the same.

The one place that knows there are two, and what their exceptions prove. httpx2 is never
imported here: whoever passes a client of it has done so.
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
    """One of the two, and what its exceptions say.

    Args:
        module: It.

    Attributes:
        user_agent: Who asks: this library, and what it stands on.
        plain: The headers of our requests without a body, but for what is secret.
        of_json: Those of our requests with one.
        Request: Its class of requests.
        Headers: Its class of headers.
        build: How its clients make a request, as its authors wrote it.
        OnePiece: A body for its requests.
        url: Makes one of its URLs of a text; the last few are kept, for the same tracks
            and lists are asked for again and again.
        status_errors: What a hook that calls `raise_for_status` raises.
        unsent: What ends a request before it was given a connection, so that nothing of
            it can have left.
        network: What may end a request on its way.
        timeouts: What says that time was over.
        connecting: What says that no connection was made.
        unusable_urls: What says that a URL leads nowhere.
        proxies: What says that a proxy refused.
    """

    def __init__(self, module: Any) -> None:
        name = f"{module.__name__}/{module.__version__}"
        python = ".".join(map(str, sys.version_info[:3]))
        self.user_agent: str = f"finetuning-async/{__version__} python/{python} {name}"
        self.Request: Any = module.Request
        self.Headers: Any = module.Headers
        plain = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",  # what can be unpacked in small steps
            "User-Agent": self.user_agent,
        }
        self.plain: Any = module.Headers(plain)
        self.of_json: Any = module.Headers(plain | {"Content-Type": "application/json"})
        self.build: Any = module.AsyncClient.build_request
        self.OnePiece: Any = _one_piece(module.ByteStream)
        self.url: Callable[[str], Any] = lru_cache(maxsize=64)(module.URL)
        self.status_errors: tuple[Any, ...] = (module.HTTPStatusError,)
        self.unusable_urls: tuple[Any, ...] = (
            module.UnsupportedProtocol,
            module.InvalidURL,
        )
        self.connecting: tuple[Any, ...] = (module.ConnectError,)
        self.proxies: tuple[Any, ...] = (module.ProxyError,)
        self.timeouts: tuple[Any, ...] = (module.TimeoutException, TimeoutError)
        self.unsent: tuple[Any, ...] = (
            *self.unusable_urls,
            *self.connecting,
            module.ConnectTimeout,
            module.PoolTimeout,
        )
        self.network: tuple[Any, ...] = (
            module.HTTPError,
            module.InvalidURL,
            module.StreamError,
            httpx.DecodingError,  # bodies are unpacked by httpx, whoever brought them
            OSError,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            anyio.EndOfStream,
        )

    def __repr__(self) -> str:
        return f"<Library {self.user_agent}>"


def _one_piece(stream: Any) -> Any:
    """A class of bodies in one piece, made of the library's own.

    httpx iterates over an async generator, which a cancellation leaves half-way: trio
    warns of it.
    """

    class OnePiece(stream):  # type: ignore[misc]  # only known here
        def __init__(self, piece: bytes = b"") -> None:
            super().__init__(piece)
            self._piece = piece

        def __aiter__(self) -> _Once:
            return _Once(self._piece)

    return OnePiece


class _Once:
    """Gives one piece."""

    __slots__ = ("_piece",)

    def __init__(self, piece: bytes) -> None:
        self._piece = piece

    def __aiter__(self) -> _Once:
        return self

    async def __anext__(self) -> bytes:
        piece, self._piece = self._piece, b""
        if not piece:
            raise StopAsyncIteration
        return piece


def library_of(client: object) -> Library | None:
    """The library of a client; `None` if it is none of these clients."""
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if cls.__name__ == "AsyncClient" and name in _NAMES:
            return _library(name)
    return None


@cache
def _library(name: str) -> Library:
    return Library(sys.modules[name])


HTTPX: Final = _library("httpx")
"""What clients of our own are of."""
