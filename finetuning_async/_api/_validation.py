"""Checks of single parameters: the documented ranges, and what JSON can hold.

Each check returns an `InvalidRequestError` that names the field, the value and the
range, or `None` if the value is valid. The value `None` means not set, which is valid
unless a prompt is required. A wrong type is a problem like any other: nothing here
raises a `TypeError`.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import SplitResult, urlsplit

from finetuning_async._errors import InvalidRequestError
from finetuning_async._types import Language, MusicalKey, Scale, TimeSignature

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._types import Priority

PRIORITIES: Final[tuple[Priority, ...]] = ("high", "normal", "low")
"""Highest first."""

PRIORITY_ALLOWED: Final = "'high', 'normal' or 'low'"
MAX_TAGS: Final = 700
MAX_LYRICS: Final = 2000
MAX_WEBHOOK: Final = 2048
MAX_SEED: Final = 2**31 - 1
MAX_ID: Final = 2048
MAX_SHOWN: Final = 40
MAX_WORD: Final = 100
MAX_KEY: Final = 255
LANGUAGES: Final[tuple[str, ...]] = get_args(Language)
FLATS: Final = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
KEYS: Final = tuple(key for key in get_args(MusicalKey) if key not in FLATS)
SCALES: Final[tuple[str, ...]] = get_args(Scale)
_LARGEST: Final = 2**63
TIMESIGNATURES: Final = tuple({str(beats): beats for beats in get_args(TimeSignature)})

_HOST: Final = re.compile(r"(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*\.?")


def words(
    field: str, value: object, *, most: int | None = None
) -> InvalidRequestError | None:
    """A string that is not blank, of at most `most` characters."""
    if value is None or (isinstance(value, str) and not value.strip()):
        limit = "" if most is None else f" of 1 to {most} characters"
        return InvalidRequestError(field, value, f"a non-blank string{limit}")
    return characters(field, value, most=most)


def characters(
    field: str, value: object, *, most: int | None
) -> InvalidRequestError | None:
    """A string of at most `most` characters that UTF-8 can encode."""
    if value is None:
        return None
    if not isinstance(value, str):
        return InvalidRequestError(field, value, "a string")
    if most is not None and len(value) > most:
        allowed = f"a string of at most {most} characters; it has {len(value)}"
        return InvalidRequestError(field, value, allowed)
    if not _is_encodable(value):
        return InvalidRequestError(field, value, "a string that UTF-8 can encode")
    return None


def idempotency_key(
    value: object, field: str = "idempotency_key"
) -> InvalidRequestError | None:
    """A string of 1 to 255 characters that every journal can store."""
    allowed = f"a string of 1 to {MAX_KEY} characters"
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        return InvalidRequestError(field, value, allowed)
    if len(value) > MAX_KEY:
        return InvalidRequestError(field, value, f"{allowed}; it has {len(value)}")
    # PostgreSQL stores no NUL, and UTF-8 no lone surrogate.
    if "\0" in value or not _is_encodable(value):
        allowed += " that UTF-8 can encode, without NUL"
        return InvalidRequestError(field, value, allowed)
    return None


def priority(value: object) -> InvalidRequestError | None:
    """One of `PRIORITIES`; `None` for the client's."""
    if value is None or (isinstance(value, str) and value in PRIORITIES):
        return None
    return InvalidRequestError("priority", value, PRIORITY_ALLOWED)


def share(value: object) -> InvalidRequestError | None:
    """A text that every store and journal can hold; `None` for the client's."""
    if idempotency_key(value) is None:
        return None
    allowed = f"a text of 1 to {MAX_KEY} characters without NUL, or None"
    return InvalidRequestError("share", value, allowed)


def identifier(field: str, value: object) -> InvalidRequestError | None:
    """An id (Q2): opaque, but printable and short enough for a URL."""
    # "." and ".." are path segments of their own in a URL.
    if isinstance(value, str) and value.strip(". ") and value.isprintable():
        if len(value) <= MAX_ID:
            return None
        allowed = f"an id of at most {MAX_ID} characters; it has {len(value)}"
        return InvalidRequestError(field, value[:MAX_SHOWN] + "...", allowed)
    return InvalidRequestError(field, value, "an id as the service returned it")


def between(
    field: str,
    value: object,
    least: int,
    most: int,
    *,
    unit: str,
    whole: bool = False,
) -> InvalidRequestError | None:
    """A number from `least` to `most`, both included."""
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
    """One of `allowed`, or of their aliases in `more`."""
    if value is None or (
        isinstance(value, str) and (value in allowed or value in more)
    ):
        return None
    *names, last = (*allowed, *more)
    return InvalidRequestError(field, value, f"one of {', '.join(names)} or {last}")


def timesignature(value: object) -> InvalidRequestError | None:
    """2 to 7, as a number or as a string."""
    if value is None or digits(value) in TIMESIGNATURES:
        return None
    allowed = "a whole number from 2 to 7 beats per bar"
    return InvalidRequestError("timesignature", value, allowed)


def seed(value: object) -> InvalidRequestError | None:
    """A whole number from 0 to 2^31-1."""
    return between("seed", value, 0, MAX_SEED, unit="(2^31-1)", whole=True)


def switch(field: str, value: object) -> InvalidRequestError | None:
    """`True` or `False`."""
    return (
        None
        if isinstance(value, bool)
        else InvalidRequestError(field, value, "True or False")
    )


def webhook(value: object, *, lenient: bool) -> InvalidRequestError | None:
    """A public ``https`` URL; `lenient` also allows ``http`` and this machine.

    The error does not quote the URL, whose query is a secret.
    """
    if value is None:
        return None
    wrong = _webhook_problem(value, lenient=lenient)
    return InvalidRequestError.hidden("webhook", wrong) if wrong else None


def _webhook_problem(value: object, *, lenient: bool) -> str | None:
    if not isinstance(value, str):
        return f"a URL as a string, got a value of type {type(value).__name__}"
    if len(value) > MAX_WEBHOOK:
        return f"a URL of at most {MAX_WEBHOOK} characters, got {len(value)}"
    if not value.isprintable() or " " in value or "\\" in value:
        return "a URL without spaces, line breaks or backslashes"
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
        return "a URL on the public internet; the service calls it from there"
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
    """Write a flat as the equal sharp: the service accepts sharps only."""
    return FLATS.get(value, value) if isinstance(value, str) else value


def digits(value: Any) -> Any:
    """Write a time signature as the service accepts it: as a string (Q1)."""
    given = number(value)
    return value if given is None else str(_without_fraction(given))


def body(**members: Any) -> dict[str, Any]:
    """Build the JSON object of the members that are not `None`.

    Whole numbers are written without a fraction: 30.0 as 30.

    Raises:
        InvalidRequestError: A value cannot be written as JSON.
    """
    made = {}
    for field, value in members.items():
        if value is not None:
            if not _is_json(value):
                raise _not_json(field, value)
            given = number(value)
            made[field] = value if given is None else _without_fraction(given)
    return made


def _not_json(field: str, value: object) -> InvalidRequestError:
    allowed = "a string, True, False or a finite number; JSON has no other scalars"
    if field == "webhook":
        return InvalidRequestError.hidden(field, allowed)
    return InvalidRequestError(field, value, allowed)


def _is_json(value: object) -> bool:
    if isinstance(value, str):
        return _is_encodable(value)
    return isinstance(value, bool) or number(value) is not None


def number(value: Any) -> float | None:
    """Convert a finite number of less than 2^63 in magnitude to `int` or `float`.

    Numbers of numpy, `Decimal` and `Fraction` are converted. `None` for anything else:
    a `bool` (numpy's included), NaN and infinities.
    """
    given = python_number(value)
    # NaN fails both comparisons.
    return given if given is not None and -_LARGEST < given < _LARGEST else None


def whole_number(value: Any) -> int | None:
    """Convert a number of an integer type likewise: not 2.0."""
    given = number(value)
    return given if isinstance(given, int) else None


def python_number(value: Any) -> float | None:
    """Convert any number to `int` or `float`, NaN and infinities too; else `None`."""
    if type(value) is int or type(value) is float:
        return value
    if value is None or isinstance(value, bool | str):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return _as_float(value)


def _as_float(value: Any) -> float | None:
    from numbers import Complex, Number, Real  # rarely needed, so imported late

    is_real = isinstance(value, Real) or not isinstance(value, Complex)
    if not (is_real and isinstance(value, Number)):
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # every real number has __float__
    except (TypeError, ValueError, OverflowError):
        return None


def _without_fraction(value: float) -> float:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_encodable(value: str) -> bool:
    """Whether it has no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
