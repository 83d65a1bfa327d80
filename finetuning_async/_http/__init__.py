"""Requests on the wire: sent, timed, retried, and what is known when they fail.

_pipeline            retry( gate( limit( send ) ) ), for every request
_retry               repeats what may be repeated, with tenacity
_backoff             how long to wait when the service names no time
_transport           sends one request, and says what is known when it fails
_delivery            whether a request left, as far as that is known
_http_clients        the HTTP library's clients, and when one is retired
_http_library        which library it is: httpx or httpx2
_exception_map       what its exceptions prove
_concurrency         how many requests of an account are on the wire at a time
_connection_config   proxies and certificates, as the caller gave them
_proxy_environment   proxies that the environment names
_timeouts            seconds for one attempt
_headers             headers that the caller adds
_cookies             none is kept
_response_body       a body, unpacked, up to a bound
_media_stream        a file of the media host while it arrives
_media_redirects     where it is fetched from: each redirect is checked
_public_hosts        whether a host is on the public internet
_byte_ranges         which bytes of which version of a file a response carries
_server_clock        the service's time, from its Date headers
_header_warnings     header values that are not believed: one warning each
_request_events      log lines and events of requests
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._http import _request_events as request_events  # noqa: F401 - exported
    from finetuning_async._http._byte_ranges import (
        FileChangedError as FileChangedError,
        FileVersion as FileVersion,
    )
    from finetuning_async._http._concurrency import Concurrency as Concurrency
    from finetuning_async._http._connection_config import (
        ConnectionConfig as ConnectionConfig,
        Proxy as Proxy,
        Verify as Verify,
        read_proxy as read_proxy,
    )
    from finetuning_async._http._delivery import (
        NoResponse as NoResponse,
        SendTracker as SendTracker,
    )
    from finetuning_async._http._header_warnings import HeaderWarnings as HeaderWarnings
    from finetuning_async._http._headers import (
        Headers as Headers,
        read_headers as read_headers,
    )
    from finetuning_async._http._http_clients import (
        LOOPBACK as LOOPBACK,
        ClientPool as ClientPool,
        check_base_url as check_base_url,
    )
    from finetuning_async._http._http_library import HTTPClient as HTTPClient
    from finetuning_async._http._media_stream import MediaStream as MediaStream
    from finetuning_async._http._pipeline import (
        Pipeline as Pipeline,
        capture_responses as capture_responses,
    )
    from finetuning_async._http._retry import (
        RetryableFailure as RetryableFailure,
        RetryPolicy as RetryPolicy,
    )
    from finetuning_async._http._server_clock import ServerClock as ServerClock
    from finetuning_async._http._timeouts import (
        DEFAULT_TIMEOUT as DEFAULT_TIMEOUT,
        HTTPTimeout as HTTPTimeout,
        Timeout as Timeout,
        as_timeout as as_timeout,
    )
    from finetuning_async._http._transport import Transport as Transport
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._byte_ranges": ("FileChangedError", "FileVersion"),
            "._concurrency": ("Concurrency",),
            "._connection_config": (
                "ConnectionConfig",
                "Proxy",
                "Verify",
                "read_proxy",
            ),
            "._delivery": ("NoResponse", "SendTracker"),
            "._header_warnings": ("HeaderWarnings",),
            "._headers": ("Headers", "read_headers"),
            "._http_clients": ("ClientPool", "LOOPBACK", "check_base_url"),
            "._http_library": ("HTTPClient",),
            "._media_stream": ("MediaStream",),
            "._pipeline": ("Pipeline", "capture_responses"),
            "._retry": ("RetryPolicy", "RetryableFailure"),
            "._server_clock": ("ServerClock",),
            "._timeouts": ("DEFAULT_TIMEOUT", "HTTPTimeout", "Timeout", "as_timeout"),
            "._transport": ("Transport",),
            "": ("request_events",),
        },
    )
