"""The one place that speaks to the HTTP library: httpx, or httpx2.

_library          which library it is, and what its exceptions prove
_pool             base URLs, timeouts, and the connections that views of a client share
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

from finetuning_async._transport._concurrency import Concurrency
from finetuning_async._transport._connecting import (
    Connecting,
    Proxy,
    Verify,
    read_proxy,
)
from finetuning_async._transport._library import HTTPClient, HTTPTimeout
from finetuning_async._transport._pool import (
    DEFAULT_TIMEOUT,
    LOOPBACK,
    Pool,
    Timeout,
    as_timeout,
    check_base_url,
)
from finetuning_async._transport._send import KEY_HEADER, Transport

__all__ = [
    "DEFAULT_TIMEOUT",
    "KEY_HEADER",
    "LOOPBACK",
    "Concurrency",
    "Connecting",
    "HTTPClient",
    "HTTPTimeout",
    "Pool",
    "Proxy",
    "Timeout",
    "Transport",
    "Verify",
    "as_timeout",
    "check_base_url",
    "read_proxy",
]
