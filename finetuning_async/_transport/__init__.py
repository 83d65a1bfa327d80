"""The one place that speaks to the HTTP library: httpx, or httpx2.

_library          which library it is, and what its exceptions prove
_timeouts         seconds for one attempt
_pool             base URLs, and the connections that views of a client share
_concurrency      how many requests of an account are on the wire at a time
_send             `Transport`: sends a call, and says what is known when it fails
_bodies           what an answer holds: unpacked, up to a bound
_connecting       through which proxy, and which certificates count
_environment      what the environment says of proxies
_media            `MediaStream`: a file of the media host while it arrives
_hops             where it is fetched from: each redirect is checked
_versions         which bytes of which version of it a response carries
_cookies          none is kept
_failures         what its exceptions say, and what they must not show
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning_async._transport._concurrency import Concurrency
    from finetuning_async._transport._connecting import (
        ConnectionConfig,
        Proxy,
        Verify,
        read_proxy,
    )
    from finetuning_async._transport._library import HTTPClient
    from finetuning_async._transport._media import MediaStream
    from finetuning_async._transport._pool import LOOPBACK, ClientPool, check_base_url
    from finetuning_async._transport._send import KEY_HEADER, Transport
    from finetuning_async._transport._timeouts import (
        DEFAULT_TIMEOUT,
        HTTPTimeout,
        Timeout,
        as_timeout,
    )
    from finetuning_async._transport._versions import FileChangedError, FileVersion

_HOMES: Final = {
    "Concurrency": "_concurrency",
    "ConnectionConfig": "_connecting",
    "DEFAULT_TIMEOUT": "_timeouts",
    "HTTPClient": "_library",
    "HTTPTimeout": "_timeouts",
    "KEY_HEADER": "_send",
    "LOOPBACK": "_pool",
    "MediaStream": "_media",
    "FileChangedError": "_versions",
    "ClientPool": "_pool",
    "Proxy": "_connecting",
    "Timeout": "_timeouts",
    "Transport": "_send",
    "Verify": "_connecting",
    "FileVersion": "_versions",
    "as_timeout": "_timeouts",
    "check_base_url": "_pool",
    "read_proxy": "_connecting",
}

__all__ = [
    "DEFAULT_TIMEOUT",
    "KEY_HEADER",
    "LOOPBACK",
    "ClientPool",
    "Concurrency",
    "ConnectionConfig",
    "FileChangedError",
    "FileVersion",
    "HTTPClient",
    "HTTPTimeout",
    "MediaStream",
    "Proxy",
    "Timeout",
    "Transport",
    "Verify",
    "as_timeout",
    "check_base_url",
    "read_proxy",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562): most need but a few of them."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value
