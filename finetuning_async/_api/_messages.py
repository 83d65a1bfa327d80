"""What goes to the service and what comes back, as plain values.

`Call` is a request before the transport adds the key to it; `Response` is a response
read to its end; `ResponseFacts` is what a response says about the limits, as far
as that is believed: a broken clock or a misread setting shall not stop an account for
years.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

Evidence: TypeAlias = Literal["not_sent", "unknown"]
"""What is known of a request without an answer: no byte of it left, or some may
have."""

Route: TypeAlias = str
"""Which budget a request takes from: ``creates``, ``reads``, or the name of an endpoint
whose budget no source settles (such as ``health``)."""

LONGEST_PAUSE: Final = 3600.0
"""Seconds; a longer pause that an answer asks for is taken as one of an hour."""


LONGEST_BODY: Final = 16 * 2**20
"""Bytes of a body, unpacked; a page of the longest list has half a megabyte."""


def believed_pause(seconds: float | None) -> float | None:
    """A pause that an answer asks for, as far as it is believed.

    Args:
        seconds: What it asks for; `None` if it does not.

    Returns:
        At least 0, at most `LONGEST_PAUSE`; `None` for what is no such time.
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
        route: Which budget it takes from.
        query: The query parameters.
        body: What is sent as JSON; kept out of `repr`, it may hold a webhook's secret.
        needs_key: Whether the API key goes with it.
        repeatable: Whether sending it twice does no more than sending it once.
        track_id: The one track that it is about, if it is.
        shows: The id that stands in its answer; `None` if any may. An answer with
            another one belongs to another request.
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
    """One response, read to its end.

    Attributes:
        status: The HTTP status.
        headers: The headers, names in lower case.
        content: The body.
        is_cut: Whether it is longer than `LONGEST_BODY`; then `content` is its
            beginning.
        sent_at: When the request was handed to the transport, in seconds of the loop's
            clock.
        received_at: When the body was complete, likewise.
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
        """Whether it points to another address, or would if it named one."""
        return 300 <= self.status < 400

    @property
    def request_id(self) -> str | None:
        """The service's name for the request, where it gives one."""
        return self.headers.get("x-request-id")


@attrs.frozen(kw_only=True)
class RawResponse:
    """One response as it came, for whoever wants more than the models show.

    Attributes:
        method: Of the request.
        path: Of the request, below the base URL.
        status: The HTTP status.
        headers: The headers, names in lower case.
        request_id: The service's name for the request, where it gives one.
        content: The body; of one above 16 MiB the beginning.
        elapsed: Seconds from sending to the end of the body.

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
    """What one response says about the limits.

    Example:
        facts = ResponseFacts(status=200, limit=10, remaining=9)

    Attributes:
        status: The HTTP status.
        code: The error code, if it is an error that can be read.
        limit: ``X-RateLimit-Limit``: requests allowed per window; `None` if absent or
            no whole number of at least 1.
        remaining: ``X-RateLimit-Remaining``: left in the window; `None` if absent or no
            whole number of at least 0.
        retry_after: Seconds, 0 to 3600, that a 429 or 503 asks for, more being taken as
            3600; `None` if it does not say.
    """

    status: int
    code: str | None = None
    limit: int | None = attrs.field(default=None, converter=_believed_limit)
    remaining: int | None = attrs.field(default=None, converter=_believed_remaining)
    retry_after: float | None = attrs.field(default=None, converter=believed_pause)
