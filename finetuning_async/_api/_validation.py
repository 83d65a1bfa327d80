"""Checks of single parameters: the documented ranges, and what JSON can carry.

Each check gives an `InvalidRequestError` that names the field, the value and the range,
or `None`. `None` as a value means not set and passes, except where words are required.
Wrong types are problems like any other: nothing here raises a `TypeError`.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_TAGS: Final = 700
MOST_LYRICS: Final = 2000
MOST_WEBHOOK: Final = 2048
MOST_SEED: Final = 2**31 - 1
MOST_ID: Final = 2048
MOST_SHOWN: Final = 40
MOST_WORD: Final = 100
LANGUAGES: Final = ("en", "ja", "de", "fr", "es", "zh", "ko", "pt", "it", "ru")
KEYS: Final = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FLATS: Final = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
SCALES: Final = ("major", "minor")
_LARGEST: Final = 2**63
TIMESIGNATURES: Final = ("2", "3", "4", "5", "6", "7")

_HOST: Final = re.compile(r"(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*\.?")


def words(
    field: str, value: object, *, most: int | None = None
) -> InvalidRequestError | None:
    """Text that says something, of at most `most` characters."""
    if value is None or (isinstance(value, str) and not value.strip()):
        limit = "" if most is None else f" of 1 to {most} characters"
        return InvalidRequestError(field, value, f"text{limit} that is not blank")
    return characters(field, value, most=most)


def characters(
    field: str, value: object, *, most: int | None
) -> InvalidRequestError | None:
    """Text of at most `most` characters that UTF-8 can carry."""
    if value is None:
        return None
    if not isinstance(value, str):
        return InvalidRequestError(field, value, "text")
    if most is not None and len(value) > most:
        allowed = f"at most {most} characters, not {len(value)}"
        return InvalidRequestError(field, value, allowed)
    if not _is_encodable(value):
        return InvalidRequestError(field, value, "text that UTF-8 can carry")
    return None


def identifier(field: str, value: object) -> InvalidRequestError | None:
    """An id (Q2): opaque, but what the service can have given, and a URL can carry."""
    if isinstance(value, str) and value.strip(". ") and value.isprintable():
        if len(value) <= MOST_ID:
            return None
        allowed = f"an id of at most {MOST_ID} characters, not {len(value)}"
        return InvalidRequestError(field, value[:MOST_SHOWN] + "...", allowed)
    return InvalidRequestError(field, value, "an id, as the service gave it")


def between(
    field: str,
    value: object,
    least: int,
    most: int,
    *,
    unit: str,
    whole: bool = False,
) -> InvalidRequestError | None:
    """A number from `least` to `most`; both are allowed."""
    if value is None:
        return None
    given = number(value)
    is_between = given is not None and least <= given <= most
    if is_between and not (whole and isinstance(given, float) and given % 1):
        return None
    kind = "a whole number" if whole else "a number"
    return InvalidRequestError(field, value, f"{kind} from {least} to {most} {unit}")


def one_of(
    field: str, value: object, allowed: Iterable[str], *, more: Iterable[str] = ()
) -> InvalidRequestError | None:
    """One of some words, or of `more` that stand for one of them."""
    if value is None or (
        isinstance(value, str) and (value in allowed or value in more)
    ):
        return None
    return InvalidRequestError(field, value, "one of " + " ".join((*allowed, *more)))


def timesignature(value: object) -> InvalidRequestError | None:
    """2 to 7, as a number or as a digit."""
    if value is None or digits(value) in TIMESIGNATURES:
        return None
    return InvalidRequestError("timesignature", value, "beats per bar from 2 to 7")


def seed(value: object) -> InvalidRequestError | None:
    """A whole number from 0 to 2^31-1."""
    return between("seed", value, 0, MOST_SEED, unit="(2^31-1)", whole=True)


def switch(field: str, value: object) -> InvalidRequestError | None:
    """`True` or `False`."""
    return (
        None
        if isinstance(value, bool)
        else InvalidRequestError(field, value, "True or False")
    )


def webhook(value: object, *, lenient: bool) -> InvalidRequestError | None:
    """A public ``https`` URL; `lenient` allows ``http`` and this machine.

    The error does not repeat the URL: its query is a secret.
    """
    if value is None:
        return None
    wrong = _webhook_problem(value, lenient=lenient)
    return InvalidRequestError.hidden("webhook", wrong) if wrong else None


def _webhook_problem(value: object, *, lenient: bool) -> str | None:
    if not isinstance(value, str):
        return f"a URL as text, not {type(value).__name__}"
    if len(value) > MOST_WEBHOOK:
        return f"a URL of at most {MOST_WEBHOOK} characters, not {len(value)}"
    if not value.isprintable() or " " in value or "\\" in value:
        return "a URL without spaces, line breaks and backslashes"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "a URL with a valid host and port"
    return _place_problem(parts, host or "", lenient=lenient)


def _place_problem(parts: SplitResult, host: str, *, lenient: bool) -> str | None:
    schemes = ("https", "http") if lenient else ("https",)
    if parts.scheme not in schemes:
        return f"a URL that begins with {' or '.join(s + '://' for s in schemes)}"
    address = _address(host)
    if address is None and not (len(host) <= 253 and _HOST.fullmatch(host)):
        return "a URL with a valid host"
    if not lenient and _is_private(host, address):
        return "a URL on the public internet; the service calls it from outside"
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_private(
    host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if address is not None:
        return not address.is_global
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def sharp(value: Any) -> Any:
    """A key without flats: the service knows none."""
    return FLATS.get(value, value) if isinstance(value, str) else value


def digits(value: Any) -> Any:
    """A time signature as the service takes it: as text (Q1)."""
    given = number(value)
    return value if given is None else str(_whole_if_it_can(given))


def body(**members: Any) -> dict[str, Any]:
    """A JSON object of what was set.

    Whole numbers are written without a fraction, whichever way they came.

    Raises:
        InvalidRequestError: If a value cannot be written as JSON.
    """
    made = {}
    for field, value in members.items():
        if value is not None:
            if not _is_json(value):
                raise _unwritable(field, value)
            given = number(value)
            made[field] = value if given is None else _whole_if_it_can(given)
    return made


def _unwritable(field: str, value: object) -> InvalidRequestError:
    allowed = "text, True, False or a finite number; JSON can carry nothing else here"
    if field == "webhook":
        return InvalidRequestError.hidden(field, allowed)
    return InvalidRequestError(field, value, allowed)


def _is_json(value: object) -> bool:
    if isinstance(value, str):
        return _is_encodable(value)
    return isinstance(value, bool) or number(value) is not None


def number(value: Any) -> float | None:
    """A finite number below 2^63 in size as Python's own `int` or `float`.

    So are numpy's, a `Decimal` and a `Fraction`. `None` for whatever is no number; for
    a `bool`, numpy's too; for NaN and infinities.
    """
    given = python_number(value)
    # NaN fails both comparisons.
    return given if given is not None and -_LARGEST < given < _LARGEST else None


def whole_number(value: Any) -> int | None:
    """The same for what says of itself that it is whole: 2.0 does not."""
    given = number(value)
    return given if isinstance(given, int) else None


def python_number(value: Any) -> float | None:
    """Any number as an `int` or a `float`, infinities and NaN too; else `None`."""
    if type(value) is int or type(value) is float:
        return value
    if value is None or isinstance(value, bool | str):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return _as_float(value)


def _as_float(value: Any) -> float | None:
    from numbers import Complex, Number, Real  # rarely needed

    is_real = isinstance(value, Real) or not isinstance(value, Complex)
    if not (is_real and isinstance(value, Number)):
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # all real numbers can
    except (TypeError, ValueError, OverflowError):
        return None


def _whole_if_it_can(value: float) -> float:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_encodable(value: str) -> bool:
    """Whether no half of a surrogate pair stands alone in it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
