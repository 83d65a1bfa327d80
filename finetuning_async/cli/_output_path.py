"""The file that a track is saved to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetuning_async._types import Track


class Destination:
    """The file or folder that a track is saved to.

    Args:
        output: As given on the command line; `None` is the current folder.
    """

    def __init__(self, output: str | None) -> None:
        self.given = output
        self._path = Path(output or ".")
        ends_with_slash = output is not None and output.endswith((os.sep, "/"))
        self._is_folder = ends_with_slash or self._path.is_dir()

    def path_for(self, track: Track) -> Path:
        """The path of a track; in a folder it has the vendor's default name."""
        from finetuning_async._downloads import default_file_name

        if self._is_folder:
            return self._path / default_file_name(track)
        return self._path

    def check(self) -> None:
        """Check that a file can be written there, before a credit is spent.

        Raises:
            InvalidRequestError: It cannot.
        """
        from finetuning_async._downloads import check_target  # slow to import

        check_target(self._path / "generation.mp3" if self._is_folder else self._path)
