"""The one place that speaks httpx.

_pool             base URLs, timeouts, and the connections that views of a client share
_send             `Transport`: sends a call, and says what is known when it fails
_direct           how it is sent without httpx: the quick way
_connections      what that goes over
_stream           what goes into a connection, and what comes out of it
_bodies           what an answer holds: unpacked, up to a bound
_connecting       through which proxy, and which certificates count
_untouched        whether that passes by a mock or a tracer
_environment      what the environment says of proxies
_media            `MediaStream`: a file of the media host while it arrives
_hops             where it is fetched from: each redirect is checked
_versions         which bytes of which version of it a response carries
_media_transport  how it is fetched without httpx's pool, in larger pieces
_cookies          none is kept
_failures         what exceptions of httpx say, and what they must not show
"""

from finetuning_async._transport._connecting import (
    Connecting,
    Proxy,
    Verify,
    read_proxy,
)
from finetuning_async._transport._pool import (
    DEFAULT_TIMEOUT,
    HEADERS,
    LOOPBACK,
    Pool,
    Timeout,
    as_timeout,
    check_base_url,
)
from finetuning_async._transport._send import KEY_HEADER, Transport

__all__ = [
    "DEFAULT_TIMEOUT",
    "HEADERS",
    "KEY_HEADER",
    "LOOPBACK",
    "Connecting",
    "Pool",
    "Proxy",
    "Timeout",
    "Transport",
    "Verify",
    "as_timeout",
    "check_base_url",
    "read_proxy",
]
