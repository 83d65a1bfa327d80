"""What a track is called when nobody says: the names of the vendor's program.

It keeps nothing but ``a-z0-9``, so that all tracks with words in another script would
be called alike; here the letters of all scripts stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from unicodedata import category, normalize

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async._types import Track

LONGEST_SLUG: Final = 40
"""Characters; at most 160 bytes, so that a name fits into the 255 that there are."""

FALLBACK: Final = {"sound_effect": "sound-effect"}


def slug(text: str) -> str:
    """Lower case, letters and digits and single hyphens, at most 40 characters.

    Of ASCII it is the vendor's form. May be empty.

    >>> slug("Lofi, chill: piano")
    'lofi-chill-piano'
    >>> slug("Café, 夜のピアノ")
    'café-夜のピアノ'
    """
    made = ""
    for character in normalize("NFC", "".join(filter(_is_seen, text.lower()))):
        # A mark belongs to the letter before it.
        is_mark = category(character) in {"Mn", "Mc"} and made[-1:].strip("-")
        if character.isalnum() or is_mark:
            made += character
        elif not made.endswith("-"):
            made += "-"
    return _cut(made.strip("-")).rstrip("-")


def _is_seen(character: str) -> bool:
    """Whether it is more than a word on how others are drawn: a joiner, a direction."""
    is_selector = "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0100"
    return not is_selector and category(character) != "Cf"


def _cut(text: str) -> str:
    """The start of it, no letter without its marks."""
    end = LONGEST_SLUG
    while category(text[end : end + 1] or "a").startswith("M"):
        end -= 1
    return text[:end]


def default_file_name(track: Track) -> str:
    """The file name of a track: title, else prompt, and the start of its id."""
    title: Any = getattr(track, "title", None)
    fallback = FALLBACK.get(getattr(track, "kind", ""), "generation")
    words = slug(title or "") or slug(track.prompt) or fallback
    start = re.sub("[^A-Za-z0-9_-]", "-", track.id[:8])
    return f"{words}-{start}.mp3"


def target_of(track: Track | str, path: Path) -> Path:
    """The file to write: `path`, or one with the default name if that is a folder.

    A bare URL has no name to be called by, so its `path` must be a file.
    """
    if isinstance(track, str) or not path.is_dir():
        return path
    return path / default_file_name(track)
