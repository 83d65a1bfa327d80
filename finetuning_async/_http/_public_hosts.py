"""Whether a host is on the public internet, as far as its name or address tells.

Names are not resolved: behind some VPNs and proxies every name has a private address.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address


def is_public(host: str) -> bool:
    """Whether a host may be one of the public internet.

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
    """The address that a resolver takes a host for, without asking anybody."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except (OSError, ValueError):  # UnicodeEncodeError is one
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
