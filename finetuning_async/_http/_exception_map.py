"""What exceptions of the HTTP library say, and what they must not show."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning_async._http._http_library import Library

_MAY_PASS: Final = (
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)
"""Errors of TLS that say no more than that the connection broke."""

_REFUSED_BY_PROXY: Final = re.compile(r"4(?!08|2[59])\d\d\b")
"""What the library says when a proxy will not open a tunnel; 408, 425 and 429 pass."""


def lasting_problem(error: Exception, library: Library) -> str | None:
    """What to do about a failure that will be the same next time; `None` if it may not.

    By what kind it is, not by its text: whatever TLS says of the other side while
    connecting lasts, but for a connection that broke.

    Args:
        error: What was raised.
        library: Who raised it.
    """
    if isinstance(error, library.unusable_urls):
        return "check the URL"
    if isinstance(error, library.proxies) and _REFUSED_BY_PROXY.match(str(error)):
        return "check the proxy and its login: proxy=, or HTTPS_PROXY and ALL_PROXY"
    if not isinstance(error, library.connecting):
        return None  # later, TLS breaks like any connection
    causes = [link for link in _links(error) if isinstance(link, ssl.SSLError)]
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in causes):
        return (
            "the certificate is not accepted. If a proxy or an authority of your own"
            " made it, name its certificates with verify= or SSL_CERT_FILE; else see"
            " whether this machine's clock is right, and who answers there"
        )
    if causes and not any(isinstance(link, _MAY_PASS) for link in causes):
        return "see whether an https service answers there, with a usual version of TLS"
    return None


def _links(error: BaseException) -> Iterator[BaseException]:
    """An exception and those behind it."""
    links: list[BaseException | None] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            links += [link.__cause__, link.__context__]
            yield link


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an exception and of those behind it.

    Frames of the HTTP library hold the key in their locals, and a report of a crash may
    show them.
    """
    for link in _links(error):
        link.__traceback__ = None
