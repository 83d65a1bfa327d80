"""The caller's own headers, which may be secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from finetuning_async._secrets import MASK

RESERVED: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
    }
)
"""Headers that this package or HTTP itself sets; a caller cannot change them."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


class Headers:
    """Headers that go with every request to the service; `repr` masks their values.

    The values may be secrets, so they cannot be pickled either.

    Args:
        pairs: Names and values, checked.
    """

    __slots__ = ("__pairs",)

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self.__pairs = dict(pairs)

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self.__pairs, MASK))

    def __bool__(self) -> bool:
        return bool(self.__pairs)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "headers cannot be pickled, they may be secrets; make the client in the"
            " process that uses it"
        )

    def reveal(self) -> Mapping[str, str]:
        """The values in clear; only for the line that puts them on the wire."""
        return self.__pairs


def read_headers(given: object) -> tuple[Headers | None, str]:
    """Check headers.

    It does not raise: a traceback may show the locals of a frame, and here they are
    secrets. The grammar is that of RFC 9110, section 5. Line breaks are refused: they
    would let a value inject another header.

    Returns:
        The headers, or `None` and what they must be, without repeating a value.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        return None, "a mapping of header names to values"
    seen: set[str] = set()
    for name, value in given.items():
        problem = _problem(name, value)
        if problem is None and name.lower() in seen:
            problem = f"a mapping in which each name occurs once; {name!r} occurs twice"
        if problem is not None:
            return None, problem
        seen.add(name.lower())
    return Headers(given), ""


def _problem(name: object, value: object) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "a mapping of header names (letters, digits and hyphens) to values"
    if name.lower() in RESERVED:
        hint = "; pass api_key= instead" if name.lower() == "x-api-key" else ""
        return f"a mapping without {name!r}, which only the client sets{hint}"
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return (
            f"a mapping whose value for {name!r} is printable ASCII, without line"
            " breaks and without spaces at its ends"
        )
    return None
