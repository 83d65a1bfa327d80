"""Which bytes of which version of a file a response carries.

Two parts can be joined if a strong validator proves that both belong to one version of
the file (RFC 9110, sections 8.8 and 13.1.5). Without that proof a mix of two versions
would look like a complete file.
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
_STRONG_ETAG: Final = re.compile(r'"[^"]*"')
_STRONG_DATE_AGE: Final = timedelta(seconds=1)
"""How much older than ``Date`` a ``Last-Modified`` must be to be a strong validator."""


class FileChangedError(Exception):
    """The response cannot be joined to the bytes that are there already."""


@attrs.frozen(kw_only=True)
class FileVersion:
    """What distinguishes a version of a file from others.

    Attributes:
        validator: For ``If-Range``: a strong ``ETag``, or, if there is no ``ETag`` at
            all, a ``Last-Modified`` that no second version can share. `None` if the
            host sent neither; then nothing can be joined to this version.
        size: Of the whole file, in bytes; `None` if the host did not send it.
    """

    validator: str | None = None
    size: int | None = None

    def is_same(self, other: FileVersion) -> bool:
        """Whether both are proved to be the same version."""
        if self.validator is None or self.validator != other.validator:
            return False
        return None in {self.size, other.size} or self.size == other.size


def parse_extent(
    status: int, headers: Mapping[str, str]
) -> tuple[int | None, FileVersion]:
    """Where the bytes of a response begin in the file, and in which version.

    From ``Content-Range: bytes 500-999/1000`` of a part, or ``bytes */1000`` of a 416
    (RFC 9110, section 14.4), else from ``Content-Length``.

    Args:
        status: 200, 206 or 416.
        headers: Those of the response, in any case.

    Returns:
        The offset, `None` if a part does not name it; and the version.
    """
    validator = _validator(headers)
    if status == 200:
        # With a coding ``Content-Length`` is the length of the coded bytes.
        length = "" if is_encoded(headers) else headers.get("content-length", "")
        return 0, FileVersion(validator=validator, size=_size(length))
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    begin, size = match.groups() if match is not None else (None, "")
    # Several ranges come as a multipart body, which names the place of each.
    is_one = not headers.get("content-type", "").lower().startswith("multipart/")
    return (
        int(begin) if begin is not None and is_one else None,
        FileVersion(validator=validator, size=_size(size)),
    )


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether the bytes on the wire are a coding of the file, not the file itself."""
    return headers.get("content-encoding", "").strip().lower() not in {"", "identity"}


def _size(text: str) -> int | None:
    return int(text) if _SIZE.fullmatch(text) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("etag")
    if tag is not None:  # beside a weak tag the date must not be used either
        return tag if _STRONG_ETAG.fullmatch(tag) else None
    modified = headers.get("last-modified")
    changed, sent = http_date(modified), http_date(headers.get("date"))
    if changed is None or sent is None or sent - changed < _STRONG_DATE_AGE:
        return None
    return modified
