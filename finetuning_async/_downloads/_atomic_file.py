"""A file that appears under its name only when it is whole. Blocks: for threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from finetuning_async._downloads._placement import Placement, let_go
from finetuning_async._downloads._target_path import TargetPath, look, new_part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

MOST_CHUNKS: Final = 1_000
"""Chunks of one write; the system takes 1,024 (``IOV_MAX`` of Linux, macOS)."""

_writev: Callable[[int, Sequence[bytes]], int] | None = getattr(os, "writev", None)
"""Writes many chunks in one call, without the interpreter's lock. Not on Windows."""


class AtomicFile:
    """A file that appears under its name only when it is whole.

    It is not synced: after a loss of power it may be missing or empty, like any other
    file that was written seconds before.

    Args:
        path: The final name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place: TargetPath
        self._file: BinaryIO
        self._delivery: Placement
        self._is_open = False

    def begin(self, offset: int = 0) -> None:
        """Open it, if it is not yet, to be written from an offset on.

        Its folder is made if need be. What stands behind the offset is dropped.

        Args:
            offset: In bytes.

        Raises:
            InvalidRequestError: Nothing can be written there.
        """
        if not self._is_open:
            self._place = look(self.path)
            part, self._file = new_part(self._place)
            self._delivery = Placement(part, self._place)
            self._is_open = True
            if self._place.is_written_into:
                self._delivery.reach()  # who waits to read it, waits for its end, too
        self._file.seek(offset)
        self._file.truncate()

    def append(self, chunks: list[bytes]) -> None:
        """Write behind what is there, and empty the list: memory is short.

        Args:
            chunks: At most `MOST_CHUNKS`.
        """
        size, written = sum(map(len, chunks)), 0
        if size and _writev is not None:
            written = _writev(self._file.fileno(), chunks)
        if written < size:  # the system may take a part of it
            rest = memoryview(b"".join(chunks))[written:]
            while rest:
                rest = rest[self._file.write(rest) :]
        chunks.clear()

    def keep(self, last: list[bytes]) -> float | None:
        """Write the last chunks, and bring it to its place.

        An older file of that name is replaced.

        Returns:
            `None` once it is there; else seconds after which to call it again.
        """
        if not self._file.closed:
            self.append(last)
            self._file.close()
        return self._delivery.go_on()

    def discard(self) -> None:
        """Remove it, unless it was kept."""
        if self._is_open:
            self._file.close()
            self._delivery.close()
        else:
            let_go(self.path)


def check_target(path: Path) -> None:
    """Check that a file can be written at a path, before anything is paid for.

    Raises:
        InvalidRequestError: It cannot.
    """
    part, file = new_part(look(path))
    file.close()
    part.unlink()
