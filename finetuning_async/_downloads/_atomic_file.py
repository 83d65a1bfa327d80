"""A file that appears under its name only when it is complete. Blocks: for threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from finetuning_async._downloads._placement import Placement, release_pipe_reader
from finetuning_async._downloads._target_path import (
    TargetPath,
    create_part_file,
    inspect_target,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

MAX_CHUNKS: Final = 1_000
"""Chunks of one write; the system takes 1,024 (``IOV_MAX`` of Linux and macOS)."""

_writev: Callable[[int, Sequence[bytes]], int] | None = getattr(os, "writev", None)
"""Writes many chunks in one call, without the interpreter's lock. Not on Windows."""


class AtomicFile:
    """A file that appears under its name only when it is complete.

    It is not synced: after a loss of power it may be missing or empty, like any other
    file that was written seconds before.

    Args:
        path: The final name.
        finish: Turns its complete content into what is saved; `None` to save it as it
            is.
    """

    def __init__(
        self, path: Path, finish: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.path = path
        self._finish = finish
        self._target: TargetPath
        self._file: BinaryIO
        self._placement: Placement
        self._is_open = False

    def open_at(self, offset: int) -> None:
        """Open the part file, unless it is open, to be written from an offset on.

        Its folder is made if it is missing. What is behind the offset is dropped.

        Args:
            offset: In bytes.

        Raises:
            InvalidRequestError: The target cannot be written.
        """
        if not self._is_open:
            self._target = inspect_target(self.path)
            part, self._file = create_part_file(self._target)
            self._placement = Placement(part, self._target)
            self._is_open = True
            if self._target.written_in_place:
                # A program that already waits to read a pipe must see its end even if
                # the download fails, so the pipe is opened before the first byte.
                self._placement.open_target()
        self._file.seek(offset)
        self._file.truncate()

    def append(self, chunks: list[bytes]) -> None:
        """Write chunks at the end, and empty the list so that their memory is freed.

        Args:
            chunks: At most `MAX_CHUNKS`.
        """
        size, written = sum(map(len, chunks)), 0
        if size and _writev is not None:
            written = _writev(self._file.fileno(), chunks)
        if written < size:  # the system may write only a part
            rest = memoryview(b"".join(chunks))[written:]
            while rest:
                rest = rest[self._file.write(rest) :]
        chunks.clear()

    def commit(self, last: list[bytes]) -> float | None:
        """Write the last chunks, and move the file to its target.

        An older file of that name is replaced.

        Returns:
            `None` once it is there; else seconds after which to call this again.
        """
        if not self._file.closed:  # the first call
            self.append(last)
            if self._finish is not None:
                self._change(self._finish)
            self._file.close()
        return self._placement.step()

    def _change(self, finish: Callable[[bytes], bytes]) -> None:
        content = self._placement.part.read_bytes()
        changed = finish(content)
        if changed is not content:
            self._file.seek(0)
            self._file.truncate()
            self.append([changed])

    def discard(self) -> None:
        """Remove the part file, unless it was committed."""
        if self._is_open:
            self._file.close()
            self._placement.close()
        else:
            # The download failed before its first byte. A program that waits to read
            # a pipe would wait for ever.
            release_pipe_reader(self.path)


def check_target(path: Path) -> None:
    """Check that a file can be written at a path, before a credit is spent.

    Raises:
        InvalidRequestError: It cannot.
    """
    part, file = create_part_file(inspect_target(path))
    file.close()
    part.unlink()
