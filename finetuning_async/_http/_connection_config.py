"""How connections are made: through which proxy, with which trusted certificates."""

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
from finetuning_async._http._proxy_environment import Environment, NamedProxy

logger = logging.getLogger("finetuning_async")

Proxy: TypeAlias = str | httpx.URL | httpx.Proxy
Verify: TypeAlias = bool | str | os.PathLike[str] | ssl.SSLContext

KEPT: Final = 4.0
"""Seconds that an idle connection is kept alive. Many servers (uvicorn, Node, Apache)
close it after 5. They count from when they sent, half a round trip before we read it,
and the next request takes another half to arrive. A create that is sent on a connection
the server has just closed may or may not have been received, so we close it first."""

_A_PROXY: Final = (
    "the URL of a proxy: http://, https://, or socks5:// with the package socksio"
)
_LAST_PORT: Final = 65_535
_CERTIFICATES: Final = (
    "True, False, an ssl.SSLContext, or the path of certificates in PEM format"
)


@cache
def _default_context(cert_file: str, cert_dir: str) -> ssl.SSLContext:
    """One TLS context for the process: making one takes about 20 ms.

    Raises:
        InvalidRequestError: The variable names no readable certificates.
    """
    if cert_file:
        return _context_of("SSL_CERT_FILE", cert_file)
    if cert_dir:
        return _context_of("SSL_CERT_DIR", cert_dir)
    return httpx.create_ssl_context(trust_env=False)


def _context_of(field: str, path: str) -> ssl.SSLContext:
    try:
        is_folder = os.path.isdir(path)  # noqa: PTH112 - `ssl` takes strings as well
        return ssl.create_default_context(
            cafile=None if is_folder else path, capath=path if is_folder else None
        )
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or type(error).__name__
    except ValueError as error:  # such as a null byte in the path
        reason = str(error)
    raise InvalidRequestError(
        field, path, f"the path of certificates in PEM format ({reason})"
    )


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


# No repr: if a converter raises, a crash reporter that prints the half-made object
# would fail as well; and no repr may show the login of the proxy.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class ConnectionConfig:
    """How connections are made.

    Attributes:
        proxy: The proxy for all requests; `None` for those that the environment names.
        verify: Which certificates are trusted: `True` for the default authorities, the
            caller's own context, or `False` for any certificate.
        trust_env: Whether the environment is read: ``HTTP_PROXY``, ``HTTPS_PROXY``,
            ``ALL_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.

    Raises:
        InvalidRequestError: `verify` or `trust_env` has another value.
    """

    proxy: httpx.Proxy | None = None
    verify: bool | ssl.SSLContext = attrs.field(default=True, converter=_checked_verify)
    trust_env: bool = attrs.field(default=True, converter=_checked_bool)

    @property
    def is_default(self) -> bool:
        """Whether all options have their default values."""
        return self.proxy is None and self.verify is True and self.trust_env

    def new_client(self, context: ssl.SSLContext) -> httpx.AsyncClient:
        """Make a client of httpx that connects like this.

        Args:
            context: From `tls`.
        """
        # Not `trust_env=True`: httpx raises on values that other programs accept.
        environment = self._environment()
        new = without_cookies(httpx.AsyncClient)
        if self.proxy is None and environment.names_any("http", "https"):
            by_environment = _ByEnvironment(environment, context)
            return new(transport=by_environment, trust_env=False)
        options = _transport_options(context, self.proxy)
        return new(**options)  # makes its own transport, which mocks replace

    def check(self, url: str) -> None:
        """Check the proxy for a URL before a request is sent there.

        Raises:
            InvalidRequestError: The environment names an invalid proxy for it.
        """
        if self.proxy is None:
            _, problem = _read(self._environment().proxy_for(httpx.URL(url)))
            if problem is not None:
                raise problem

    def _environment(self) -> Environment:
        return Environment() if self.trust_env else Environment({})

    def tls(self) -> ssl.SSLContext:
        """The TLS context, with the trusted certificates.

        Raises:
            InvalidRequestError: The environment names no readable certificates.
        """
        if isinstance(self.verify, ssl.SSLContext):
            return self.verify
        if not self.verify:
            logger.warning(
                "verify=False: certificates are not checked, so anyone on the network"
                " path can read the API key; use it for tests only"
            )
            return httpx.create_ssl_context(verify=False)
        if not self.trust_env:
            return _default_context("", "")
        return _default_context(
            os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")
        )


def _transport_options(
    context: ssl.SSLContext, proxy: httpx.Proxy | None
) -> dict[str, Any]:
    # No limits here: `_concurrency` bounds the requests of each account.
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEPT
    )
    return {"verify": context, "trust_env": False, "limits": limits, "proxy": proxy}


class _ByEnvironment(httpx.AsyncBaseTransport):
    """Sends each request through the proxy that the environment names for it, if any.

    Args:
        environment: The variables.
        context: The TLS context for ``https``.
    """

    def __init__(self, environment: Environment, context: ssl.SSLContext) -> None:
        self._environment = environment
        self._context = context
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            InvalidRequestError: The environment names an invalid proxy for it.
        """
        named = self._environment.proxy_for(request.url)
        variable = "" if named is None else named.variable
        if variable not in self._transports:
            proxy, problem = _read(named)
            if problem is not None:
                raise problem
            options = _transport_options(self._context, proxy)
            self._transports[variable] = httpx.AsyncHTTPTransport(**options)
        return await self._transports[variable].handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        while self._transports:
            await self._transports.popitem()[1].aclose()


def _read(
    named: NamedProxy | None,
) -> tuple[httpx.Proxy | None, InvalidRequestError | None]:
    """The proxy that the environment names, or the error about it.

    Like `read_proxy` it does not raise.
    """
    if named is None:
        return None, None
    proxy, problem = read_proxy(named.url)
    if not problem:
        return proxy, None
    allowed = f"{problem}; change the variable or unset it"
    return None, InvalidRequestError(named.variable, named.masked, allowed)


def read_proxy(proxy: object) -> tuple[httpx.Proxy | None, str]:
    """Check a proxy.

    It does not raise: a traceback may show the locals of a frame, and here they hold
    the login of the proxy.

    Returns:
        The proxy, if one was given; and what it must be, if it is not valid.
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
        return None, f"the URL of a proxy with a port from 1 to {_LAST_PORT}"
    if proxy.url.scheme.startswith("socks") and not _has_socksio():
        return None, (
            "the URL of a proxy; for a socks proxy install the package socksio: pip"
            " install httpx[socks]"
        )
    return proxy, ""


def _has_socksio() -> bool:
    from importlib.util import find_spec

    return find_spec("socksio") is not None
