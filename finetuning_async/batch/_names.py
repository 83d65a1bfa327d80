"""File names: stable, unique in a batch, harmless. Pure.

A name depends on the item alone, never on its place in the input; so an edited input
gives no file to another item.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from finetuning_async._file_names import slug

LONGEST: Final = 160
"""Characters that a name is made of at most, whatever they are."""

_SAFE: Final = re.compile(r"(?![-.])[A-Za-z0-9._-]{1,100}")
_OURS: Final = re.compile(r"-[0-9a-f]{12}\Z")


def file_name(prompt: str, key: str, custom_id: str | None) -> str:
    """The name of an item's MP3.

    Args:
        prompt: The words it is made from.
        key: Unique in the batch.
        custom_id: Used as it is if every character is harmless.
    """
    if (
        custom_id is not None
        and _SAFE.fullmatch(custom_id)
        and not _is_like_ours(custom_id)
    ):
        return f"{custom_id}.mp3"
    words = slug((prompt if custom_id is None else custom_id)[:LONGEST]) or "track"
    return f"{words}-{blake2b(key.encode(), digest_size=6).hexdigest()}.mp3"


def _is_like_ours(custom_id: str) -> bool:
    """Whether it could be the name that another item is given."""
    return _OURS.search(custom_id) is not None
