"""Keeps secrets out of text: API keys, and logins and queries of URLs."""

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
    """An API key that does not appear in any output.

    Its `repr` and `str` are ``ft_live_****``, and it cannot be pickled. Two keys are
    equal if their text is.
    """

    __slots__ = ("__text", "digest")

    def __init__(self, text: str) -> None:
        self.__text = text
        self.digest: str = hashlib.sha256(text.encode()).hexdigest()

    def reveal(self) -> str:
        """The key itself; only for the code that puts it into the request."""
        return self.__text

    def __repr__(self) -> str:
        return KEY_PREFIX + MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an API key cannot be pickled; make the client in the process that uses it"
        )


def key_problem(text: str | None) -> str | None:
    """Say what a key must be, without quoting it; `None` if it can be sent.

    Only what cannot be put into an HTTP header is a problem. The documented form
    (``ft_live_`` and 32 hexadecimal digits, 40 characters) is not checked, since two
    published sources differ on it.
    """
    if not text:
        return "given"
    if not text.isascii() or not text.isprintable() or " " in text:
        return "printable ASCII without spaces or line breaks"
    return None


def looks_documented(text: str) -> bool:
    """Whether a key has the published prefix and length."""
    return text.startswith(KEY_PREFIX) and len(text) == KEY_LENGTH


def mask_query(url: str | None) -> str | None:
    """Mask the query, fragment and login of a URL, which may be secrets.

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
    """The `repr` of an attrs field that holds a URL with a secret query."""
    return repr(mask_query(url))


_KEY_IN_TEXT: Final = re.compile(KEY_PREFIX + r"\w+")
# The second alternative is a login that was truncated before its "@".
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
    """Mask API keys, and logins and queries of URLs, in text that is not ours.

    Used for quotes from a response: the service or a proxy may echo the request.
    """
    text = _KEY_IN_TEXT.sub(KEY_PREFIX + MASK, text)
    text = _LOGIN_IN_TEXT.sub(r"\1" + MASK + "@", text)
    return _QUERY_IN_TEXT.sub(r"\1?" + MASK, text)


def scrub_json(value: Any, *, depth: int = 16) -> Any:
    """Apply `scrub` to every string in a parsed JSON value.

    What is nested deeper than `depth` levels is masked entirely, so that no response
    can exhaust the stack.
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
"""Invisible, but Persian spelling and composed emoji need them."""


def is_plain(char: str) -> bool:
    """Whether a character can be printed as it is.

    Not control codes, line breaks, changes of the writing direction, lone surrogates
    or code points that Unicode has not assigned.
    """
    return char.isprintable() or char in _JOINERS or category(char) == "Zs"


def shown(text: str) -> str:
    r"""Text on one line; characters that are not plain are escaped as in Python.

    >>> print(shown("rain\n\x1b[2J\u202egnp"))
    rain\n\x1b[2J\u202egnp
    """
    if text.isprintable():
        return text
    return "".join(char if is_plain(char) else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shortened_repr(value: object) -> str:
    """`repr` in at most 80 characters, for messages about a value that is no secret."""
    try:
        text = repr(value)
    except Exception:  # of the caller's `__repr__`, or of an int of 4300 digits
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def pickles_equal(value: object) -> bool:
    """Whether it unpickles equal, as NaN and the caller's own types may not."""
    return value is None or (type(value) in (str, bool, int, float) and value == value)
