"""From a file's URL to the response that carries it, redirect by redirect.

Each URL on the way is checked like the first. Otherwise a media host, or an
attacker who controls it, could make this program fetch from inside its own network.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from finetuning_async._errors import APIConnectionError, InvalidRequestError
from finetuning_async._http import _cookies
from finetuning_async._http._delivery import SendTracker
from finetuning_async._http._http_clients import LOOPBACK
from finetuning_async._secrets import mask_query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async._http._http_clients import ClientPool, PooledClient
    from finetuning_async._http._http_library import Library

MAX_REDIRECTS: Final = 10
"""Redirects that are followed, as many as the vendor's program follows."""

_PORTS: Final = range(1, 1 << 16)


def check_media_url(text: str, base_url: str, library: Library) -> Any:
    """Check the URL of a file.

    Args:
        text: As the service sent it.
        base_url: The base URL of the API.
        library: Fetches the file.

    Returns:
        The URL, in the library's class.

    Raises:
        InvalidRequestError: No file may be fetched from there.
    """
    try:
        url = library.url(text.strip())
        if _may_be_fetched(url, base_url):
            return url
    except (ValueError, *library.url_errors):  # half a surrogate pair is a ValueError
        pass
    raise InvalidRequestError(
        "url",
        mask_query(text),
        "an https:// URL of a file on a public host, without a login",
    )


@asynccontextmanager
async def follow_redirects(
    pool: ClientPool, pooled: PooledClient, request: Any, base_url: str
) -> AsyncGenerator[Any]:
    """Send a request, and follow its redirects.

    Args:
        pool: The pool of the client.
        pooled: The client that sends it.
        request: A request for a URL that was checked.
        base_url: The base URL of the API.

    Yields:
        The first response that is no redirect; its body is still to be read.

    Raises:
        APIConnectionError: A redirect leads where no file may be fetched from, or there
            are too many.
        Exception: One of `Library.network_errors`: there is no response.
    """
    first_host: str = request.url.host
    options: dict[str, None] = {}
    for _ in range(MAX_REDIRECTS + 1):
        async with _response(pool, pooled, request, **options) as response:
            request = response.next_request
            if request is None:
                yield response
                return
        if not _may_be_fetched(request.url, base_url):
            raise _refused_redirect(
                first_host, f"was redirected to {_origin(request.url)}"
            )
        # The library copies the cookies and the login of the first request. Only the
        # cookies that the program itself set for the new host may go there.
        request.headers.pop("cookie", None)
        pooled.client.cookies.set_cookie_header(request)
        options = {"auth": None}
    raise _refused_redirect(
        first_host, f"was redirected more than {MAX_REDIRECTS} times"
    )


@asynccontextmanager
async def _response(
    pool: ClientPool, pooled: PooledClient, request: Any, **options: None
) -> AsyncGenerator[Any]:
    """Send one request; its response is closed at the end of the block.

    If a hook of the caller's calls `raise_for_status`, the response is used all the
    same: what its status means is decided where it is read.
    """
    tracker = SendTracker(lambda: True)
    request.extensions = {**request.extensions, "trace": tracker}
    request.stream = pool.library.BytesBody()
    try:
        try:
            response = await _cookies.send(
                pooled.client, request, stream=True, **options
            )
        except pool.library.status_errors as error:
            response = error.response
        try:
            yield response
        finally:
            await response.aclose()
    except Exception:  # the library has released the connection
        raise
    except BaseException:
        if not tracker.connection_released:
            await pool.discard(pooled, tracker)
        raise


def _may_be_fetched(url: Any, base_url: str) -> bool:
    """Whether a file may come from a URL.

    Not from inside a network, unless the API is on this machine too, as in tests.
    """
    host, base = url.raw_host.decode("ascii"), urlsplit(base_url).hostname
    if not host or url.userinfo or (url.port or 443) not in _PORTS or url.port == 0:
        return False
    is_local = base in LOOPBACK
    if url.scheme == "http":
        return is_local and host in LOOPBACK
    return url.scheme == "https" and (is_local or host == base or is_public(host))


def is_public(host: str) -> bool:
    """Whether a host is on the public internet, as far as its name or address shows.

    Names are not resolved: behind some VPNs and proxies all have private addresses.

    >>> [is_public(host) for host in ("media.example", "8.8.8.8", "2001:4860::8888")]
    [True, True, True]
    >>> [is_public(host) for host in ("localhost.", "0x7f.1", "::ffff:10.0.0.1")]
    [False, False, False]
    """
    name = host.rstrip(".").lower()
    address = _address(name)
    if address is not None:
        return _is_global(address)
    return name != "localhost" and not name.endswith(".localhost")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a resolver would read a host as, without a lookup."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except (OSError, ValueError):  # UnicodeEncodeError is a ValueError
        return None


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return _is_global(inner)
        if address.is_site_local:
            return False
    is_special = address.is_multicast or address.is_reserved
    return address.is_global and not is_special


def _origin(url: Any) -> str:
    """Scheme, host and port of a URL; the rest may be secret."""
    host = url.raw_host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}" + ("" if url.port is None else f":{url.port}")


def _refused_redirect(host: str, what: str) -> APIConnectionError:
    return APIConnectionError(
        f"the download from {host} {what}; only up to {MAX_REDIRECTS} redirects to"
        " https:// URLs of public hosts are followed. Read the track again for a fresh"
        " URL"
    )
