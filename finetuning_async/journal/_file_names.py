"""Names of audio files: stable, unique in a batch, and safe on every system. Pure.

A name depends on the item alone, never on the row's position in the input, so editing
the input never gives one item's file to another item. The one exception: of two names
that a file system may take for the same, the later item gets another name, which the
journal keeps.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from itertools import chain, count
from typing import TYPE_CHECKING, Final
from unicodedata import normalize

from finetuning_async._downloads import slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_SOURCE: Final = 160
"""Characters of the text that a name is made from; the name keeps at most 40."""

_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)
"""Names that Windows reserves for devices, whatever their extension."""

_SAFE: Final = re.compile(r"(?![-.])[A-Za-z0-9._-]{1,100}")
_GENERATED: Final = re.compile(r"-[0-9a-f]{12}\Z")


def file_name(prompt: str, key: str, custom_id: str | None) -> str:
    """The name of an item's MP3.

    Args:
        prompt: The words it is made from.
        key: Unique in the batch.
        custom_id: Used unchanged if every character is safe.
    """
    if custom_id is not None and _is_safe(custom_id):
        return f"{custom_id}.mp3"
    text = prompt if custom_id is None else custom_id
    words = slug(text[:MAX_SOURCE]) or "track"
    return f"{words}-{_digest(key)}.mp3"


def other_names(file: str, key: str) -> Iterator[str]:
    """The names to try in turn where the item's own name is taken."""
    stem, suffix = file.removesuffix(".mp3"), f"-{_digest(key)}"
    stem = stem.removesuffix(suffix) + suffix
    yield f"{stem}.mp3"
    yield from (f"{stem}-{number}.mp3" for number in count(2))


def fold(name: str) -> str:
    """A form that is equal for all names that a file system may take for the same.

    Those differ in case, or in how Unicode encodes a letter.
    """
    # Unicode's canonical caseless match (section 3.13, D145). The last step composes
    # letters again, as most file systems store them.
    return normalize("NFC", normalize("NFD", normalize("NFD", name).casefold()))


class UsedNames:
    """The file names that are in use.

    Args:
        names: Those in use at first.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {fold(name) for name in names}

    def claim(self, file: str, key: str) -> str:
        """Take a name for an item: its own, or another one if that is in use."""
        names = chain([file], other_names(file, key))
        name = next(name for name in names if fold(name) not in self._names)
        self._names.add(fold(name))
        return name


def _digest(key: str) -> str:
    return blake2b(key.encode(), digest_size=6).hexdigest()


def _is_safe(custom_id: str) -> bool:
    return (
        _SAFE.fullmatch(custom_id) is not None
        and not _looks_generated(custom_id)
        and custom_id.partition(".")[0].lower() not in _DEVICES
    )


def _looks_generated(custom_id: str) -> bool:
    """Whether it could equal the name that another item is given."""
    return _GENERATED.search(custom_id) is not None
