"""From a file's URL to the response that carries it, redirect by redirect.

Each is checked as the first URL is. Else a media host, or whoever stands in its place,
could have a file fetched from inside the network that this program runs in.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from finetuning_async._errors import APIConnectionError, InvalidRequestError
from finetuning_async._http import _cookies
from finetuning_async._http._delivery import SendTracker
from finetuning_async._http._http_clients import LOOPBACK
from finetuning_async._http._public_hosts import is_public
from finetuning_async._secrets import mask_query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from finetuning_async._http._http_clients import ClientPool, Lent
    from finetuning_async._http._http_library import Library

MOST_HOPS: Final = 10
"""Redirects that are followed, as many as the vendor's program does."""

_PORTS: Final = range(1, 1 << 16)


def check_media_url(text: str, base_url: str, library: Library) -> Any:
    """The URL of a file, in the form of the library.

    Args:
        text: As the service gave it.
        base_url: Of the API.
        library: Who is to fetch it.

    Raises:
        InvalidRequestError: No file is fetched from there.
    """
    try:
        url = library.url(text.strip())
        if _may_be_fetched(url, base_url):
            return url
    except (ValueError, *library.unusable_urls):  # half a surrogate pair is the former
        pass
    raise InvalidRequestError(
        "url", mask_query(text), "an https:// URL of a file on a public host, no login"
    )


@asynccontextmanager
async def arrived(
    pool: ClientPool, lent: Lent, request: Any, base_url: str
) -> AsyncGenerator[Any]:
    """Send a request, and follow where it leads.

    Args:
        pool: Whose client sends it.
        lent: That client.
        request: For a URL that was checked.
        base_url: Of the API.

    Yields:
        The response that is no redirect; its body is still to be read.

    Raises:
        APIConnectionError: It leads where no file is fetched from, or on and on.
        Exception: One of `Library.network`: there is no response.
    """
    began_at: str = request.url.host
    who: dict[str, None] = {}
    for _ in range(MOST_HOPS + 1):
        async with _response(pool, lent, request, **who) as response:
            request = response.next_request
            if request is None:
                yield response
                return
        if not _may_be_fetched(request.url, base_url):
            raise _led_astray(began_at, f"leads to {_origin(request.url)}")
        # Only what the program set itself goes along, to hosts that it is meant for.
        request.headers.pop("cookie", None)
        lent.client.cookies.set_cookie_header(request)
        who = {"auth": None}
    raise _led_astray(began_at, f"was redirected more than {MOST_HOPS} times")


@asynccontextmanager
async def _response(
    pool: ClientPool, lent: Lent, request: Any, **who: None
) -> AsyncGenerator[Any]:
    """Send one request; its response is closed at the end of the block.

    A hook of the caller's may call `raise_for_status`: what a status means is judged by
    whoever reads the response.
    """
    trace = SendTracker(lambda: True)
    request.extensions = {**request.extensions, "trace": trace}
    request.stream = pool.library.OnePiece()
    try:
        try:
            response = await _cookies.send(lent.client, request, stream=True, **who)
        except pool.library.status_errors as error:
            response = error.response
        try:
            yield response
        finally:
            await response.aclose()
    except Exception:  # after which the library cleans up
        raise
    except BaseException:
        if not trace.is_given_back:
            await pool.abandon(lent, trace)
        raise


def _may_be_fetched(url: Any, base_url: str) -> bool:
    """Whether a file may come from there; not from inside, unless the API is here."""
    host, base = url.raw_host.decode("ascii"), urlsplit(base_url).hostname
    if not host or url.userinfo or (url.port or 443) not in _PORTS or url.port == 0:
        return False
    is_here = base in LOOPBACK
    if url.scheme == "http":
        return is_here and host in LOOPBACK
    return url.scheme == "https" and (is_here or host == base or is_public(host))


def _origin(url: Any) -> str:
    """All of a URL that may be shown."""
    host = url.raw_host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}" + ("" if url.port is None else f":{url.port}")


def _led_astray(host: str, how: str) -> APIConnectionError:
    return APIConnectionError(
        f"the download from {host} {how}; redirects are followed to https:// URLs of"
        f" public hosts, up to {MOST_HOPS}. Read the track again for a fresh URL"
    )
