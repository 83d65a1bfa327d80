"""What exceptions of the HTTP library say, and what they must not show."""

from __future__ import annotations

from typing import Final

import anyio
import httpx

# Before httpcore hands out a connection nothing can have left.
BEFORE_THE_FIRST_BYTE: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
NETWORK_ERRORS: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


def as_httpx(error: Exception) -> Exception:
    """The exception of httpx for one of httpcore, which has the same name."""
    kind: type[Exception] = getattr(httpx, type(error).__name__)
    return kind(str(error))


def forget_frames(error: BaseException) -> None:
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
