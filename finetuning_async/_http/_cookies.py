"""No cookie of a response is stored or sent with a later request.

Requests to the service carry a key, and those to the media host carry nothing. A cookie
could only show the two which downloads and calls belong together.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx

if TYPE_CHECKING:
    from http.cookiejar import Cookie, CookieJar

_Identity: TypeAlias = tuple[str, str, str]
"""Domain, path and name, which together identify a cookie in a jar."""


class _NoCookies(httpx.Cookies):
    """Cookies that stay empty."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Do nothing: only looking for cookies would cost a tenth of a call."""


@cache
def without_cookies(client: type[httpx.AsyncClient]) -> type[httpx.AsyncClient]:
    """A subclass of a client class that stores no cookies."""

    class Cookieless(client):  # type: ignore[valid-type, misc]  # only known here
        cookies = _NoCookies()

    return Cookieless


async def send(client: Any, request: Any, **options: Any) -> httpx.Response:
    """Send a request with the caller's client, and leave its cookies as they were.

    Redirects are not followed, whatever the client is set to do.

    Args:
        client: The client.
        request: As for `httpx.AsyncClient.send`.
        options: As for `httpx.AsyncClient.send`.
    """
    before = {_identity(cookie): cookie for cookie in client.cookies.jar}
    response: httpx.Response = await client.send(
        request, follow_redirects=False, **options
    )
    if "set-cookie" in response.headers:
        _restore(client.cookies.jar, response.cookies.jar, before)
    return response


def _restore(jar: CookieJar, new: CookieJar, before: dict[_Identity, Cookie]) -> None:
    """Remove the new cookies from a jar, and put back those that they replaced."""
    for identity in map(_identity, new):
        with suppress(KeyError):  # the jar did not accept it
            jar.clear(*identity)
            if identity in before:
                jar.set_cookie(before[identity])


def _identity(cookie: Cookie) -> _Identity:
    return cookie.domain, cookie.path, cookie.name
