"""What the service accepts in a body or a query (section 3, U11, U14 to U17).

Each check takes the raw JSON value and returns the value to use, or raises `ApiError`
with ``VALIDATION_ERROR``; its message and its ``details.field`` name the field. Null
counts as absent.
"""

from __future__ import annotations

import ipaddress
import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from finetuning_async.emulator._errors import invalid, unacceptable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LANGUAGES = ("en", "ja", "de", "fr", "es", "zh", "ko", "pt", "it", "ru")
KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
SCALES = ("major", "minor")
TIME_SIGNATURES = ("2", "3", "4", "5", "6", "7")
STATUSES = ("pending", "processing", "completed", "failed")
KINDS = ("music", "instrumental")
HIGHEST_SEED = 2**31 - 1
HIGHEST_PAGE = 99
MOST_IDS = 100


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # deep nesting is the latter
        raise invalid("body is not valid JSON") from None
    if not isinstance(value, dict):
        raise invalid("body is not a JSON object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def text(body: Mapping[str, Any], field: str, most: int) -> str | None:
    """An optional string of at most ``most`` characters."""
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise unacceptable(field, "is not a string")
    if len(value) > most:
        raise unacceptable(field, f"is longer than {most} characters")
    return value


def required_text(body: Mapping[str, Any], field: str, most: int) -> str:
    """A required string that is not blank."""
    value = text(body, field, most)
    if value is None or not value.strip():
        raise unacceptable(field, "is required")
    return value


def number(
    body: Mapping[str, Any],
    field: str,
    low: float,
    high: float,
    *,
    clamp: bool = False,
) -> float | None:
    """An optional number from ``low`` to ``high``; ``clamp`` moves it into range."""
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unacceptable(field, "is not a number")
    if not low <= value <= high:
        if not clamp:
            raise unacceptable(field, f"is outside {_plain(low)}-{_plain(high)}")
        value = min(max(value, low), high)
    return int(value) if value == int(value) else value


def _plain(value: float) -> str:
    """A number as a person writes it: ``2147483647``, not ``2.14748e+09``."""
    return str(int(value) if value == int(value) else value)


def seed(body: Mapping[str, Any]) -> int | None:
    """An optional whole number from 0 to 2^31-1 (U16)."""
    value = number(body, "seed", 0, HIGHEST_SEED)
    if isinstance(value, float):
        raise unacceptable("seed", "is not a whole number")
    return value


def flag(body: Mapping[str, Any], field: str) -> bool:
    """An optional boolean; absent means true (quirk Q29)."""
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise unacceptable(field, "is not a boolean")
    return value is not False


def choice(values: Mapping[str, Any], field: str, allowed: Sequence[str]) -> str | None:
    """An optional string, one of ``allowed``; empty counts as absent (U15)."""
    value = values.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in allowed:
        raise unacceptable(field, f"is not one of {', '.join(allowed)}")
    return value


def ids(body: Mapping[str, Any], field: str) -> list[str]:
    """A list of 1 to 100 ids."""
    value = body.get(field)
    if not isinstance(value, list) or not value:
        raise unacceptable(field, "must be a list of at least one id")
    if not all(isinstance(item, str) for item in value):
        raise unacceptable(field, "holds something that is not a string")
    if len(value) > MOST_IDS:
        raise unacceptable(field, "holds too many entries", max=MOST_IDS)
    return value


def page(query: Mapping[str, str]) -> tuple[int, int]:
    """``limit`` and ``offset`` of a list (U14)."""
    return (
        _whole(query, "limit", 1, HIGHEST_PAGE, absent=20),
        _whole(query, "offset", 0, 2**31 - 1, absent=0),
    )


def _whole(
    query: Mapping[str, str], field: str, low: int, high: int, *, absent: int
) -> int:
    raw = query.get(field, "")
    if raw == "":
        return absent
    digits = raw.isascii() and raw.isdigit() and len(raw) <= 10
    if not digits or not low <= int(raw) <= high:
        raise unacceptable(field, f"is not a whole number from {low} to {high}")
    return int(raw)


def webhook(
    body: Mapping[str, Any], *, loopback: bool, hosts: Sequence[str] = ()
) -> str | None:
    """An optional ``https://`` URL on the public internet.

    With ``loopback``, this machine is allowed as well, and plain ``http`` to it (U20).
    The same holds for ``hosts``, which are names or patterns such as ``*.internal``.
    """
    url = text(body, "webhook", 2048)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise unacceptable("webhook", "is not a valid URL") from None
    near = loopback and is_loopback(host)
    near = near or any(fnmatchcase(host, pattern) for pattern in hosts)
    if parts.scheme != "https" and not (near and parts.scheme == "http"):
        raise unacceptable("webhook", "is not an https:// URL")
    if not host or not (near or _is_public(host)):
        raise unacceptable("webhook", "does not point to the public internet")
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not is_loopback(host)
