"""Headers of the caller's own, which may be secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from finetuning_async._secrets import MASK

NOT_YOURS: Final = frozenset(
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
"""What the library, or HTTP itself, says in these is not the caller's to change."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")


class Headers:
    """Headers that go with every request to the service, and show their names only.

    Their values may be secrets: they are in no `repr`, and not pickled.

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
        raise TypeError("headers are not pickled; build the client where it is used")

    def reveal(self) -> Mapping[str, str]:
        """The headers themselves; for the one line that puts them on the wire."""
        return self.__pairs

    def over(self, others: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """These, and the others that have another name, as bytes for the wire."""
        mine = [(name.encode(), value.encode()) for name, value in self.__pairs.items()]
        names = {name.lower() for name, _ in mine}
        return [pair for pair in others if pair[0].lower() not in names] + mine


def read_headers(given: object) -> tuple[Headers | None, str]:
    """Check headers, or say what is wrong with them without repeating a value.

    It does not raise: a traceback may show the locals of a frame, and here they are
    secrets. The grammar is that of RFC 9110, section 5; line breaks are refused, which
    would begin a header of somebody else's.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        return None, "a mapping of header names to values"
    seen: set[str] = set()
    for name, value in given.items():
        problem = _problem(name, value)
        if problem is None and name.lower() in seen:
            problem = f"given once by name, in any case; {name!r} is given twice"
        if problem is not None:
            return None, problem
        seen.add(name.lower())
    return Headers(given), ""


def _problem(name: object, value: object) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "a mapping whose keys are header names: letters, digits and hyphens"
    if name.lower() in NOT_YOURS:
        hint = "; pass api_key=" if name.lower() == "x-api-key" else ""
        return f"without {name!r}, which the client sets itself{hint}"
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return (
            "printable ASCII without line breaks and without space at the ends;"
            f" the value of {name!r} is not"
        )
    return None
