"""File names: stable, unique in a batch, harmless. Pure.

A name depends on the item alone, never on its place in the input; so an edited input
gives no file to another item. Only where names differ in nothing but case the later one
is another, which the journal keeps.
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

LONGEST_READ: Final = 160
"""Characters that a name is made from; it keeps at most 40."""

_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)
"""Names that Windows keeps for devices, whatever their ending."""

_SAFE: Final = re.compile(r"(?![-.])[A-Za-z0-9._-]{1,100}")
_OURS: Final = re.compile(r"-[0-9a-f]{12}\Z")


def file_name(prompt: str, key: str, custom_id: str | None) -> str:
    """The name of an item's MP3.

    Args:
        prompt: The words it is made from.
        key: Unique in the batch.
        custom_id: Used as it is if every character is harmless.
    """
    if custom_id is not None and _is_harmless(custom_id):
        return f"{custom_id}.mp3"
    text = prompt if custom_id is None else custom_id
    words = slug(text[:LONGEST_READ]) or "track"
    return f"{words}-{_digest(key)}.mp3"


def other_names(file: str, key: str) -> Iterator[str]:
    """The names that are tried in turn where the item's own is taken."""
    stem, mark = file.removesuffix(".mp3"), f"-{_digest(key)}"
    stem = stem.removesuffix(mark) + mark
    yield f"{stem}.mp3"
    yield from (f"{stem}-{number}.mp3" for number in count(2))


def fold(name: str) -> str:
    """What is the same for names that a file system may take for the same.

    Those that differ in case, or in how Unicode writes a letter.
    """
    return normalize("NFC", normalize("NFD", normalize("NFD", name).casefold()))


class Taken:
    """Names that are taken.

    Args:
        names: Which.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {fold(name) for name in names}

    def give(self, file: str, key: str) -> str:
        """The name of an item, or another one if that is taken; it is taken then."""
        names = chain([file], other_names(file, key))
        name = next(name for name in names if fold(name) not in self._names)
        self._names.add(fold(name))
        return name


def _digest(key: str) -> str:
    return blake2b(key.encode(), digest_size=6).hexdigest()


def _is_harmless(custom_id: str) -> bool:
    return (
        _SAFE.fullmatch(custom_id) is not None
        and not _is_like_ours(custom_id)
        and custom_id.partition(".")[0].lower() not in _DEVICES
    )


def _is_like_ours(custom_id: str) -> bool:
    """Whether it could be the name that another item is given."""
    return _OURS.search(custom_id) is not None
