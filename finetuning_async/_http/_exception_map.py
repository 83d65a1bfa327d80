"""What an exception of the HTTP library means, and how to strip its secrets."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from finetuning_async._http._http_library import Library

_TRANSIENT_TLS_ERRORS: Final = (
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    ssl.SSLSyscallError,
)
"""TLS errors that only say that the connection broke."""

_PROXY_REFUSAL: Final = re.compile(r"4(?!08|2[59])\d\d\b")
"""The library's text when a proxy refuses a tunnel for good; 408, 425 and 429 may be
different next time."""


def permanent_failure_advice(error: Exception, library: Library) -> str | None:
    """What to do about a failure that a retry cannot mend.

    It goes by the kind of the exception, not by its text: any TLS error while
    connecting is permanent, unless the connection merely broke.

    Args:
        error: The exception.
        library: The library that raised it.

    Returns:
        Advice for the error message; `None` if a retry may succeed.
    """
    if isinstance(error, library.url_errors):
        return "check the URL"
    if isinstance(error, library.proxy_errors) and _PROXY_REFUSAL.match(str(error)):
        return (
            "check the URL and the login of the proxy: proxy=, or HTTPS_PROXY and"
            " ALL_PROXY"
        )
    if not isinstance(error, library.connect_errors):
        return None  # on an open connection a TLS error is a broken connection
    causes = [link for link in _chain(error) if isinstance(link, ssl.SSLError)]
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in causes):
        return (
            "the certificate was not accepted. If a proxy or a private authority issued"
            " it, pass its certificates with verify= or SSL_CERT_FILE; else check this"
            " machine's clock, and which server responds at that address"
        )
    if causes and not any(isinstance(link, _TRANSIENT_TLS_ERRORS) for link in causes):
        return "check that an https server with a current TLS version listens there"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and all causes and contexts behind it."""
    links: list[BaseException | None] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            links += [link.__cause__, link.__context__]
            yield link


def clear_tracebacks(error: BaseException) -> None:
    """Drop the tracebacks of an exception and of all behind it.

    Frames of the HTTP library hold the API key in their locals, which crash reporters
    capture.
    """
    for link in _chain(error):
        link.__traceback__ = None
