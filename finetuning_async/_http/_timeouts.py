"""Seconds for one attempt on the wire, in the form of httpx."""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias

import httpx

from finetuning_async._api import python_number
from finetuning_async._errors import InvalidRequestError

Timeout: TypeAlias = httpx.Timeout
"""What other modules call httpx's timeouts: only this package imports httpx."""

DEFAULT_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)

_FOR_EVER: Final = 1e12
"""Seconds; so many, or what no `float` can hold, are no limit."""


class HTTPTimeout(Protocol):
    """A `Timeout` of httpx or of httpx2."""

    def as_dict(self) -> Any:
        """Seconds for each step, by its name."""


def as_timeout(value: float | HTTPTimeout | None) -> Timeout:
    """Turn the `request_timeout` of a client into httpx's form; `None` is no limit.

    Args:
        value: Seconds, or the `Timeout` of httpx or httpx2.

    Raises:
        InvalidRequestError: It is not above 0, NaN, or no number.
    """
    if isinstance(value, httpx.Timeout):
        return value
    if value is not None and hasattr(value, "as_dict"):
        return httpx.Timeout(**value.as_dict())
    seconds = python_number(value)
    if value is None or (seconds is not None and seconds > 0):
        is_limit = seconds is not None and seconds < _FOR_EVER
        return httpx.Timeout(seconds if is_limit else None)
    raise InvalidRequestError(
        "request_timeout", value, "seconds above 0, an httpx.Timeout, or None"
    )
