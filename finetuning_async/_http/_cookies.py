"""No cookie of a response stays: none goes with a later request, of a file or a call.

The service is asked with a key and the media host with nothing, so a cookie could only
tell them which downloads and calls belong together.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx

if TYPE_CHECKING:
    from http.cookiejar import Cookie, CookieJar

_Place: TypeAlias = tuple[str, str, str]
"""Domain, path and name, by which a jar tells cookies apart."""


class _NoCookies(httpx.Cookies):
    """Cookies that stay empty, whatever comes."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Take none; to look for them costs a tenth of a call."""


@cache
def without_cookies(client: type[httpx.AsyncClient]) -> type[httpx.AsyncClient]:
    """A class of clients that keep no cookies, made of another."""

    class Cookieless(client):  # type: ignore[valid-type, misc]  # only known here
        cookies = _NoCookies()

    return Cookieless


async def send(client: Any, request: Any, **options: Any) -> httpx.Response:
    """Send a request by a client that may be the caller's, whose own cookies stay.

    Redirects are not followed, whatever the client would do.

    Args:
        client: Who sends it.
        request: As `httpx.AsyncClient.send`, like the rest.
        options: As `httpx.AsyncClient.send`.
    """
    before = {_place(own): own for own in client.cookies.jar}
    response: httpx.Response = await client.send(
        request, follow_redirects=False, **options
    )
    if "set-cookie" in response.headers:
        _take_back(client.cookies.jar, response.cookies.jar, before)
    return response


def _take_back(jar: CookieJar, came: CookieJar, before: dict[_Place, Cookie]) -> None:
    """Remove from a jar what came; what stood in its place before is put back."""
    for place in map(_place, came):
        with suppress(KeyError):  # the jar took none
            jar.clear(*place)
            if place in before:
                jar.set_cookie(before[place])


def _place(cookie: Cookie) -> _Place:
    return cookie.domain, cookie.path, cookie.name
