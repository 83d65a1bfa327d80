"""The file that a track is saved to."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from finetuning_async.cli._output import is_terminal, mask_webhooks

if TYPE_CHECKING:
    from finetuning_async._types import Track


STDOUT: Final = Path("/dev/stdout")
"""Written through the descriptor, where the system has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where and how to save a track; the fields are options of the command.

    Attributes:
        output: The file or folder, if given.
        no_clobber: Whether an existing file is left alone, which is then an error.
        metadata: Whether the file says what it is.
        check: Whether to check the audio.
        sidecar: Whether to save what is known of it beside it.
        play: Whether to play it.
    """

    output: str | None
    no_clobber: bool
    metadata: bool
    check: bool
    sidecar: bool
    play: bool

    @property
    def destination(self) -> Destination:
        """Where to save it."""
        return Destination(self.output, self)

    @property
    def destination_if_given(self) -> Destination | None:
        """The same; `None` where nothing is to be saved.

        Raises:
            click.UsageError: An option needs a saved file.
        """
        if self.output is not None:
            return self.destination
        for name in ("no_clobber", "metadata", "check", "sidecar", "play"):
            if getattr(self, name):
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} needs a saved file: add -o PATH.")
        return None


class Destination:
    """The file or folder that a track is saved to.

    Args:
        output: As given on the command line; `None` is the current folder, ``-`` is
            stdout.
        how: How to save it.
    """

    def __init__(self, output: str | None, how: Output) -> None:
        self.given = output
        self.how = how
        self.is_stdout = output == "-"
        self._no_clobber = how.no_clobber and not self.is_stdout
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
        from finetuning_async._downloads import check_target, names_other_format

        if self.is_stdout:
            if self.how.sidecar:
                raise click.UsageError("--sidecar needs a saved file: add -o PATH.")
            _check_stdout()
            return
        if not self._is_folder:
            self._check_new(self._path)
            if names_other_format(self._path):
                allowed = "a name that ends in .mp3, since the service makes MP3s"
                raise _refused(self._path, allowed)
        check_target(self._path / "generation.mp3" if self._is_folder else self._path)

    def save_sidecar(self, path: Path, track: Any) -> None:
        """Save what is known of a track beside its file, as ``night.json``.

        Raises:
            OSError: It cannot be written.
        """
        text = json.dumps({"data": mask_webhooks(dict(track.raw))}, indent=2)
        path.with_suffix(".json").write_text(text + "\n", "utf-8")

    def _check_new(self, path: Path) -> None:
        if self._no_clobber and path.exists():
            allowed = "a file that is not there yet; to replace it leave out"
            raise _refused(path, f"{allowed} --no-clobber")


def _refused(path: Path, allowed: str) -> Exception:
    from finetuning_async._errors import InvalidRequestError  # slow to import

    return InvalidRequestError("path", str(path), allowed)


def _check_stdout() -> None:
    if not STDOUT.exists():
        raise click.UsageError("-o - needs /dev/stdout, which this system lacks.")
    if is_terminal(sys.stdout):
        raise click.UsageError(
            "-o - would print the audio on the terminal: redirect it to a file or to a"
            " player."
        )
