"""Checks of arguments that many methods of a client take.

Each raises before anything is sent: a callback that cannot be called must not be
discovered only when its track has been paid for.
"""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning_async._api import _validation
from finetuning_async._api._validation import (
    PRIORITIES,
    PRIORITY_ALLOWED,
    python_number,
    whole_number,
)
from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from finetuning_async._types import Priority

_STRICT: Final = json.JSONEncoder(allow_nan=False)


def check_timeout(timeout: float, name: str = "timeout") -> float:
    """Check a number of seconds; infinity is allowed.

    Raises:
        InvalidRequestError: It is negative, NaN or not a number.
    """
    seconds = python_number(timeout)
    if seconds is None or not seconds >= 0:  # NaN fails every comparison
        allowed = "a number of seconds, at least 0, or None for no limit"
        raise InvalidRequestError(name, timeout, allowed)
    try:
        return float(seconds)
    except OverflowError:  # an int above 1.8e308
        return inf


def check_retries(max_retries: object) -> int:
    """Check a number of retries.

    Raises:
        InvalidRequestError: It is not a whole number of at least 0.
    """
    count = whole_number(max_retries)
    if count is not None and count >= 0:
        return count
    allowed = "a whole number of at least 0"
    raise InvalidRequestError("max_retries", max_retries, allowed)


def check_priority(priority: object) -> Priority:
    """Check a priority.

    Raises:
        InvalidRequestError: It is none of ``"high"``, ``"normal"`` and ``"low"``.
    """
    if isinstance(priority, str):
        for known in PRIORITIES:
            if priority == known:
                return known
    raise InvalidRequestError("priority", priority, PRIORITY_ALLOWED)


def check_share(share: object) -> str | None:
    """Check the name of a share.

    Raises:
        InvalidRequestError: It is neither `None` nor a string of 1 to 255 characters
            that UTF-8 can encode, without NUL.
    """
    problem = _validation.share(share)
    if problem is not None:
        raise problem
    return cast("str | None", share)


def check_callback(callback: object, name: str) -> None:
    """Check an optional callback.

    Raises:
        InvalidRequestError: It is not callable.
    """
    if callback is not None and not callable(callback):
        raise InvalidRequestError(name, callback, "a function, plain or async, or None")


def check_json(body: Mapping[str, Any]) -> None:
    """Check that a body can be sent, before a permit is taken for it.

    Raises:
        InvalidRequestError: It holds a value that JSON cannot represent.
    """
    if _is_json(body):
        return
    wrong = next(name for name, value in body.items() if not _is_json(value))
    raise InvalidRequestError(wrong, body[wrong], "JSON-serializable")


def _is_json(value: object) -> bool:
    try:
        _STRICT.encode(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
