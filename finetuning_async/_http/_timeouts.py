"""Seconds for one attempt on the wire, as httpx's `Timeout`."""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias

import httpx

from finetuning_async._api import python_number
from finetuning_async._errors import InvalidRequestError

Timeout: TypeAlias = httpx.Timeout
"""The name that other wings use: only this wing imports httpx."""

DEFAULT_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)

_FOREVER: Final = 1e12
"""Seconds from which on a timeout means no limit; so does what no `float` can hold."""


class HTTPTimeout(Protocol):
    """A `Timeout` of httpx or of httpx2."""

    def as_dict(self) -> Any:
        """Seconds for each step, by its name."""


def as_timeout(value: float | HTTPTimeout | None) -> Timeout:
    """Convert the `request_timeout` of a client to httpx's `Timeout`.

    Args:
        value: Seconds, or the `Timeout` of httpx or httpx2; `None` means no limit.

    Raises:
        InvalidRequestError: It is not a number above 0.
    """
    if isinstance(value, httpx.Timeout):
        return value
    if value is not None and hasattr(value, "as_dict"):
        return httpx.Timeout(**value.as_dict())
    seconds = python_number(value)
    if value is None or (seconds is not None and seconds > 0):
        is_limit = seconds is not None and seconds < _FOREVER
        return httpx.Timeout(seconds if is_limit else None)
    raise InvalidRequestError(
        "request_timeout",
        value,
        "a number of seconds above 0, an httpx.Timeout, or None",
    )
