"""Which proxy the environment names for a URL, read like curl and urllib do.

httpx raises on values that they accept: an IPv6 network in ``NO_PROXY``, or an invalid
proxy for a scheme that is never used. Here an invalid variable is an error only where
it is used.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.request import getproxies

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_PORT: Final = re.compile(r"(?P<host>[^:]*|\[.*\]):(?P<port>[0-9]{1,5})")


class NamedProxy(NamedTuple):
    """A proxy that the environment names.

    Attributes:
        variable: The variable that names it.
        url: Its value, which may have a login.
    """

    variable: str
    url: str

    def __repr__(self) -> str:
        return f"<NamedProxy {self.variable}={self.masked}>"

    @property
    def masked(self) -> str:
        """The URL without its login."""
        login, at, host = self.url.rpartition("@")
        scheme = login.partition("://")[0] + "://" if "://" in login else ""
        return f"{scheme}****@{host}" if at else self.url


class Environment:
    """The proxies that the environment names, as of when this is made.

    The variables are ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` for a scheme that
    has none, and ``NO_PROXY``; names in lower case take precedence. On macOS and
    Windows the system's settings are used if no variable is set.

    Args:
        proxies: URLs by scheme, instead of those of the environment.
    """

    def __init__(self, proxies: Mapping[str, str] | None = None) -> None:
        read = getproxies() if proxies is None else proxies
        values = {name: value.strip() for name, value in read.items()}
        self._proxies = {name: url for name, url in values.items() if url}
        entries = re.split(r"[\s,]+", values.get("no", ""))
        self._exceptions = [_NoProxyEntry(entry) for entry in entries if entry]

    def names_any(self, *schemes: str) -> bool:
        """Whether there is a proxy for one of these schemes."""
        return not {"all", *schemes}.isdisjoint(self._proxies)

    def proxy_for(self, url: httpx.URL) -> NamedProxy | None:
        """The proxy for a URL; `None` for a direct connection."""
        name = url.scheme if url.scheme in self._proxies else "all"
        proxy = self._proxies.get(name)
        if proxy is None or any(entry.matches(url) for entry in self._exceptions):
            return None
        return NamedProxy(
            _variable(name), proxy if "://" in proxy else f"http://{proxy}"
        )


def _variable(name: str) -> str:
    """The variable that names a proxy, spelled as in the environment."""
    wanted = f"{name}_proxy"
    if os.environ.get(wanted):
        return wanted
    written = (n for n, value in os.environ.items() if value and n.lower() == wanted)
    return next(written, f"the system's proxy for {name}")


class _NoProxyEntry:
    """One entry of ``NO_PROXY``; an entry that cannot be parsed matches nothing.

    ``*``; a name, with or without a dot before it, for itself and its subdomains; an
    address; a network (``10.0.0.0/8``, ``fd00::/8``). A port after it and a scheme
    before it must match as well; an IPv6 address before a port is in brackets.
    """

    __slots__ = ("_name", "_network", "_port", "_scheme")

    def __init__(self, entry: str) -> None:
        scheme, _, rest = entry.lower().rpartition("://")
        match = _PORT.fullmatch(rest)
        host = match["host"] if match else rest
        self._scheme = scheme
        self._port = int(match["port"]) if match else None
        self._name = host.strip("[]").removeprefix("*.").strip(".") or host
        self._network = _network(self._name)

    def matches(self, url: httpx.URL) -> bool:
        """Whether requests for a URL connect directly."""
        if self._scheme and self._scheme != url.scheme:
            return False
        port = url.port or DEFAULT_PORTS.get(url.scheme)
        if self._port is not None and self._port != port:
            return False
        if self._name == "*":
            return True
        # As Unicode and as Punycode: the entry may be written either way.
        hosts = (url.host, url.raw_host.decode("ascii"))
        return any(self._matches_host(host.lower().rstrip(".")) for host in hosts)

    def _matches_host(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == self._name or host.endswith(f".{self._name}")
        return self._network is not None and address in self._network


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Parse a network; an address is a network of one."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
