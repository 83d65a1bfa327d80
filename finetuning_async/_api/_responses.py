"""What every response has, whatever it is about: JSON, errors, rate limits, times.

A response that cannot be parsed is an `APIResponseError`; one with an error status
becomes the `APIStatusError` of its status. Quotes from a response go through `scrub`:
the service or a proxy may echo the API key or a webhook's secret.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from math import inf
from typing import TYPE_CHECKING, Any, Final

from finetuning_async._api._coercion import http_date, identifier, number, text
from finetuning_async._api._messages import (
    LONGEST_BODY,
    Response,
    ResponseFacts,
    believed_pause,
)
from finetuning_async._errors import (
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    QueueFullError,
    RateLimitError,
)
from finetuning_async._rate_codes import is_queue_full, is_uncharged
from finetuning_async._secrets import scrub, scrub_json

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Container

_OWN_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)

_MAX_EXCERPT: Final = 80
_MAX_MESSAGE: Final = 500
_CLASSES: Final[dict[int, type[APIStatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
# A number in a string that is too large for `number`, but still a number of seconds.
_DIGITS: Final = re.compile(r"\+?[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]+)?")
# The start of a create's response: enough to read the id of a truncated body.
_ID_FIRST: Final = re.compile(
    r'\s*\{\s*(?:"data"\s*:\s*\{\s*)?"id"\s*:\s*"([^"\\]+)"', re.ASCII
)


def _as_null(name: str) -> None:
    """NaN and infinities are not JSON; they are read as null."""


_DECODER: Final = json.JSONDecoder(parse_constant=_as_null)


def decode(content: bytes) -> Any:
    """Parse JSON; a byte order mark is allowed.

    Raises:
        ValueError: It is not JSON, not UTF-8, nested too deeply, or has a number of
            more than 4300 digits.
    """
    try:
        # Not with the codec utf-8-sig: its first use imports a module from disk.
        return _DECODER.decode(content.removeprefix(BOM_UTF8).decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


_ABSENT: Final = object()
_JSON_TYPES: Final = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a string",
}


def parse_error(
    response: Response | None, expected: str, path: str = "$", *, got: Any = _ABSENT
) -> APIResponseError:
    """The error for a response that is not what it should be.

    Args:
        response: The response; `None` for JSON that came in another way.
        expected: What should be there: "a list".
        path: The JSON path where it should be.
        got: The JSON value that is there, of which the type is named.
    """
    problem = f"expected {expected} at {path}"
    if got is not _ABSENT:
        problem += f", got {_JSON_TYPES.get(type(got), 'nothing')}"
    if response is None:
        return APIResponseError(f"cannot parse the JSON: {problem}", path=path)
    return APIResponseError(
        f"cannot parse the response (HTTP {response.status}): {problem}; the body"
        f" begins with {_excerpt(response.content)!r}",
        path=path,
        status_code=response.status,
        request_id=response.request_id,
    )


def too_long_error(response: Response) -> APIResponseError:
    """The error for a body that is longer than `LONGEST_BODY`."""
    return parse_error(response, f"at most {LONGEST_BODY // 2**20} MiB")


def _excerpt(content: bytes, length: int = _MAX_EXCERPT) -> str:
    """The first printable characters of a body, with secrets masked."""
    # 8192 bytes are more than twice the longest URL: a secret is masked as a whole
    # before the text is cut to `length`.
    start = content[:8192].decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else " " for c in scrub(start))
    shown = " ".join(shown.split())
    return shown if len(shown) <= length else shown[: length - 3] + "..."


def parsed_body(response: Response) -> Any:
    """Parse the body of a response.

    Raises:
        APIResponseError: It is not JSON, or too long.
    """
    if response.is_cut:
        raise too_long_error(response)
    try:
        return decode(response.content)
    except ValueError:
        pass
    # Raised here and not above, so that its context does not hold the body.
    raise parse_error(response, "JSON")


def payload_of(response: Response) -> tuple[Any, str]:
    """Take the payload out of the ``data`` envelope, which may be missing (Q9).

    Returns:
        The value and its JSON path.

    Raises:
        APIResponseError: The body is not JSON.
    """
    body = parsed_body(response)
    if type(body) is dict and "data" in body:
        return body["data"], "$.data"
    return body, "$"


def accepted_id(response: Response) -> str | None:
    """The id in the response to a create, even if the rest cannot be parsed.

    A truncated body still has the id if the id comes first.
    """
    if not response.is_success:
        return None
    try:
        body = decode(response.content)
    except (ValueError, MemoryError):
        match = _ID_FIRST.match(response.content[:4096].decode("utf-8", "replace"))
        return identifier(match[1]) if match else None
    if type(body) is not dict:
        return None
    data = body.get("data")
    inner = data.get("id") if type(data) is dict else None
    return identifier(inner) or identifier(body.get("id"))


def mismatch_error(
    response: Response, requested_id: str, earlier_ids: Container[str]
) -> APIResponseError | None:
    """The error for a response to another request, recognized by its id.

    Args:
        response: The response.
        requested_id: The id that was requested.
        earlier_ids: The ids of earlier requests. Only one of these shows that the
            response belongs to another request; any other id is taken for a different
            spelling of the requested one (Q2, Q8).
    """
    # Nearly every response contains the id as requested, and needs no parsing here.
    if f'"{requested_id}"'.encode("utf-8", "replace") in response.content:
        return None
    shown = accepted_id(response)
    if shown is None or shown == requested_id or shown not in earlier_ids:
        return None
    return APIResponseError(
        f"requested {requested_id}, got {shown}: the response belongs to another"
        " request",
        path="$.data.id",
        status_code=response.status,
        generation_id=requested_id,
        request_id=response.request_id,
        safe_to_retry=True,
    )


def _error_of(response: Response) -> dict[str, Any]:
    """The ``error`` object of a response; empty if there is no readable one."""
    if response.is_cut:
        return {}
    try:
        body = decode(response.content)
    except ValueError:
        return {}
    error = body.get("error") if type(body) is dict else None
    return error if type(error) is dict else {}


def status_error(
    response: Response, *, idempotent: bool, generation_id: str | None = None
) -> APIStatusError:
    """The error for a response with an error status.

    Args:
        response: Any response that is not 2xx.
        idempotent: Whether the request can be sent twice; then a 5xx is safe to retry.
        generation_id: The id of the track that the request was about.
    """
    error = _error_of(response)
    code = text(error.get("code"))
    details = error.get("details")
    return _error_class(response.status, code)(
        _message(response, error),
        status_code=response.status,
        code=scrub(code) if code else f"HTTP_{response.status}",
        details=scrub_json(details) if isinstance(details, dict | list) else None,
        retry_after=_plausible_pause(response, error),
        request_id=response.request_id,
        generation_id=generation_id,
        safe_to_retry=_is_safe_to_retry(response.status, code, idempotent=idempotent),
    )


def is_in_own_form(error: APIStatusError) -> bool:
    """Whether an error has the service's own form: JSON with a code in capitals.

    A gateway or proxy in between responds in another form: HTML, or its own JSON.
    """
    code = error.code or ""
    return code != f"HTTP_{error.status_code}" and _OWN_CODE.fullmatch(code) is not None


def _error_class(status: int, code: str | None) -> type[APIStatusError]:
    if is_queue_full(status, code):
        return QueueFullError
    if status >= 500:
        return InternalServerError
    return _CLASSES.get(status, APIStatusError)


def _is_safe_to_retry(status: int, code: str | None, *, idempotent: bool) -> bool:
    """A rate or queue 429 charged nothing; a 5xx or a proxy's 429 may have."""
    if status == 429 and code is not None:
        return is_uncharged(status, code)
    return idempotent and (status == 429 or status >= 500)


def _message(response: Response, error: dict[str, Any]) -> str:
    if response.is_redirect:
        return _redirected(response)
    message = text(error.get("message"))
    if message is not None:
        return scrub(message[: 2 * _MAX_MESSAGE])[:_MAX_MESSAGE]
    if "code" in error or not response.content.strip():
        return "the service gave no reason"
    return _excerpt(response.content, _MAX_MESSAGE)


def _redirected(response: Response) -> str:
    to = "redirected without a Location"
    if "location" in response.headers:
        to = f"redirected to {scrub(response.headers['location'])[:_MAX_MESSAGE]}"
    return (
        f"{to}; redirects are not followed, since the API key goes with each request:"
        " check base_url, and any proxy or gateway in front of the service"
    )


def retry_after(response: Response) -> float | None:
    """Seconds that a response asks to wait, plausible or not.

    The body's ``error.retryAfter`` counts if it is above zero (Q15), else the header.
    The header may be a number, whole or not, or a date, which is compared with the
    response's own ``Date``. A number that no `float` holds is `inf`.
    """
    return _requested_pause(response, _error_of(response))


def _plausible_pause(response: Response, error: dict[str, Any]) -> float | None:
    return believed_pause(_requested_pause(response, error))


def _requested_pause(response: Response, error: dict[str, Any]) -> float | None:
    pause = _delay(error.get("retryAfter"))
    if pause is not None and pause > 0:
        return pause
    header = response.headers.get("retry-after")
    if header is None:
        return None
    delay = _delay(header)
    if delay is not None:
        return delay if delay >= 0 else None
    return _seconds_until(http_date(header), server_date(response))


def _delay(value: Any) -> float | None:
    """A number of seconds of any size: ``1e400`` is `inf`."""
    found = number(value)
    if found is not None:
        return float(found)
    if type(value) is str and _DIGITS.fullmatch(value.strip()):
        return inf
    if type(value) is int or type(value) is float:  # NaN is read as null
        return inf if value > 0 else -inf
    return None


def _seconds_until(then: dt.datetime | None, now: dt.datetime | None) -> float | None:
    if then is None or now is None:
        return None
    return max(0.0, (then - now).total_seconds())


def server_date(response: Response) -> dt.datetime | None:
    """The ``Date`` of a response (aware, UTC), in whole seconds; `None` if absent."""
    return http_date(response.headers.get("date"))


def response_facts(response: Response) -> ResponseFacts:
    """What a response says about the rate limits, without contradictory values."""
    headers = response.headers
    limit = _count(headers.get("x-ratelimit-limit")) or None
    remaining = _count(headers.get("x-ratelimit-remaining"))
    if remaining == 0 and has_no_limit(response):
        remaining = None  # with a limit of 0, this says nothing about the window
    if limit is not None and remaining is not None and remaining > limit:
        remaining = None
    if response.status < 400:
        return ResponseFacts(status=response.status, limit=limit, remaining=remaining)
    error = _error_of(response)
    asks = response.status in (429, 503)
    return ResponseFacts(
        status=response.status,
        code=text(error.get("code")),
        limit=limit,
        remaining=remaining,
        retry_after=_plausible_pause(response, error) if asks else None,
    )


def has_no_limit(response: Response) -> bool:
    """Whether its limit is below 1, which cannot mean that no request is allowed."""
    limit = number(response.headers.get("x-ratelimit-limit"))
    return limit is not None and limit < 1


def _count(header: str | None) -> int | None:
    """A header that consists of digits only."""
    if header is None or not (
        header.isascii() and header.isdigit() and len(header) < 10
    ):
        return None
    return int(header)
