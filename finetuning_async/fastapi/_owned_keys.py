"""The journal's key of an end user's track: the owner, a colon, the owner's own key.

Pure. Two owners never have one key, whatever their ids and keys are: the part of the
owner is quoted, so that it holds no colon, and the first colon ends it. What would be
longer than a key of the journal may be is replaced by its digest, behind a mark that no
quoted owner begins with. An owner's own key may: then it names that owner's long one.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from finetuning_async._errors import InvalidRequestError

HEADER: Final = "Idempotency-Key"
LONGEST: Final = 255
"""Characters of a key: the owner's, and the journal's."""

LONGEST_OWNER: Final = 120
"""Characters of the owner's part; the rest is left to the key."""

UNQUOTED: Final = "@+"
LONG_OWNER: Final = "*"
LONG_KEY: Final = "~"

# A key is a part of the path: these would end it, or be changed on the way.
_UNFIT: Final = frozenset("/\\#?%")
_ALLOWED: Final = re.compile(r"(?!\.{1,2}$)[!-~]{1,255}")


def check_key(key: str) -> str:
    """Check an owner's own key.

    Raises:
        InvalidRequestError: It is not one.
    """
    if _ALLOWED.fullmatch(key) is None or _UNFIT.intersection(key):
        allowed = (
            f"1 to {LONGEST} visible ASCII characters, none of them a slash, a"
            " backslash, #, ? or %"
        )
        raise InvalidRequestError(HEADER, key, allowed)
    return key


def owner_part(owner: str) -> str:
    """How the keys of an owner begin, without the colon; also the owner's share."""
    quoted = quote(owner, safe=UNQUOTED, errors="surrogatepass")
    if len(quoted) <= LONGEST_OWNER:
        return quoted
    return LONG_OWNER + _digest(owner)


def prefix_of(owner: str) -> str:
    """How the journal's keys of an owner begin."""
    return f"{owner_part(owner)}:"


def journal_key(owner: str, key: str) -> str:
    """The journal's key of an owner's own one."""
    prefix = prefix_of(owner)
    whole = prefix + key
    return whole if len(whole) <= LONGEST else prefix + LONG_KEY + _digest(key)


def own_key(owner: str, key: str) -> str:
    """The owner's own key of a journal's one; of a long one, a name that finds it."""
    return key.removeprefix(prefix_of(owner))


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
