"""The file that a track is saved to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from finetuning_async.cli._output import is_terminal

if TYPE_CHECKING:
    from finetuning_async._types import Track


STDOUT: Final = Path("/dev/stdout")
"""Written through the descriptor, where the system has it."""


class Destination:
    """The file or folder that a track is saved to.

    Args:
        output: As given on the command line; `None` is the current folder, ``-`` is
            stdout.
        no_clobber: Whether an existing file is left alone, which is then an error.
    """

    def __init__(self, output: str | None, *, no_clobber: bool = False) -> None:
        self.given = output
        self.is_stdout = output == "-"
        self._no_clobber = no_clobber and not self.is_stdout
        self._path = STDOUT if self.is_stdout else Path(output or ".")
        ends_with_slash = output is not None and output.endswith((os.sep, "/"))
        self._is_folder = ends_with_slash or self._path.is_dir()

    def path_for(self, track: Track) -> Path:
        """The path of a track; in a folder it has the vendor's default name.

        Raises:
            InvalidRequestError: It exists and is to be left alone.
        """
        from finetuning_async._downloads import default_file_name

        if not self._is_folder:
            return self._path
        path = self._path / default_file_name(track)
        self._check_new(path)
        return path

    def check(self) -> None:
        """Check that a file can be written there, before a credit is spent.

        Raises:
            click.UsageError: It would be written to a terminal.
            InvalidRequestError: It cannot.
        """
        from finetuning_async._downloads import check_suffix, check_target  # slow

        if self.is_stdout:
            _check_stdout()
            return
        if not self._is_folder:
            self._check_new(self._path)
            check_suffix(self._path)
        check_target(self._path / "generation.mp3" if self._is_folder else self._path)

    def _check_new(self, path: Path) -> None:
        if self._no_clobber and path.exists():
            from finetuning_async._errors import InvalidRequestError  # slow to import

            allowed = "a file that is not there yet; leave out --no-clobber to replace"
            raise InvalidRequestError("path", str(path), f"{allowed} it")


def _check_stdout() -> None:
    if not STDOUT.exists():
        raise click.UsageError("-o - needs /dev/stdout, which this system lacks.")
    if is_terminal(sys.stdout):
        raise click.UsageError(
            "-o - would print the audio on the terminal: redirect it to a file or to a"
            " player."
        )
