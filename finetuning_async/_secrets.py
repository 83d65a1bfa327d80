"""Values that must not be printed: the API key, and the query of a webhook URL."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, NoReturn
from unicodedata import category
from urllib.parse import urlsplit, urlunsplit

KEY_PREFIX: Final = "ft_live_"
KEY_LENGTH: Final = 40
MASK: Final = "****"


class ApiKey:
    """An API key that never shows itself.

    Its `repr` and `str` are ``ft_live_****``; it refuses to be pickled. Two keys are
    equal when their text is.
    """

    __slots__ = ("__text", "digest")

    def __init__(self, text: str) -> None:
        self.__text = text
        self.digest: str = hashlib.sha256(text.encode()).hexdigest()

    def reveal(self) -> str:
        """The key itself; for the one line that puts it on the wire."""
        return self.__text

    def __repr__(self) -> str:
        return KEY_PREFIX + MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; build the client where it is used")


def key_problem(text: str | None) -> str | None:
    """Say what a key must be, without quoting it; `None` if it can be sent.

    Only what cannot be put into an HTTP header is a problem. The documented form
    (``ft_live_`` and 32 hexadecimal digits, 40 characters) is not checked, since two
    published sources differ on it.
    """
    if not text:
        return "given; there is no API key: pass api_key=, or set FINETUNING_API_KEY"
    if not text.isascii() or not text.isprintable() or " " in text:
        return "printable ASCII without spaces and line breaks"
    return None


def looks_documented(text: str) -> bool:
    """Whether a key has the published prefix and length."""
    return text.startswith(KEY_PREFIX) and len(text) == KEY_LENGTH


def mask_query(url: str | None) -> str | None:
    """Hide the query, fragment and credentials of a URL; they often are a secret.

    >>> mask_query("https://me.example/hook?token=s3cret")
    'https://me.example/hook?****'
    """
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    query = MASK if parts.query or parts.fragment or host != parts.netloc else ""
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def masked_repr(url: str | None) -> str:
    """`repr` for an attrs field that holds a URL with a secret query."""
    return repr(mask_query(url))


_KEY_IN_TEXT: Final = re.compile(KEY_PREFIX + r"\w+")
# The second form is a login that was cut short before its "@".
_LOGIN_IN_TEXT: Final = re.compile(
    r"(https?:(?:\\?/){2})(?:[^\s/@\"'<>?#]+@|[^\s/@\"'<>?#:]+:[^\s/@\"'<>?#]*\Z)",
    re.IGNORECASE,
)
# JSON may spell the question mark as \u003f. No possessive `}+`: CPython up to 3.11.4
# matches it wrongly around alternatives (its issue 106052), and the query would stay.
_QUERY_IN_TEXT: Final = re.compile(
    r"(https?:(?:\\?/){2}(?:[^\s\"'<>?#\\]|\\(?!u003f|u0023)){0,2048})"
    r"(?:[?#]|\\u003f|\\u0023)[^\s\"'<>]+",
    re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Hide keys, and logins and queries of URLs, in text of unknown origin.

    For what is quoted from an answer: a service or a proxy may repeat what it was sent.
    """
    text = _KEY_IN_TEXT.sub(KEY_PREFIX + MASK, text)
    text = _LOGIN_IN_TEXT.sub(r"\1" + MASK + "@", text)
    return _QUERY_IN_TEXT.sub(r"\1?" + MASK, text)


def scrub_json(value: Any, *, depth: int = 16) -> Any:
    """The same for every text in a parsed JSON value, `depth` levels down.

    What is nested deeper is masked whole, so that no answer can exhaust the stack.
    """
    if isinstance(value, str):
        return scrub(value)
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return MASK
    if isinstance(value, list):
        return [scrub_json(item, depth=depth - 1) for item in value]
    return {scrub(name): scrub_json(v, depth=depth - 1) for name, v in value.items()}


_JOINERS: Final = "\u200c\u200d"
"""Without them Persian is misspelt and emoji fall apart; they do nothing else."""


def is_plain(char: str) -> bool:
    """Whether a character shows as itself, and moves neither cursor nor neighbours.

    Not so: control codes, line breaks of all kinds, what turns the direction of
    writing, halves of surrogate pairs, and what Unicode has not assigned.
    """
    return char.isprintable() or char in _JOINERS or category(char) == "Zs"


def shown(text: str) -> str:
    r"""Text on one line, with all that is not plain escaped as Python writes it.

    >>> print(shown("rain\n\x1b[2J\u202egnp"))
    rain\n\x1b[2J\u202egnp
    """
    if text.isprintable():
        return text
    return "".join(char if is_plain(char) else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
