"""How connections are made: through which proxy, and which certificates count."""

from __future__ import annotations

import logging
import os
import ssl
from functools import cache
from typing import Any, Final, TypeAlias

import attrs
import httpx

from finetuning_async._errors import InvalidRequestError
from finetuning_async._http._cookies import without_cookies
from finetuning_async._http._proxy_environment import Environment, Named

logger = logging.getLogger("finetuning_async")

Proxy: TypeAlias = str | httpx.URL | httpx.Proxy
Verify: TypeAlias = bool | str | os.PathLike[str] | ssl.SSLContext

KEPT: Final = 4.0
"""Seconds for which an idle connection is kept. Many servers close it after 5 (uvicorn,
Node, Apache), counted from when they sent, which is half a round trip before we read;
and a request is half of one on its way. A create that meets a closed one is in doubt.
"""

_A_PROXY: Final = (
    "the URL of a proxy: http://, https://, or, with the package socksio, socks5://"
)
_LAST_PORT: Final = 65_535
_CERTIFICATES: Final = (
    "True, False, an ssl.SSLContext, or the path of certificates in PEM form"
)


@cache
def _usual_context(cert_file: str, cert_dir: str) -> ssl.SSLContext:
    """One TLS context for the process: making one takes about 20 ms.

    Raises:
        InvalidRequestError: There are no certificates.
    """
    if cert_file:
        return _context_of("SSL_CERT_FILE", cert_file)
    if cert_dir:
        return _context_of("SSL_CERT_DIR", cert_dir)
    return httpx.create_ssl_context(trust_env=False)


def _context_of(field: str, path: str) -> ssl.SSLContext:
    try:
        is_folder = os.path.isdir(path)  # noqa: PTH112 - `ssl` takes text, too
        return ssl.create_default_context(
            cafile=None if is_folder else path, capath=path if is_folder else None
        )
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or type(error).__name__
    except ValueError as error:  # no path at all
        reason = str(error)
    raise InvalidRequestError(field, path, f"a path of certificates ({reason})")


def _checked_verify(verify: Verify) -> bool | ssl.SSLContext:
    if isinstance(verify, bool | ssl.SSLContext):
        return verify
    if isinstance(verify, str | os.PathLike) and os.fspath(verify):
        return _context_of("verify", os.fspath(verify))
    raise InvalidRequestError("verify", verify, _CERTIFICATES)


def _checked_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidRequestError("trust_env", value, "True or False")


# No repr: one that is half made would raise in the report of the error that ended it,
# and the proxy's login is in none.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class ConnectionConfig:
    """How connections are made.

    Attributes:
        proxy: What all requests go through; `None` for what the environment says.
        verify: Who may speak for a host: `True` for the usual authorities, a context of
            the caller's, or `False` for anybody.
        trust_env: Whether the environment is read: ``HTTP_PROXY``, ``HTTPS_PROXY``,
            ``ALL_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.

    Raises:
        InvalidRequestError: One of the last two is none of these.
    """

    proxy: httpx.Proxy | None = None
    verify: bool | ssl.SSLContext = attrs.field(default=True, converter=_checked_verify)
    trust_env: bool = attrs.field(default=True, converter=_checked_bool)

    @property
    def is_default(self) -> bool:
        """Whether nothing was chosen."""
        return self.proxy is None and self.verify is True and self.trust_env

    def new_client(self, context: ssl.SSLContext) -> httpx.AsyncClient:
        """A client that connects like this.

        Args:
            context: What `tls` gave.
        """
        # httpx would read the environment in its own way, and raise.
        environment = self._environment()
        new = without_cookies(httpx.AsyncClient)
        if self.proxy is None and environment.names_any("http", "https"):
            by_environment = _ByEnvironment(environment, context)
            return new(transport=by_environment, trust_env=False)
        options = _transport_options(context, self.proxy)
        return new(**options)  # it makes its transport itself, as mocks expect

    def check(self, url: str) -> None:
        """Check that there is a way to a URL, before a request is on it.

        Raises:
            InvalidRequestError: What the environment names for it is no proxy.
        """
        if self.proxy is None:
            _, problem = _read(self._environment().proxy_for(httpx.URL(url)))
            if problem is not None:
                raise problem

    def _environment(self) -> Environment:
        return Environment() if self.trust_env else Environment({})

    def tls(self) -> ssl.SSLContext:
        """Who may speak for a host.

        Raises:
            InvalidRequestError: What the environment says is no file of certificates.
        """
        if isinstance(self.verify, ssl.SSLContext):
            return self.verify
        if not self.verify:
            logger.warning(
                "verify=False: whoever is in between can read the API key and all else"
            )
            return httpx.create_ssl_context(verify=False)
        if not self.trust_env:
            return _usual_context("", "")
        return _usual_context(
            os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")
        )


def _transport_options(
    context: ssl.SSLContext, proxy: httpx.Proxy | None
) -> dict[str, Any]:
    # How many there are is bounded for each account, in `_concurrency`.
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEPT
    )
    return {"verify": context, "trust_env": False, "limits": limits, "proxy": proxy}


class _ByEnvironment(httpx.AsyncBaseTransport):
    """Sends each request through the proxy that the environment named for it, if any.

    Args:
        environment: What it said.
        context: For ``https``.
    """

    def __init__(self, environment: Environment, context: ssl.SSLContext) -> None:
        self._environment = environment
        self._context = context
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            InvalidRequestError: What the environment names for it is no proxy.
        """
        named = self._environment.proxy_for(request.url)
        way = "" if named is None else named.variable
        if way not in self._transports:
            proxy, problem = _read(named)
            if problem is not None:
                raise problem
            options = _transport_options(self._context, proxy)
            self._transports[way] = httpx.AsyncHTTPTransport(**options)
        return await self._transports[way].handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        while self._transports:
            await self._transports.popitem()[1].aclose()


def _read(
    named: Named | None,
) -> tuple[httpx.Proxy | None, InvalidRequestError | None]:
    """The proxy that the environment names, or what is wrong with it.

    It does not raise, as `read_proxy`.
    """
    if named is None:
        return None, None
    proxy, problem = read_proxy(named.url)
    if not problem:
        return proxy, None
    allowed = f"{problem}; change it or unset it"
    return None, InvalidRequestError(named.variable, named.shown, allowed)


def read_proxy(proxy: object) -> tuple[httpx.Proxy | None, str]:
    """A proxy that was given, if one was, or what is wrong with it.

    It does not raise: a traceback may show the locals of a frame, and here they hold
    the proxy's login.
    """
    if isinstance(proxy, str | httpx.URL):
        try:
            proxy = httpx.Proxy(proxy)
        except (ValueError, httpx.InvalidURL):
            return None, _A_PROXY
    if proxy is None:
        return None, ""
    if not isinstance(proxy, httpx.Proxy) or not proxy.url.host:
        return None, _A_PROXY
    if proxy.url.port is not None and not 0 < proxy.url.port <= _LAST_PORT:
        return None, f"a URL whose port is from 1 to {_LAST_PORT}"
    if proxy.url.scheme.startswith("socks") and not _has_socksio():
        return (
            None,
            "http:// or https://; socks needs socksio: pip install httpx[socks]",
        )
    return proxy, ""


def _has_socksio() -> bool:
    from importlib.util import find_spec

    return find_spec("socksio") is not None
