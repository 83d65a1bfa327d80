"""Reads what every answer has, whatever it is about: JSON, limits, times, errors.

An answer that cannot be read is an `APIResponseError` and nothing else; an answer that
says no becomes the `APIStatusError` of its status. What is quoted from an answer goes
through `scrub`: a service or a proxy may repeat the key or a webhook's secret.
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

_HINT: Final = 80
_MESSAGE: Final = 500
_CLASSES: Final[dict[int, type[APIStatusError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
_DIGITS: Final = re.compile(r"\+?[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]+)?")
_CUT_SHORT: Final = re.compile(
    r'\s*\{\s*(?:"data"\s*:\s*\{\s*)?"id"\s*:\s*"([^"\\]+)"', re.ASCII
)


def _no_constant(name: str) -> None:
    """NaN and the infinities are no JSON; they are read as null."""


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def decode(content: bytes) -> Any:
    """Parse JSON; a byte order mark is allowed.

    Raises:
        ValueError: If it is no JSON, no UTF-8, nested too deep, or holds a number of
            thousands of digits.
    """
    try:
        # Not by the codec utf-8-sig: it is a file, which may have to be opened first.
        return _DECODER.decode(content.removeprefix(BOM_UTF8).decode())
    except RecursionError:
        raise ValueError("nested too deep") from None


def unreadable(
    answer: Response | None, wrong: str, path: str = "$"
) -> APIResponseError:
    """The error for what is not what it should be, with a hint of what came instead."""
    if answer is None:
        return APIResponseError(
            f"the JSON cannot be read: {wrong} at {path}", path=path
        )
    return APIResponseError(
        f"the answer cannot be read: {wrong} at {path} (HTTP {answer.status});"
        f" it begins {_hint(answer.content)!r}",
        path=path,
        status_code=answer.status,
        request_id=answer.request_id,
    )


def too_long(answer: Response) -> APIResponseError:
    """The error for a body that was not read to its end."""
    return unreadable(answer, f"longer than {LONGEST_BODY // 2**20} MiB")


def _hint(content: bytes, length: int = _HINT) -> str:
    """The first printable characters of a body, without secrets."""
    # Twice the longest URL: a secret that is cut in the middle is still seen as one.
    start = content[:8192].decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else " " for c in scrub(start))
    shown = " ".join(shown.split())
    return shown if len(shown) <= length else shown[: length - 3] + "..."


def json_of(answer: Response) -> Any:
    """Parse the body of an answer.

    Raises:
        APIResponseError: If it is no JSON, or too long.
    """
    if answer.is_cut:
        raise too_long(answer)
    try:
        return decode(answer.content)
    except ValueError:
        pass
    raise unreadable(answer, "no JSON")


def data_of(answer: Response) -> tuple[Any, str]:
    """What is inside the ``data`` envelope, which not every answer has (Q9).

    Returns:
        The value and its JSON path.

    Raises:
        APIResponseError: If the body is no JSON.
    """
    body = json_of(answer)
    if type(body) is dict and "data" in body:
        return body["data"], "$.data"
    return body, "$"


def accepted_id(answer: Response) -> str | None:
    """The id in the answer to a create, whatever else is odd about it.

    A body that was cut short still names it when the id came first.
    """
    if not answer.is_success:
        return None
    try:
        body = decode(answer.content)
    except (ValueError, MemoryError):
        match = _CUT_SHORT.match(answer.content[:4096].decode("utf-8", "replace"))
        return identifier(match[1]) if match else None
    if type(body) is not dict:
        return None
    data = body.get("data")
    inner = data.get("id") if type(data) is dict else None
    return identifier(inner) or identifier(body.get("id"))


def not_about(
    answer: Response, asked: str, others: Container[str]
) -> APIResponseError | None:
    """The error for an answer that shows another id than the one asked for.

    Args:
        answer: What came.
        asked: The id that was asked for.
        others: Those of earlier requests. An id that none was about cannot be the
            answer to another of them: the service spells it in another way (Q2, Q8).
    """
    if f'"{asked}"'.encode("utf-8", "replace") in answer.content:
        return None
    shown = accepted_id(answer)
    if shown is None or shown == asked or shown not in others:
        return None
    return APIResponseError(
        f"asked for {asked}, and answered with {shown}: that is the answer to another"
        " request",
        path="$.data.id",
        status_code=answer.status,
        generation_id=asked,
        request_id=answer.request_id,
        safe_to_retry=True,
    )


def _error_of(answer: Response) -> dict[str, Any]:
    """The ``error`` object of an answer; empty if there is none to be read."""
    if answer.is_cut:
        return {}
    try:
        body = decode(answer.content)
    except ValueError:
        return {}
    error = body.get("error") if type(body) is dict else None
    return error if type(error) is dict else {}


def status_error(
    answer: Response, *, idempotent: bool, generation_id: str | None = None
) -> APIStatusError:
    """The error for an answer that says no.

    Args:
        answer: Any answer that is not 2xx.
        idempotent: Whether sending the request twice does no more than once; then a 5xx
            may be tried again.
        generation_id: The track the request was about.
    """
    error = _error_of(answer)
    code = text(error.get("code"))
    details = error.get("details")
    return _class_of(answer.status, code)(
        _message(answer, error),
        status_code=answer.status,
        code=scrub(code) if code else f"HTTP_{answer.status}",
        details=scrub_json(details) if isinstance(details, dict | list) else None,
        retry_after=_retry_after(answer, error),
        request_id=answer.request_id,
        generation_id=generation_id,
        safe_to_retry=_is_safe(answer.status, code, idempotent=idempotent),
    )


def is_in_own_form(error: APIStatusError) -> bool:
    """Whether an error came as the service's do: JSON with a code in capitals.

    What stands between has other words: HTML, or JSON of its own.
    """
    code = error.code or ""
    return code != f"HTTP_{error.status_code}" and _OWN_CODE.fullmatch(code) is not None


def _class_of(status: int, code: str | None) -> type[APIStatusError]:
    if is_queue_full(status, code):
        return QueueFullError
    if status >= 500:
        return InternalServerError
    return _CLASSES.get(status, APIStatusError)


def _is_safe(status: int, code: str | None, *, idempotent: bool) -> bool:
    """A rate or queue 429 charged nothing; 5xx and a proxy's own 429 may have."""
    if status == 429 and code is not None:
        return is_uncharged(status, code)
    return idempotent and (status == 429 or status >= 500)


def _message(answer: Response, error: dict[str, Any]) -> str:
    if answer.is_redirect:
        return _redirected(answer)
    said = text(error.get("message"))
    if said is not None:
        return scrub(said[: 2 * _MESSAGE])[:_MESSAGE]
    if "code" in error or not answer.content.strip():
        return "the service gave no reason"
    return _hint(answer.content, _MESSAGE)


def _redirected(answer: Response) -> str:
    to = "redirected, but not to where"
    if "location" in answer.headers:
        to = f"redirected to Location: {scrub(answer.headers['location'])[:_MESSAGE]}"
    return (
        f"{to}. It is not followed, for the API key goes with each request: check"
        " base_url, and what stands between here and the service"
    )


def retry_after(answer: Response) -> float | None:
    """Seconds that an answer asks to wait, believed or not: body first, header second.

    The body's ``error.retryAfter`` counts when it is above zero (Q15). The header may
    be a number, whole or not, or a date, measured against the answer's own ``Date``. A
    number beyond all bounds is `inf`.
    """
    return _asked_pause(answer, _error_of(answer))


def _retry_after(answer: Response, error: dict[str, Any]) -> float | None:
    return believed_pause(_asked_pause(answer, error))


def _asked_pause(answer: Response, error: dict[str, Any]) -> float | None:
    said = _delay(error.get("retryAfter"))
    if said is not None and said > 0:
        return said
    header = answer.headers.get("retry-after")
    if header is None:
        return None
    delay = _delay(header)
    if delay is not None:
        return delay if delay >= 0 else None
    return _until(http_date(header), server_date(answer))


def _delay(value: Any) -> float | None:
    """A number of seconds, however large; ``1e400`` is none the less one."""
    found = number(value)
    if found is not None:
        return float(found)
    if type(value) is str and _DIGITS.fullmatch(value.strip()):
        return inf
    if type(value) is int or type(value) is float:  # NaN is read as null
        return inf if value > 0 else -inf
    return None


def _until(then: dt.datetime | None, now: dt.datetime | None) -> float | None:
    if then is None or now is None:
        return None
    return max(0.0, (then - now).total_seconds())


def server_date(answer: Response) -> dt.datetime | None:
    """The ``Date`` of an answer (aware, UTC), in whole seconds; `None` if absent."""
    return http_date(answer.headers.get("date"))


def response_facts(answer: Response) -> ResponseFacts:
    """What an answer says about the limits; what cannot be true is left out."""
    headers = answer.headers
    limit = _count(headers.get("x-ratelimit-limit")) or None
    remaining = _count(headers.get("x-ratelimit-remaining"))
    if remaining == 0 and has_no_limit(answer):
        remaining = None  # of nothing, nothing is left
    if limit is not None and remaining is not None and remaining > limit:
        remaining = None
    if answer.status < 400:
        return ResponseFacts(status=answer.status, limit=limit, remaining=remaining)
    error = _error_of(answer)
    asks = answer.status in (429, 503)
    return ResponseFacts(
        status=answer.status,
        code=text(error.get("code")),
        limit=limit,
        remaining=remaining,
        retry_after=_retry_after(answer, error) if asks else None,
    )


def has_no_limit(answer: Response) -> bool:
    """Whether it names a limit below 1, at which nothing could ever be asked."""
    limit = number(answer.headers.get("x-ratelimit-limit"))
    return limit is not None and limit < 1


def _count(header: str | None) -> int | None:
    """A header that is a whole number and nothing else."""
    if header is None or not (
        header.isascii() and header.isdigit() and len(header) < 10
    ):
        return None
    return int(header)
