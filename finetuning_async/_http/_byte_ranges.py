"""Which bytes of which version of a file a response carries.

Two parts belong together if the host says by a strong validator that they are of the
same version (RFC 9110, sections 8.8 and 13.1.5). Without that proof a file of two
versions would look whole.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import attrs

from finetuning_async._api import http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTENT_RANGE: Final = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]+|\*)/([0-9]+|\*)")
_SIZE: Final = re.compile("[0-9]{1,18}")
_STRONG_TAG: Final = re.compile(r'"[^"]*"')
_CLEARLY_LATER: Final = timedelta(seconds=1)


class FileChangedError(Exception):
    """What comes is not the rest of what is there."""


@attrs.frozen(kw_only=True)
class FileVersion:
    """What tells a version of a file from others.

    Attributes:
        validator: For ``If-Range``: a strong ``ETag``, or where there is none at all, a
            ``Last-Modified`` at which no second version can have been made. `None` if
            the host gave neither: then nothing can be joined to this version.
        size: Of the whole file, in bytes; `None` if the host did not say.
    """

    validator: str | None = None
    size: int | None = None

    def is_same(self, other: FileVersion) -> bool:
        """Whether it is proved that both are one."""
        if self.validator is None or self.validator != other.validator:
            return False
        return None in {self.size, other.size} or self.size == other.size


def extent_of(
    status: int, headers: Mapping[str, str]
) -> tuple[int | None, FileVersion]:
    """Where the bytes of a response begin in the file, and whose bytes they are.

    ``Content-Range: bytes 500-999/1000`` of a part, or ``bytes */1000`` where there is
    none (RFC 9110, section 14.4), else ``Content-Length``.

    Args:
        status: 200, 206 or 416.
        headers: Those of the response, in any case.

    Returns:
        The first is `None` if a part does not say which one it is.
    """
    validator = _validator(headers)
    if status == 200:
        # Of what is encoded it is the length of the code.
        length = "" if is_encoded(headers) else headers.get("content-length", "")
        return 0, FileVersion(validator=validator, size=_size(length))
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    begin, size = match.groups() if match is not None else (None, "")
    # Of many parts each says in the body where it belongs.
    is_one = not headers.get("content-type", "").lower().startswith("multipart/")
    return (
        int(begin) if begin is not None and is_one else None,
        FileVersion(validator=validator, size=_size(size)),
    )


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether what comes over the wire is not the file itself."""
    return headers.get("content-encoding", "").strip().lower() not in {"", "identity"}


def _size(text: str) -> int | None:
    return int(text) if _SIZE.fullmatch(text) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("etag")
    if tag is not None:  # a weak one forbids the date, too
        return tag if _STRONG_TAG.fullmatch(tag) else None
    modified = headers.get("last-modified")
    changed, sent = http_date(modified), http_date(headers.get("date"))
    if changed is None or sent is None or sent - changed < _CLEARLY_LATER:
        return None
    return modified
