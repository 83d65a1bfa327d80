"""From a file's URL to the response that carries it, redirect by redirect.

Each is checked as the first URL is. Else a media host, or whoever stands in its place,
could have a file fetched from inside the network that this program runs in.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import httpx

from finetuning_async._errors import APIConnectionError, InvalidRequestError
from finetuning_async._hosts import is_public
from finetuning_async._secrets import mask_query
from finetuning_async._transport import _cookies
from finetuning_async._transport._pool import LOOPBACK

MOST_HOPS: Final = 10
"""Redirects that are followed, as many as the vendor's program does."""

_PORTS: Final = range(1, 1 << 16)


def check_media_url(text: str, base_url: str) -> httpx.URL:
    """The URL of a file.

    Args:
        text: As the service gave it.
        base_url: Of the API.

    Raises:
        InvalidRequestError: No file is fetched from there.
    """
    try:
        url = httpx.URL(text.strip())
        if _may_be_fetched(url, base_url):
            return url
    except (ValueError, httpx.InvalidURL):  # half of a surrogate pair is the former
        pass
    raise InvalidRequestError(
        "url", mask_query(text), "an https:// URL of a file on a public host, no login"
    )


async def arrive(
    client: httpx.AsyncClient, request: httpx.Request, base_url: str
) -> httpx.Response:
    """Send a request, and follow where it leads.

    Args:
        client: Who sends it.
        request: For a URL that was checked.
        base_url: Of the API.

    Returns:
        The response that is no redirect; its body is still to be read, and it is to be
        closed.

    Raises:
        APIConnectionError: It leads where no file is fetched from, or on and on.
        httpx.HTTPError: There is no response.
    """
    began_at = request.url.host
    response = await _cookies.send(client, request, stream=True)
    for _ in range(MOST_HOPS):
        if response.next_request is None:
            return response
        await response.aclose()
        request = response.next_request
        if not _may_be_fetched(request.url, base_url):
            raise _led_astray(began_at, f"leads to {_origin(request.url)}")
        # Only what the program set itself goes along, to hosts that it is meant for.
        request.headers.pop("cookie", None)
        client.cookies.set_cookie_header(request)
        response = await _cookies.send(client, request, stream=True, auth=None)
    if response.next_request is None:
        return response
    await response.aclose()
    raise _led_astray(began_at, f"was redirected more than {MOST_HOPS} times")


def _may_be_fetched(url: httpx.URL, base_url: str) -> bool:
    """Whether a file may come from there; not from inside, unless the API is here."""
    host, base = url.raw_host.decode("ascii"), urlsplit(base_url).hostname
    if not host or url.userinfo or (url.port or 443) not in _PORTS or url.port == 0:
        return False
    is_here = base in LOOPBACK
    if url.scheme == "http":
        return is_here and host in LOOPBACK
    return url.scheme == "https" and (is_here or host == base or is_public(host))


def _origin(url: httpx.URL) -> str:
    """All of a URL that may be shown."""
    host = url.raw_host.decode("ascii")
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}" + ("" if url.port is None else f":{url.port}")


def _led_astray(host: str, how: str) -> APIConnectionError:
    return APIConnectionError(
        f"the download from {host} {how}; redirects are followed to https:// URLs of"
        f" public hosts, up to {MOST_HOPS}. Read the track again for a fresh URL"
    )
