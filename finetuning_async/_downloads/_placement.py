"""Moves a complete file to its target. Blocks: for threads.

A regular file is replaced by a rename: a program that opens it sees the old file or the
new one, complete. The new one gets the mode and the owner of the old. Other hard links
keep the old content, because the rename changes one name only.

Where a rename is not possible (the folder cannot be written, the owner cannot be kept,
the file itself is a mount point), the existing file is overwritten in place. Pipes and
devices are always written in place, in order.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from finetuning_async._downloads._target_path import (
    create_beside,
    inspect_target,
    is_disk_error,
    stat_or_none,
)
from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from finetuning_async._downloads._target_path import TargetPath

PIPE_CHUNK: Final[int] = getattr(select, "PIPE_BUF", 4096)
"""Bytes that a pipe which is ready takes without blocking (poll(2))."""

READY_TIMEOUT: Final = 50
"""Milliseconds for which a thread waits for a slow reader. Then it returns to the loop,
which may be cancelled in between, and is called again."""

NO_READER_PAUSE: Final = 0.05
"""Seconds between two attempts to open a pipe that has no reader yet."""


class Placement:
    """A complete file on its way to its target.

    Args:
        part: The file; it no longer exists at the end.
        target: Where it goes.

    Attributes:
        part: As given.
    """

    def __init__(self, part: Path, target: TargetPath) -> None:
        self.part = part
        self._target = target
        self._descriptor: int | None = None
        self._source: BinaryIO | None = None
        self._sent = 0

    @property
    def folder(self) -> Path:
        """The folder that the file is in at the end, symbolic links resolved."""
        return self._target.real.parent

    def step(self) -> float | None:
        """Do as much as can be done without a long wait.

        Returns:
            `None` once the file is in place; else seconds after which to call again.

        Raises:
            OSError: It cannot be written, or the pipe's reader has closed it.
        """
        may_rename = self._descriptor is None and not self._target.written_in_place
        if may_rename and self._rename():
            return None
        descriptor = self.open_target()
        if descriptor is None:
            return NO_READER_PAUSE
        if self._source is None:
            self._source = self.part.open("rb")
        return None if self._copy(self._source, descriptor) else 0.0

    def open_target(self) -> int | None:
        """Open the target to write in place; `None` for a pipe without a reader."""
        if self._descriptor is None:
            self._descriptor = self._open_in_place()
        return self._descriptor

    def close(self) -> None:
        """Close the target and remove the part file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        else:
            release_pipe_reader(self._target.path)
        if self._source is not None:
            self._source.close()
        self.part.unlink(missing_ok=True)

    def _rename(self) -> bool:
        """Replace the target by name; `False` if it must be overwritten in place."""
        # Looked up anew: a download takes a while, and the file may have been created
        # or deleted meanwhile.
        existing = stat_or_none(self._target.real) or self._target.existing
        try:
            self._replace(existing)
        except OSError as error:
            if error.errno == errno.EXDEV:
                # The part file is on another file system, among temporary files.
                return self._move_beside(existing) and self._rename()
            if existing is None or is_disk_error(error):
                raise
            return False
        return True

    def _replace(self, existing: os.stat_result | None) -> None:
        if existing is None:
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            # Before the rename, so that the file is never visible with another mode.
            _copy_owner_and_mode(self.part, existing)
        self.part.replace(self._target.real)

    def _move_beside(self, existing: os.stat_result | None) -> bool:
        """Copy the part file to the target's file system; `False` if it may not be."""
        try:
            part, file = create_beside(self._target)
        except OSError as error:
            if existing is None or is_disk_error(error):
                raise
            return False
        source, self.part = self.part, part
        try:
            with file, source.open("rb") as origin:
                shutil.copyfileobj(origin, file)
        finally:
            source.unlink()
        return True

    def _open_in_place(self) -> int | None:
        target = self._target
        if target.descriptor is not None:
            return os.dup(target.descriptor)  # `close` must not close the caller's
        if target.written_in_place:
            # O_NONBLOCK: to open a pipe without a reader fails with ENXIO instead of
            # blocking the thread for ever. O_NOCTTY: a terminal that is written to
            # must not become the one that controls this process.
            path, flags = target.path, ("O_NONBLOCK", "O_NOCTTY")
        else:
            path, flags = target.real, ("O_TRUNC", "O_BINARY")
        try:
            return _open_for_writing(path, *flags)
        except OSError as error:
            if error.errno == errno.ENXIO and self._is_pipe:
                return None
            raise

    @property
    def _is_pipe(self) -> bool:
        existing = self._target.existing
        return existing is not None and stat.S_ISFIFO(existing.st_mode)

    def _copy(self, source: BinaryIO, descriptor: int) -> bool:
        """Write for as long as the target is ready; whether that was all."""
        source.seek(self._sent)
        while chunk := source.read(PIPE_CHUNK):
            try:
                if not _is_ready(descriptor):
                    return False
                written = os.write(descriptor, chunk)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                raise self._reader_closed() from None
            self._sent += written
            if written < len(chunk):
                source.seek(self._sent)
        return True

    def _reader_closed(self) -> BrokenPipeError:
        size = self.part.stat().st_size
        return BrokenPipeError(
            errno.EPIPE,
            f"its reader closed the pipe after {self._sent} of {size} bytes",
            str(self._target.path),
        )


def place_now(part: Path, path: Path) -> None:
    """Move a complete file to its target in one step, without waiting for a reader.

    Raises:
        OSError: It cannot be placed, or the target is a pipe whose reader is slow or
            missing.
    """
    try:
        placement = Placement(part, inspect_target(path))
    except InvalidRequestError as error:
        raise OSError(str(error)) from None
    try:
        if placement.step() is not None:
            raise OSError(
                errno.EAGAIN, "the pipe has no reader, or a slow one", str(path)
            )
    finally:
        placement.close()


def release_pipe_reader(path: Path) -> None:
    """Open and close a pipe, so that a waiting reader sees its end.

    A program that opened the pipe to read is blocked until a writer opens it, and none
    will.
    """
    with suppress(OSError, ValueError):
        if path.is_fifo():
            os.close(_open_for_writing(path, "O_NONBLOCK"))


def _open_for_writing(path: Path, *flag_names: str) -> int:
    """Open a path with flags of which Windows lacks some."""
    flags = os.O_WRONLY
    for name in flag_names:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def _copy_owner_and_mode(part: Path, existing: os.stat_result) -> None:
    """Give a file the owner and the mode of another, as far as they differ.

    Raises:
        OSError: The system does not allow it.
    """
    new = part.stat()
    wanted = (existing.st_uid, existing.st_gid)
    chown = getattr(os, "chown", None)  # Windows has none
    if chown is not None and (new.st_uid, new.st_gid) != wanted:
        chown(part, *wanted)  # first, because it may clear bits of the mode
    if stat.S_IMODE(part.stat().st_mode) != stat.S_IMODE(existing.st_mode):
        part.chmod(stat.S_IMODE(existing.st_mode))


def _is_ready(descriptor: int) -> bool:
    poll = getattr(select, "poll", None)  # Windows has none, and no named pipes either
    if poll is None:
        return True
    poller = poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(READY_TIMEOUT))
