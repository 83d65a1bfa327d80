"""Which proxy the environment names for a URL, as curl and urllib read it.

Not by httpx, which raises on what others take: an IPv6 network in ``NO_PROXY``, a proxy
for addresses that are never asked. A wrong variable is an error where it is used.
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


class Named(NamedTuple):
    """A proxy that the environment names.

    Attributes:
        variable: Which variable does.
        url: What it holds; it may have a login.
    """

    variable: str
    url: str

    def __repr__(self) -> str:
        return f"<Named by {self.variable}: {self.shown}>"

    @property
    def shown(self) -> str:
        """The URL without its login."""
        login, at, place = self.url.rpartition("@")
        scheme = login.partition("://")[0] + "://" if "://" in login else ""
        return f"{scheme}****@{place}" if at else self.url


class Environment:
    """What the environment says of proxies, when this is made.

    Args:
        found: What it says, if it is not to be read, by scheme.

    The variables are ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` for what has none
    of its own, and ``NO_PROXY``; in small letters they go first. Where the system has
    settings instead, those count.
    """

    def __init__(self, found: Mapping[str, str] | None = None) -> None:
        read = getproxies() if found is None else found
        found = {name: value.strip() for name, value in read.items()}
        self._proxies = {name: url for name, url in found.items() if url}
        entries = re.split(r"[\s,]+", found.get("no", ""))
        self._excepted = [_Excepted(entry) for entry in entries if entry]

    def names_any(self, *schemes: str) -> bool:
        """Whether there is a proxy for one of these schemes."""
        return not {"all", *schemes}.isdisjoint(self._proxies)

    def proxy_for(self, url: httpx.URL) -> Named | None:
        """The proxy for a URL; `None` if it is asked directly."""
        name = url.scheme if url.scheme in self._proxies else "all"
        proxy = self._proxies.get(name)
        if proxy is None or any(entry.covers(url) for entry in self._excepted):
            return None
        return Named(_variable(name), proxy if "://" in proxy else f"http://{proxy}")


def _variable(name: str) -> str:
    """The variable that names a proxy, as it is written in the environment."""
    wanted = f"{name}_proxy"
    if os.environ.get(wanted):
        return wanted
    written = (n for n, value in os.environ.items() if value and n.lower() == wanted)
    return next(written, f"the system's proxy for {name}")


class _Excepted:
    """One entry of ``NO_PROXY``; one that means nothing covers nothing.

    ``*``; a name, with a dot before it or not, for itself and all below it; an address;
    a network (``10.0.0.0/8``, ``fd00::/8``). A port after it, and a scheme before it,
    have to fit as well; an IPv6 address before a port is in brackets.
    """

    __slots__ = ("_name", "_network", "_port", "_scheme")

    def __init__(self, entry: str) -> None:
        scheme, _, place = entry.lower().rpartition("://")
        match = _PORT.fullmatch(place)
        host = match["host"] if match else place
        self._scheme = scheme
        self._port = int(match["port"]) if match else None
        self._name = host.strip("[]").removeprefix("*.").strip(".") or host
        self._network = _network(self._name)

    def covers(self, url: httpx.URL) -> bool:
        """Whether a URL is to be asked directly."""
        if self._scheme and self._scheme != url.scheme:
            return False
        port = url.port or DEFAULT_PORTS.get(url.scheme)
        if self._port is not None and self._port != port:
            return False
        if self._name == "*":
            return True
        hosts = (url.host, url.raw_host.decode("ascii"))  # in letters of all scripts
        return any(self._covers(host.lower().rstrip(".")) for host in hosts)

    def _covers(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == self._name or host.endswith(f".{self._name}")
        return self._network is not None and address in self._network


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address is a network of one."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
