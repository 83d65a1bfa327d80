"""Where a track is saved. The names are those of the vendor's program."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetuning_async._models import Generation

LONGEST_SLUG = 40


def slug(text: str) -> str:
    """Lower case, ``a-z0-9`` and single hyphens, at most 40 characters; may be empty.

    >>> slug("Lofi, chill: piano")
    'lofi-chill-piano'
    """
    joined = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    return joined[:LONGEST_SLUG].rstrip("-")


def default_name(track: Generation) -> str:
    """The file name of a track: title, else prompt, and the start of its id."""
    words = slug(track.title or "") or slug(track.prompt) or "generation"
    start = re.sub("[^A-Za-z0-9_-]", "-", track.id[:8])
    return f"{words}-{start}.mp3"


class Destination:
    """The file or folder that a track goes to.

    Args:
        output: As told on the command line; `None` is the current folder.
    """

    def __init__(self, output: str | None) -> None:
        self.told = output
        self._path = Path(output or ".")
        ends_open = output is not None and output.endswith((os.sep, "/"))
        self._is_folder = ends_open or self._path.is_dir()

    def path_for(self, track: Generation) -> Path:
        """Its path."""
        return self._path / default_name(track) if self._is_folder else self._path

    def check(self) -> None:
        """Make sure that a file can be written there, before a credit is spent.

        Raises:
            InvalidRequestError: It cannot.
        """
        from finetuning_async._download import check_target  # slow to import

        check_target(self._path / "generation.mp3" if self._is_folder else self._path)
