"""What a track is called when nobody says: the names of the vendor's program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from finetuning_async._types import Track

LONGEST_SLUG: Final = 40
FALLBACK: Final = {"sound_effect": "sound-effect"}


def slug(text: str) -> str:
    """Lower case, ``a-z0-9`` and single hyphens, at most 40 characters; may be empty.

    >>> slug("Lofi, chill: piano")
    'lofi-chill-piano'
    """
    joined = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    return joined[:LONGEST_SLUG].rstrip("-")


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
