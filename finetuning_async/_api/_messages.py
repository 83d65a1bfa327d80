"""Calls and responses as plain values.

`Call` is a request before the transport adds the API key. `Response` is a complete
response. `ResponseFacts` is what a response says about the rate limits; implausible
values are dropped or capped, so that a wrong clock or setting at the service cannot
stop an account for years.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

Evidence: TypeAlias = Literal["not_sent", "unknown"]
"""What is known of a request without a response: ``not_sent`` if it is certain that
no byte of it was sent."""

Route: TypeAlias = str
"""The rate budget of a request: ``creates``, ``reads``, or the name of an endpoint
whose rate budget no source documents (such as ``health``)."""

LONGEST_PAUSE: Final = 3600.0
"""Seconds; if a response asks for a longer pause, this one is used."""


LONGEST_BODY: Final = 16 * 2**20
"""Bytes of a decompressed body; the largest page of a list takes half a megabyte."""


def believed_pause(seconds: float | None) -> float | None:
    """Limit the pause that a response asks for to a plausible one.

    Args:
        seconds: The pause asked for, if any.

    Returns:
        0 to `LONGEST_PAUSE`; `None` if it is negative, NaN or absent.
    """
    if seconds is None or not seconds >= 0:  # NaN fails the comparison
        return None
    return min(float(seconds), LONGEST_PAUSE)


def _believed_limit(limit: int | None) -> int | None:
    return None if limit is None or limit < 1 else limit


def _believed_remaining(remaining: int | None) -> int | None:
    return None if remaining is None or remaining < 0 else remaining


@attrs.frozen(kw_only=True)
class Call:
    """One request to the service.

    Attributes:
        method: The HTTP method, in capitals.
        path: The path below the base URL, its segments percent-encoded.
        route: The rate budget that it counts against.
        query: The query parameters.
        body: The JSON to send; kept out of `repr`, as it may hold a webhook's secret.
        needs_key: Whether the API key is sent with it.
        repeatable: Whether it is idempotent, so that it can be sent twice.
        track_id: The track that it is about, if it is about one.
        shows: The id that its response must have; `None` if any will do. A response
            with another id belongs to another request.
    """

    method: str
    path: str
    route: Route = "reads"
    query: Mapping[str, str | int] = attrs.field(factory=dict)
    body: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    needs_key: bool = True
    repeatable: bool = True
    track_id: str | None = None
    shows: str | None = None


@attrs.frozen(kw_only=True)
class Response:
    """One complete response.

    Attributes:
        status: The HTTP status.
        headers: The headers, names in lower case.
        content: The body.
        is_cut: Whether the body is longer than `LONGEST_BODY`; `content` is its
            beginning.
        sent_at: When the request was passed to the transport, in seconds of the loop's
            clock.
        received_at: When the body was complete, in seconds of the loop's clock.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    content: bytes = attrs.field(repr=False)
    is_cut: bool = False
    sent_at: float
    received_at: float

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_redirect(self) -> bool:
        """Whether the status is 3xx."""
        return 300 <= self.status < 400

    @property
    def request_id(self) -> str | None:
        """The service's id of the request, if it sent one."""
        return self.headers.get("x-request-id")


@attrs.frozen(kw_only=True)
class RawResponse:
    """One response as received; `capture_responses` collects them.

    Attributes:
        method: The HTTP method of the request.
        path: The path of the request, below the base URL.
        status: The HTTP status.
        headers: The headers, names in lower case.
        request_id: The service's id of the request, if it sent one.
        content: The body; if it is longer than 16 MiB, its beginning.
        elapsed: Seconds from sending the request to the end of the body.

    Example:
        with capture_responses() as responses:
            await client.me()
        print(responses[0].status, responses[0].request_id, responses[0].elapsed)
    """

    method: str
    path: str
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    request_id: str | None
    content: bytes = attrs.field(repr=False)
    elapsed: float


@attrs.frozen(kw_only=True)
class ResponseFacts:
    """What one response says about the rate limits.

    Example:
        facts = ResponseFacts(status=200, limit=10, remaining=9)

    Attributes:
        status: The HTTP status.
        code: The service's error code; `None` if it is not an error or has none.
        limit: ``X-RateLimit-Limit``: requests allowed per window; `None` if absent or
            not a whole number of at least 1.
        remaining: ``X-RateLimit-Remaining``: requests left in the window; `None` if
            absent or not a whole number of at least 0.
        retry_after: Seconds to wait, 0 to 3600, of a 429 or 503; longer ones are cut to
            3600; `None` if absent.
    """

    status: int
    code: str | None = None
    limit: int | None = attrs.field(default=None, converter=_believed_limit)
    remaining: int | None = attrs.field(default=None, converter=_believed_remaining)
    retry_after: float | None = attrs.field(default=None, converter=believed_pause)
