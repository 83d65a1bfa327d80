"""Converts single values that the service writes in several ways; never raises.

Numbers come as numbers or as strings (Q1), times with or without a zone (Q3). A value
that cannot be converted becomes `None`; `raw` of the model keeps the JSON as received.
"""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

# 18 digits always fit below 2^63; a longer string is not worth the time to convert.
_NUMBER: Final = re.compile(
    r"[+-]?[0-9]{1,18}(?:(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?)"
)
_LARGEST: Final = 2**63
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"


def number(value: Any) -> float | None:
    """A finite number of less than 2^63 in magnitude, also from a string.

    Whole numbers stay `int`. `None` for `True`, NaN and infinities.
    """
    kind = type(value)
    if kind is int or kind is float:
        # NaN fails every comparison.
        return value if -_LARGEST < value < _LARGEST else None
    if kind is not str:
        return None
    return _number_in(value.strip())


def _number_in(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    if match[1] is None and match[2] is None:
        return int(text)
    return number(float(text))


def whole(value: Any) -> int | None:
    """A whole number: ``41.0`` and ``"41"`` give 41, ``41.5`` gives `None`."""
    if type(value) is int and -_LARGEST < value < _LARGEST:
        return value
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def seconds(value: Any) -> float | None:
    """A duration as `float`; `None` if negative."""
    found = number(value)
    return None if found is None or found < 0 else float(found)


def text(value: Any) -> str | None:
    """A non-empty string."""
    return value if type(value) is str and value else None


def flag(value: Any) -> bool | None:
    """`True` or `False`, as JSON has them."""
    return value if type(value) is bool else None


def identifier(value: Any) -> str | None:
    """An opaque id (Q2): a printable, non-blank string; or a whole number as one."""
    if type(value) is str:
        # A lone surrogate is not printable; it could not be put into a URL.
        return value if value.isprintable() and value.strip() else None
    return str(value) if type(value) is int and 0 <= value < _LARGEST else None


def moment(value: Any) -> dt.datetime | None:
    """An aware UTC time from ISO 8601; a time without a zone is UTC (Q3)."""
    if type(value) is not str:
        return None
    try:
        found = dt.datetime.fromisoformat(value)
        if found.tzinfo is dt.UTC:
            return found
        if found.tzinfo is None:
            return found.replace(tzinfo=dt.UTC)
        return found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=8)  # all responses within a second have the same date
def http_date(value: str | None) -> dt.datetime | None:
    """The time of a ``Date`` or ``Retry-After`` header (RFC 9110, 5.6.7)."""
    if value is None or len(value) > 64:
        return None
    try:
        found = _fixed_date(value) or parsedate_to_datetime(value)
        return (
            found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
        )
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _fixed_date(value: str) -> dt.datetime | None:
    """Parse ``Sun, 06 Nov 1994 08:49:37 GMT``, much faster than `email.utils`."""
    month, remainder = divmod(_MONTHS.find(value[8:11]), 3)
    if len(value) != 29 or remainder or not value.endswith(" GMT"):
        return None
    return dt.datetime(
        int(value[12:16]),
        month + 1,
        int(value[5:7]),
        int(value[17:19]),
        int(value[20:22]),
        int(value[23:25]),
        tzinfo=dt.UTC,
    )
