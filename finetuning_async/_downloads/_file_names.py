"""The default name of a track's file, as the vendor's own program forms it.

That program keeps only ``a-z0-9``, so all tracks with titles in another script would
get the same name. Here the letters of all scripts stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from unicodedata import category, normalize

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async._types import Track

LONGEST_SLUG: Final = 40
"""Characters; at most 160 bytes of UTF-8. A file name has at most 255."""

OTHER_FORMATS: Final = frozenset(
    f".{name}"
    for name in (
        *("aac", "aif", "aiff", "alac", "caf", "flac", "m4a", "mid", "mka", "mp4"),
        *("oga", "ogg", "opus", "wav", "webm", "wma"),
    )
)
"""Suffixes of audio that is no MP3; a name with any other may hold one."""

FALLBACK: Final = {"sound_effect": "sound-effect"}


def slug(text: str) -> str:
    """Lower case, letters, digits and single hyphens, at most 40 characters.

    For ASCII text it equals the vendor's. It may be empty.

    >>> slug("Lofi, chill: piano")
    'lofi-chill-piano'
    >>> slug("Café, 夜のピアノ")
    'café-夜のピアノ'
    """
    result = ""
    for character in normalize("NFC", "".join(filter(_is_visible, text.lower()))):
        # A combining mark belongs to the letter before it.
        is_mark = category(character) in {"Mn", "Mc"} and result[-1:].strip("-")
        if character.isalnum() or is_mark:
            result += character
        elif not result.endswith("-"):
            result += "-"
    return _cut(result.strip("-")).rstrip("-")


def _is_visible(character: str) -> bool:
    """Whether it shows by itself; joiners and text directions only change others."""
    is_selector = "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0100"
    return not is_selector and category(character) != "Cf"


def _cut(text: str) -> str:
    """The first characters; no letter is cut off from its combining marks."""
    end = LONGEST_SLUG
    while category(text[end : end + 1] or "a").startswith("M"):
        end -= 1
    return text[:end]


def default_file_name(track: Track) -> str:
    """The file name of a track: its title, else its prompt, and the start of its id."""
    title: Any = getattr(track, "title", None)
    fallback = FALLBACK.get(getattr(track, "kind", ""), "generation")
    words = slug(title or "") or slug(track.prompt) or fallback
    start = re.sub("[^A-Za-z0-9_-]", "-", track.id[:8])
    return f"{words}-{start}.mp3"


def names_other_format(path: Path) -> bool:
    """Whether a name promises another audio format: the service makes MP3s only."""
    return path.suffix.lower() in OTHER_FORMATS


def resolve_target(track: Track | str, path: Path) -> Path:
    """The file to write: `path`, or a file with the default name if it is a folder.

    A bare URL gives no default name, so its `path` must be a file.
    """
    if isinstance(track, str) or not path.is_dir():
        return path
    return path / default_file_name(track)
