"""Requests on the wire: paced, sent, retried, and what is known when one fails.

_pipeline            one request, from its permit to its checked response
_header_warnings     header values that are not believed: one warning each
_server_clock        the service's clock, learned from Date headers
_request_events      log lines and events about requests
_retry               retries with tenacity, and the deadline over all of them
_backoff             pauses between attempts
_transport           sends one call, and determines what is known when it fails
_delivery            whether a request without a response may have reached the service
_exception_map       what an exception of the HTTP library means
_concurrency         how many requests of an account may be on the wire at a time
_response_body       bodies, decompressed up to a limit
_headers             the caller's own headers
_media_stream        a file of the media host, while it arrives
_media_redirects     follows redirects to it, and checks each
_byte_ranges         which bytes of which version of a file a response carries
_http_clients        the HTTP library's clients, and when one is retired
_connection_config   proxies and certificates
_proxy_environment   proxies that the environment names
_timeouts            seconds for one attempt
_cookies             keeps responses from storing cookies
_http_library        the HTTP library of a client: httpx or httpx2

Glossary:

attempt              one request on the wire; a call has several if it is retried
evidence             whether bytes of a failed request may have left: not_sent, unknown
permit               the limiter's permission to send one request
gate                 closed by a 429 for all requests of a budget until a given time
slot                 one of a fixed number of requests of an account on the wire
retired client       one that gets no new requests, and is closed after its last one
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
